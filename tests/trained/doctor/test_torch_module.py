"""What the doctor asks of a torch module and of the arguments that describe it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import vae_lab
from benchmarks.plain_faults import TorchVAE, plain_loss
from vae_lab.data import digits
from vae_lab.errors import UserError
from vae_lab.models import VAE

Terms = Callable[[Tensor, Tensor], Tensor]


@pytest.fixture(scope="module")
def x() -> Tensor:
    return digits(root=None).test.scaled(slice(None))


SUMMED: dict[str, tuple[float, Terms]] = {
    "": (1, lambda kl, _: kl.sum()),
    "kl_mean": (1, lambda kl, _: kl.mean(1).sum()),
    "reconstruction_mean": (1 / 64, lambda kl, _: kl.sum()),
    "kl_weight": (1, lambda kl, _: 0.01 * kl.sum()),
    "batch_size": (1, lambda kl, x: kl.sum() / len(x)),
}


@pytest.mark.parametrize("fault", SUMMED)
@pytest.mark.parametrize("count", [16, 20, 31, 64])
def test_a_loss_summed_over_few_images_has_the_fault_that_it_has_of_many(
    x: Tensor, fault: str, count: int
) -> None:
    scale, kl_term = SUMMED[fault]

    def loss(reconstruction: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
        kl = -0.5 * (1 + logvar - mu**2 - logvar.exp())
        return scale * functional.binary_cross_entropy(reconstruction, x, reduction="sum") + kl_term(kl, x)

    report = vae_lab.doctor(TorchVAE(), x[:count], loss=loss)
    assert report.of_grade("fault") == [fault] * bool(fault), str(report)
    assert "loss_scale" not in report


class Encoding(TorchVAE):
    """An encoder that gives a draw of z beside mean and log-variance, in any order."""

    def __init__(self, order: str, draws: str = "always", dropout: float = 0) -> None:
        super().__init__()
        self.order, self.draws, self.dropout = order, draws, nn.Dropout(dropout)

    def encode(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, ...]:  # type: ignore[override]
        mu, logvar = super().encode(self.dropout(x))
        drawn = self.draws == "always" or (self.draws == "training" and self.training)
        noise = torch.randn_like(mu) if drawn else torch.zeros_like(mu)
        parts = {"z": mu + (logvar / 2).exp() * noise, "m": mu, "v": logvar}
        return tuple(parts[name] for name in self.order)

    def forward(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, ...]:  # type: ignore[override]
        parts = dict(zip(self.order, self.encode(x), strict=True))
        return self.decode(parts["z"]), *parts.values()


@pytest.mark.parametrize("draws", ["always", "training"])
@pytest.mark.parametrize("order", ["zmv", "mvz", "mzv"])
def test_a_draw_of_z_is_told_from_mean_and_log_variance(x: Tensor, order: str, draws: str) -> None:
    report = vae_lab.doctor(Encoding(order, draws), x)
    assert report.of_grade("fault") == [], str(report)
    module = Encoding(order, draws)
    by_forward = vae_lab.doctor(module, x, encode=lambda x: TorchVAE.encode(module, x))
    assert by_forward.of_grade("fault") == [], str(by_forward)


@pytest.mark.parametrize(("draws", "dropout"), [("never", 0), ("training", 0.2)])
def test_a_draw_of_z_that_cannot_be_told_from_the_mean_is_asked_for(
    x: Tensor, draws: str, dropout: float
) -> None:
    module = Encoding("zmv", draws, dropout)
    with pytest.raises(
        UserError, match=r"encode gives 3 tensors of .*, cannot be told.* encode=lambda x:"
    ) as error:
        vae_lab.doctor(module, x)
    assert "\n" not in str(error.value)
    vae_lab.doctor(module, x, encode=lambda x: module.encode(x)[1:])


def test_what_a_module_draws_while_its_calls_are_tried_moves_no_generator(x: Tensor) -> None:
    module = Encoding("zmv")
    state = torch.get_rng_state()
    vae_lab.doctor(module, x)
    assert torch.equal(torch.get_rng_state(), state)


class Broken(TorchVAE):
    """A decoder that fails whenever it is called from outside."""

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        raise RuntimeError("no weights yet\nfor this decoder")

    def forward(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        mu, logvar = self.encode(x)
        return super().decode(self.reparameterize(mu, logvar)), mu, logvar


def test_a_decoder_that_fails_when_it_is_first_called_says_why(x: Tensor) -> None:
    report = vae_lab.doctor(Broken(), x)
    assert report.unexamined["decoder"] == "fails for 16 z: no weights yet"
    assert report.unexamined["use of z"] == "needs decode"
    with pytest.raises(UserError, match=r"^decode: fails for 16 z: no weights yet$"):
        vae_lab.doctor(TorchVAE(), x, decode=Broken().decode)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"losses": 5}, "losses=5: must be a list of numbers"),
        ({"losses": ["a"]}, r"losses=\['a'\]: must be a list of numbers"),
        ({"losses": "12"}, "losses=12: must be a list of numbers"),
        ({"losses": torch.zeros(2, 2)}, "losses=.*: must be a list of numbers"),
        ({"spread": ["a"]}, r"spread=\['a'\]: unknown"),
        ({"output": ["a"]}, r"output=\['a'\]: unknown"),
        ({"beta": "1"}, "beta=1: must be a finite number"),
        ({"beta": np.float32("nan")}, "beta=nan: must be a finite number"),
        ({"decode": 5}, "decode=5: must be a function"),
        ({"loss": "bce"}, "loss=bce: must be a function"),
        ({"seed": None}, "seed=None: must be a whole number"),
        ({"seed": 1.5}, "seed=1.5: must be a whole number"),
    ],
)
def test_an_argument_of_another_kind_is_one_line(
    x: Tensor, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message) as error:
        vae_lab.doctor(TorchVAE(), x, **arguments)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


def test_numbers_of_numpy_and_torch_are_numbers(x: Tensor) -> None:
    module = TorchVAE()
    plain = vae_lab.doctor(module, x, beta=1, seed=3, losses=[3.0, 2.0, 1.0])
    numbers: Any = [
        {"beta": np.float32(1), "seed": np.int64(3), "losses": np.array([3, 2, 1])},
        {"beta": torch.tensor(1), "seed": torch.tensor(3), "losses": torch.tensor([3, 2, 1])},
    ]
    for arguments in numbers:
        assert str(vae_lab.doctor(module, x, **arguments)) == str(plain)
    assert "training" in vae_lab.doctor(module, x, losses=None).unexamined


@pytest.mark.parametrize("name", ["output", "encode", "decode", "forward"])
def test_a_model_of_the_labs_is_called_as_it_is(x: Tensor, name: str) -> None:
    described: Any = {name: "images" if name == "output" else lambda *parts: parts}
    with pytest.raises(UserError, match=f"^{name}=.*: must be left out for a model of the lab's"):
        vae_lab.doctor(VAE(64, latent_size=4), x, **described)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.arange(32) % 5, "labels: 3 is no class of this model. Valid: whole numbers from 0 to 2."),
        (-torch.ones(32), "labels: -1 is no class of this model."),
        (torch.full((32,), 1.5), "labels: 1.5 is no class of this model."),
        (torch.full((32,), torch.nan), "labels: nan is no class of this model."),
        (torch.zeros(32, 1), "labels of shape (32, 1): must have shape (32,)"),
        (torch.eye(3)[torch.arange(32) % 3], "labels of shape (32, 3): must have shape (32,)"),
        (None, "labels: a CVAE needs the class of every image. Valid: whole numbers from 0 to 2."),
    ],
)
def test_a_model_of_the_labs_is_given_a_class_that_it_knows_for_every_image(
    x: Tensor, labels: Tensor | None, message: str
) -> None:
    with pytest.raises(UserError) as error:
        vae_lab.doctor(VAE(64, 3, latent_size=4), x[:32], labels=labels)
    assert str(error.value).startswith(message)


def test_labels_of_a_model_of_the_labs_are_whole_numbers_of_any_type_or_one_for_all(x: Tensor) -> None:
    module, whole = VAE(64, 3, latent_size=4), torch.arange(32) % 3
    seen = str(vae_lab.doctor(module, x[:32], labels=whole))
    assert str(vae_lab.doctor(module, x[:32], labels=whole.double())) == seen
    same = vae_lab.doctor(module, x[:32], labels=1)
    assert "all labels are the same" in same.unexamined.values()


class Ending(nn.Module):
    """A decoder without the forward pass's last step; `how` the forward pass calls it."""

    def __init__(self, end: Callable[[Tensor], Tensor], how: str = "whole", fault: str = "") -> None:
        super().__init__()
        self.plain, self.end, self.how = TorchVAE(fault), end, how
        self.encode = self.plain.encode
        if how == "method":
            self.decode = self.plain.decoder_layers.forward
        else:
            self.decoder = self.plain.decoder_layers

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mu, logvar = self.encode(x)
        decoded = self.plain.reparameterize(mu, logvar)
        if self.how == "method":
            decoded = self.decode(decoded)
        else:
            for layer in self.decoder if self.how == "by layer" else (self.decoder,):
                decoded = layer(decoded)
        return self.end(decoded), mu, logvar


