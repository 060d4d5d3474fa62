import contextlib

import pytest
import torch
from torch import Tensor, nn

from vae_lab import devices
from vae_lab.data import Batches, Dataset
from vae_lab.jobs.parts import precision
from vae_lab.jobs.parts.precision import fastest_precision
from vae_lab.models import VAE
from vae_lab.objectives import Objective, likelihood


def untrained(data: Dataset, layers: int = 2, classes: int = 0) -> tuple[VAE, Objective, Batches]:
    model = VAE(data.size, classes, latent_size=2, layers=layers, hidden_size=16)
    model.to(data.train.pixels.device)
    return model, Objective(likelihood("bernoulli")), Batches(data.train, batch_size=36, C=classes, seed=0)


def test_auto_takes_a_shorter_format_only_if_the_loss_stays(
    rows: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "faster_precisions", lambda device: ["bfloat16"])
    parts = untrained(rows)
    monkeypatch.setattr(precision, "PRECISION_BOUND", 10.0)
    assert fastest_precision(*parts, seed=0) == "bfloat16"
    monkeypatch.setattr(precision, "PRECISION_BOUND", 0.0)
    assert fastest_precision(*parts, seed=0) == "float32"


def test_auto_takes_bfloat16_only_where_a_study_has_shown_it_to_end_where_float32_ends(
    rows: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "faster_precisions", lambda device: ["bfloat16"])
    monkeypatch.setattr(precision, "PRECISION_BOUND", 10.0)
    for classes, shown in ((0, 3), (10, 2)):  # VAE and CVAE
        taken = [
            fastest_precision(*untrained(rows, layers, classes), seed=0) for layers in (shown, shown + 1)
        ]
        assert taken == ["bfloat16", "float32"]

    _, objective, batches = untrained(rows)
    smooth = VAE(rows.size, latent_size=2, layers=2, hidden_size=16, activation="tanh")
    smooth.to(rows.train.pixels.device)
    assert fastest_precision(smooth, objective, batches, seed=0) == "float32"

    class Own(VAE):
        """Another class of model, which nobody has looked at."""

    own = Own(rows.size, latent_size=2, layers=2, hidden_size=16).to(rows.train.pixels.device)
    assert fastest_precision(own, objective, batches, seed=0) == "float32"
    monkeypatch.setattr(devices, "faster_precisions", lambda device: ["tf32", "bfloat16"])
    monkeypatch.setattr(devices, "float32_products", lambda precision, device: contextlib.nullcontext())
    monkeypatch.setattr(devices, "autocast", lambda precision, device: contextlib.nullcontext())
    assert fastest_precision(own, objective, batches, seed=0) == "tf32"


class Restless(VAE):
    """A model of one's own that counts minibatches and draws numbers, some of them in every mode."""

    draws = True

    def __init__(self, data_size: int) -> None:
        super().__init__(data_size, latent_size=2, layers=2, hidden_size=16)
        self.encoder.append(nn.BatchNorm1d(16)).append(nn.Dropout(0.5).eval())
        self.decoder.append(nn.Dropout(0.5))

    def logits(self, z: Tensor, c: Tensor) -> Tensor:
        return super().logits(z + torch.randn_like(z), c)


def test_the_trial_of_auto_leaves_a_model_as_it_is_and_draws_alike_for_every_format(
    rows: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "faster_precisions", lambda device: ["tf32"])
    monkeypatch.setattr(devices, "float32_products", lambda precision, device: contextlib.nullcontext())
    monkeypatch.setattr(precision, "PRECISION_BOUND", 0.0)
    _, objective, batches = untrained(rows)
    model = Restless(rows.size).to(rows.train.pixels.device)
    modes = [module.training for module in model.modules()]
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    assert fastest_precision(model, objective, batches, seed=0) == "tf32"
    assert [module.training for module in model.modules()] == modes
    torch.testing.assert_close(model.state_dict(), weights, rtol=0, atol=0)


def test_auto_is_float32_where_the_hardware_has_nothing_shorter(
    rows: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "faster_precisions", lambda device: [])
    assert fastest_precision(*untrained(rows), seed=0) == "float32"
