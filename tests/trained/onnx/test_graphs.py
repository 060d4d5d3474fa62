"""The ONNX graphs of a model answer as PyTorch does, and hold nothing of the machine that made them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from tests import house
from vae_lab.data import one_hot
from vae_lab.errors import LabError, UserError
from vae_lab.models import ACTIVATIONS, VAE
from vae_lab.objectives import ContinuousBernoulli, likelihood
from vae_lab.trained.registry.graphs import Graph, graphs_of

SHAPE = (1, 4, 4)


class EveryActivation(VAE):
    """A VAE with a layer of each activation."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        width = self.mean.in_features
        for part in (self.encoder, self.decoder):
            for make in ACTIVATIONS.values():
                part.extend([nn.Linear(width, width), make()])


def model(classes: int, kind: type[VAE] = VAE) -> VAE:
    torch.manual_seed(0)
    return kind(data_size=16, condition_size=classes, latent_size=3, layers=1, hidden_size=8, init="xavier")


@pytest.fixture(scope="module", params=[0, 5], ids=["vae", "cvae"])
def made(request: pytest.FixtureRequest, device: torch.device) -> tuple[VAE, list[Graph]]:
    trained = model(request.param, EveryActivation).to(device)
    return trained, graphs_of(trained, likelihood("continuous_bernoulli"), SHAPE)


def answer(graph: Graph, **inputs: Tensor) -> list[Tensor]:
    session = onnxruntime.InferenceSession(
        graph.model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    values = session.run(None, {name: value.cpu().numpy() for name, value in inputs.items()})
    return [torch.from_numpy(value) for value in values]


@pytest.mark.parametrize("count", [1, 7, 0])
def test_answers_equal_pytorchs_in_batches_of_any_size(
    made: tuple[VAE, list[Graph]], count: int, device: torch.device
) -> None:
    trained, (decode, encode) = made
    generator = torch.Generator().manual_seed(count)
    z = torch.randn(count, 3, generator=generator)
    x = torch.rand(count, *SHAPE, generator=generator)
    labels = torch.arange(count) % max(trained.condition_size, 1)
    label = {"label": labels} if trained.condition_size else {}
    c = one_hot(labels, trained.condition_size).to(device)
    with torch.inference_mode():
        images = ContinuousBernoulli().mean(trained.logits(z.to(device), c)).cpu().reshape(count, *SHAPE)
        posterior = [part.cpu() for part in trained.posterior(x.flatten(1).to(device), c)]
    for expected, told in zip([images], answer(decode, z=z, **label), strict=True):
        torch.testing.assert_close(told, expected, atol=1e-4, rtol=0)
    for expected, told in zip(posterior, answer(encode, x=x, **label), strict=True):
        torch.testing.assert_close(told, expected, atol=1e-4, rtol=1e-4)


def test_a_graph_says_what_goes_in_and_what_comes_out(made: tuple[VAE, list[Graph]]) -> None:
    trained, (decode, encode) = made
    label = {"label": ("int64", (-1,))} if trained.condition_size else {}

    def described(tensors: dict[str, Any]) -> dict[str, tuple[str, tuple[int, ...]]]:
        return {name: (str(dtype), shape) for name, (dtype, shape) in tensors.items()}

    assert described(decode.inputs) == {"z": ("float32", (-1, 3)), **label}
    assert described(decode.outputs) == {"images": ("float32", (-1, *SHAPE))}
    assert described(encode.inputs) == {"x": ("float32", (-1, *SHAPE)), **label}
    assert described(encode.outputs) == {"mean": ("float32", (-1, 3)), "log_var": ("float32", (-1, 3))}
    assert max(decode.difference, encode.difference) <= 1e-4
    assert {name: len(value) for name, value in decode.example.items()} == dict.fromkeys(decode.inputs, 1)


def test_a_graph_names_no_file_of_the_machine_that_made_it(made: tuple[VAE, list[Graph]]) -> None:
    for graph in made[1]:
        content = graph.model.SerializeToString()
        for word in (str(house.ROOT), str(Path(sys.prefix).parent), "site-packages", ".py", "forward"):
            assert word.encode() not in content, word


def test_a_label_of_no_class_is_refused_and_not_answered(made: tuple[VAE, list[Graph]]) -> None:
    trained, (decode, _) = made
    if trained.condition_size:
        for label in (5, -1):
            with pytest.raises(Exception, match="out of data bounds"):
                answer(decode, z=torch.zeros(1, 3), label=torch.tensor([label]))


def test_the_mean_of_a_continuous_bernoulli_is_exact_around_zero() -> None:
    grey = model(0)
    with torch.no_grad():
        grey.pixels.weight.zero_()
        grey.pixels.bias.copy_(torch.linspace(0.01, 0.02, 16))  # where exp(-l) - 1 would lose most
    decode, _ = graphs_of(grey, likelihood("continuous_bernoulli"), SHAPE)
    logits = grey.pixels.bias.detach().double()
    exact = 0.5 + 0.5 / torch.tanh(logits / 2) - 1 / logits
    told = answer(decode, z=torch.zeros(1, 3))[0].flatten().double()
    np.testing.assert_allclose(told, exact, atol=1e-6)


class Drawn(VAE):
    """Draws its own noise, whatever it is asked."""

    def logits(self, z: Tensor, c: Tensor) -> Tensor:
        return super().logits(z, c) + torch.rand_like(z[..., :1])


class Branching(VAE):
    """Does what no graph can say: it looks at a value."""

    def logits(self, z: Tensor, c: Tensor) -> Tensor:
        return super().logits(z if z.sum() > 0 else -z, c)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Drawn, "decode: the ONNX graph's answers differ from PyTorch's by"),
        (Branching, "decode: the model cannot be written as an ONNX graph: "),
    ],
)
def test_a_model_that_onnx_cannot_say_is_one_message(kind: type[VAE], reason: str) -> None:
    with pytest.raises(LabError) as raised:
        graphs_of(model(0, kind), likelihood("bernoulli"), SHAPE)
    assert str(raised.value).startswith(reason)
    assert len(str(raised.value).splitlines()) == 1


def test_without_the_extra_a_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"needs onnxruntime\. .*: pip install onnx onnxruntime onnxscript$"):
        graphs_of(model(0), likelihood("bernoulli"), SHAPE)