def stretched(logits: Tensor) -> Tensor:
    """A hyperbolic tangent from 0 to 1."""
    return (logits.tanh() + 1) / 2


@pytest.mark.parametrize("how", ["whole", "by layer", "method"])
@pytest.mark.parametrize("end", [torch.sigmoid, torch.sigmoid_])
@pytest.mark.parametrize("fault", ["", "noise_scaled"])
def test_a_decoder_is_taken_with_the_sigmoid_that_forward_puts_behind_it(
    x: Tensor, end: Callable[[Tensor], Tensor], how: str, fault: str
) -> None:
    torch.manual_seed(0)
    report = vae_lab.doctor(Ending(end, how, fault), x[:256], loss=partial(plain_loss, ""))
    assert report.of_grade("fault") == [fault] * bool(fault), str(report)
    assert {"decoder", "noise", "use of z", "modes"}.isdisjoint(report.unexamined)


@pytest.mark.parametrize("how", ["whole", "method"])
def test_a_decoder_that_gives_other_images_than_forward_is_asked_for(x: Tensor, how: str) -> None:
    torch.manual_seed(0)
    module = Ending(stretched, how)
    attributes = {*vars(module)}
    report = vae_lab.doctor(module, x[:256], loss=partial(plain_loss, ""))
    assert report.of_grade("fault") == []
    assert report.unexamined["decoder"].endswith("say how z is decoded: decode=lambda z: images")
    assert {*vars(module)} == attributes
    assert not module.plain.decoder_layers._forward_hooks

    def decode(z: Tensor) -> Tensor:
        return stretched(module.plain.decoder_layers(z))

    described = vae_lab.doctor(module, x[:256], loss=partial(plain_loss, ""), decode=decode)
    assert described.of_grade("fault") == []
    assert "noise" not in described.unexamined
