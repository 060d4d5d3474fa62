"""The page's JavaScript computes what PyTorch computes."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import vae_lab.trained.explorer
from tests.trained.explorer.conftest import with_name
from vae_lab.models import ACTIVATIONS, VAE, Posterior
from vae_lab.objectives import likelihood
from vae_lab.trained.explorer.contents import gather
from vae_lab.trained.explorer.graph import Graph, UnknownOperationError, traced
from vae_lab.trained.explorer.steps import computed
from vae_lab.trained.explorer.weights import COARSEST, coarsest_steps, packed, step_of
from vae_lab.trained.model import TrainedModel

pytestmark = pytest.mark.timeout(240)
TEMPLATES = Path(vae_lab.trained.explorer.__file__).parent / "templates"
LIKELIHOODS = [likelihood(name) for name in ("bernoulli", "continuous_bernoulli", "gaussian")]
LEVEL = 1 / 255
RUN = """async ({graph, weights, inputs}) => {
  const run = network(graph, await unpacked(weights));
  return inputs.map((given) => run(...given).map((output) => Array.from(output)));
}"""


class Convolutional(nn.Module):
    """A convolutional CVAE of 1 x 8 x 8 images with the posterior and logits of the lab's own model."""

    def __init__(self, activation: str) -> None:
        super().__init__()
        act = ACTIVATIONS[activation]
        self.down = nn.Sequential(
            *(nn.Conv2d(4, 6, 3, stride=2, padding=1), act()),
            *(nn.Conv2d(6, 4, 3, padding=1, groups=2), act()),
        )
        self.mean, self.log_var = nn.Linear(64, 5), nn.Linear(64, 5)
        self.up = nn.Linear(8, 64)
        self.act = act()
        self.grow = nn.ConvTranspose2d(4, 1, 3, stride=2, padding=1, output_padding=1)

    def posterior(self, x: Tensor, c: Tensor) -> Posterior:
        planes = c[..., None, None].expand(-1, -1, 8, 8)
        hidden = self.down(torch.cat([x.unflatten(-1, (1, 8, 8)), planes], 1)).flatten(1)
        return Posterior(self.mean(hidden), self.log_var(hidden))

    def logits(self, z: Tensor, c: Tensor) -> Tensor:
        hidden = self.act(self.up(torch.cat([z, c], -1))).view(-1, 4, 4, 4)
        logits: Tensor = self.grow(hidden).flatten(1)
        return logits


MODELS: dict[str, Callable[[str], Any]] = {
    "vae": lambda activation: VAE(64, 0, 5, layers=2, hidden_size=24, activation=activation),
    "cvae": lambda activation: VAE(64, 3, 5, layers=2, hidden_size=24, activation=activation),
    "convolutional": Convolutional,
}


@pytest.fixture(scope="module")
def computer(browser: Any) -> Callable[[Graph, list[list[Tensor]]], list[list[Tensor]]]:
    """Runs a graph on inputs in the browser: gives the outputs of each."""
    page = browser.new_page()
    for name in ("weights.js", "network.js"):
        page.add_script_tag(content=(TEMPLATES / name).read_text())

    def compute(graph: Graph, inputs: list[list[Tensor]]) -> list[list[Tensor]]:
        given = [[value.tolist() for value in row] for row in inputs]
        content = {"graph": graph.described(), "weights": packed(graph.tensors, {}), "inputs": given}
        answers = page.evaluate(RUN, json.loads(json.dumps(content)))
        return [[torch.tensor(output) for output in row] for row in answers]

    return compute


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_page_computes_what_torch_computes(computer: Any, kind: str, activation: str) -> None:
    torch.manual_seed(0)
    module = MODELS[kind](activation).eval()
    for weight in module.parameters():
        weight.data.mul_(3)  # far enough from 0 that activations and pixels bend
    C = 0 if kind == "vae" else 3
    x, z = torch.rand(8, 64), 2 * torch.randn(8, 5)
    z[0] = 0  # for a continuous Bernoulli's logits near 0
    c = torch.eye(3)[torch.arange(8) % 3][:, :C]

    def means(z: Tensor, c: Tensor) -> tuple[Tensor, ...]:
        logits = module.logits(z, c)
        return tuple(one.mean(logits) for one in LIKELIHOODS)

    encoder = traced(module, "encode", lambda x, c: tuple(module.posterior(x, c)), x[:1], c[:1])
    decoder = traced(module, "decode", means, z[:1], c[:1])
    with torch.no_grad():
        expected = [tuple(module.posterior(x, c)), means(z, c)]
    for graph, given, wanted in zip((encoder, decoder), (x, z), expected, strict=True):
        answers = computer(graph, [[given[i], c[i]] for i in range(8)])
        for output, values in enumerate(wanted):
            got = torch.stack([row[output] for row in answers])
            torch.testing.assert_close(got, values, rtol=1e-4, atol=1e-4)
            assert values.std() > 0.01, "something is compared"
    worst = max(
        float((row[k] - expected[1][k][i]).abs().max()) for i, row in enumerate(answers) for k in (0, 1, 2)
    )
    assert worst <= LEVEL


def test_what_lies_between_zero_and_the_continuous_bernoullis_series(computer: Any) -> None:
    logits = torch.tensor([[-30.0, -1.0, -0.02, -0.005, 0.0, 0.005, 0.02, 1.0, 30.0]])
    for one in LIKELIHOODS:
        graph = traced(nn.Identity(), "mean", one.mean, logits)
        ((means,),) = computer(graph, [[logits[0]]])
        torch.testing.assert_close(means, one.mean(logits)[0], rtol=0, atol=LEVEL / 100)


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "from the end": lambda x: x[:, -3:],
    "from before the start": lambda x: x[:, -9:4],
    "a number where it is negative": lambda x: torch.where(x < 0, 0.0, x),
    "a number elsewhere": lambda x: torch.where(x < 0, x, -1),
    "parts": lambda x: torch.cat([part.tanh() for part in x.chunk(3, -1)[::-1]], -1),
    "the last part": lambda x: x.split(4, dim=-1)[-1] * 2,
    "channels": lambda x: x.unflatten(-1, (3, 2)).chunk(3, 1)[2].flatten(1),
}


@pytest.mark.parametrize("case", FUNCTIONS)
def test_parts_and_choices_are_those_of_torch(computer: Any, case: str) -> None:
    x = torch.tensor([[-2.0, 1.0, -0.5, 3.0, 0.25, -4.0]])
    graph = traced(nn.Identity(), "function", FUNCTIONS[case], x)
    ((answer,),) = computer(graph, [[x[0]]])
    torch.testing.assert_close(answer, FUNCTIONS[case](x)[0])


def negated_through_a_view(x: Tensor) -> Tensor:
    y = x.exp()
    y[:, :3].neg_()
    return y


@pytest.mark.parametrize(
    ("function", "named"),
    [
        (lambda x: x.cumsum(-1), "cumsum"),
        (lambda x: x[:, ::2], "slice"),
        (lambda x: x.unflatten(-1, (2, 3)) + x[:, :3].unflatten(-1, (1, 3)), "broadcast"),
        (lambda x: torch.div(x, 2, rounding_mode="floor"), "div"),
        (lambda x: x.unflatten(-1, (2, 3)).chunk(3, -1)[0], "chunk"),
        (negated_through_a_view, "do not come to what it computes"),
        (lambda x: ((x < 0) + (x < 1)) * x, "do not come to what it computes"),
        (lambda x: x if float(x.sum()) > 0 else -x, "trace"),
    ],
)
def test_what_the_page_cannot_compute_is_named(function: Callable[[Tensor], Tensor], named: str) -> None:
    with pytest.raises(UnknownOperationError, match=named):
        traced(nn.Identity(), "function", function, torch.zeros(1, 6))


SHIFT, SCALE = torch.tensor(0.13), torch.tensor(3.0)


class OfConstants(VAE):
    """A VAE whose two functions have constants, a weight called `map`, a buffer in no checkpoint."""

    def __init__(self) -> None:
        super().__init__(64, 0, 3, layers=1, hidden_size=4)
        self.map, self.exp = nn.Parameter(torch.rand(64)), nn.Parameter(torch.rand(3))
        self.offset: Tensor
        self.register_buffer("offset", torch.full((64,), 0.5), persistent=False)

    def posterior(self, x: Tensor, c: Tensor) -> Posterior:
        mean, log_var = super().posterior(x * self.map + SHIFT, c)
        return Posterior(mean, log_var.exp().neg() * self.exp)

    def logits(self, z: Tensor, c: Tensor) -> Tensor:
        return super().logits(z, c) * SCALE + self.offset


def tensors_of(content: dict[str, Any]) -> dict[str, Tensor]:
    """What `packed` has packed, read as `weights.js` does."""
    raw = zlib.decompress(base64.b85decode(content["bytes"].replace(",", "<")), -zlib.MAX_WBITS)
    entries = content["tensors"]
    count = sum(entry["size"] for entry in entries if entry["step"])
    places = np.frombuffer(raw[: 3 * count], np.uint8).reshape(3, count).astype(np.int64)
    numbers = (places * [[1], [2**8], [2**16]]).sum(0)
    numbers = np.where(numbers < 2**23, numbers, numbers - 2**24) - 2**15
    floats = np.frombuffer(raw[3 * count :], "<f4")
    tensors = {}
    for entry in entries:
        size, step = entry["size"], entry["step"]
        if step:
            tensors[entry["name"]], numbers = torch.tensor(numbers[:size] * step), numbers[size:]
        else:
            tensors[entry["name"]], floats = torch.tensor(floats[:size]), floats[size:]
    return tensors


def test_a_page_has_every_functions_own_constants_and_each_weight_its_own_name(
    models: list[TrainedModel],
) -> None:
    torch.manual_seed(0)
    module = OfConstants().eval()
    lab = with_name(models[0], "of constants", module)
    contents = gather([lab])
    assert contents.remarks == []
    assert dict(contents.facts)["Study"] == ["ablations"], "the runs say it where nobody named it"
    data = json.loads(contents.data)
    (described,) = data["models"]
    assert described["summary"][0] == f"held-out loss {lab.metrics['test/loss']:.2f} nats/image"
    tensors = tensors_of(described["weights"])
    x, z, none = torch.rand(1, 64), torch.randn(1, 3), torch.zeros(1, 0)
    with torch.no_grad():
        expected = {
            "encode": module.posterior(x, none),
            "decode": [lab.likelihood.mean(module.logits(z, none))],
        }
    for function, one in (("encode", x), ("decode", z)):
        network = described["networks"][function]
        values = tensors | dict(zip(network["inputs"], (one, none), strict=True))
        answers = computed(network["steps"], network["outputs"], values)
        for answer, right in zip(answers, expected[function], strict=True):
            torch.testing.assert_close(answer, right[0], rtol=0, atol=0.01)
    images = (name for name in tensors if name.lstrip(".") == "map")
    assert sorted(tensors[name].numel() for name in images) == [
        64,
        2 * len(json.loads(contents.data)["labels"]),
    ]


def test_weights_come_back_as_multiples_of_their_step(browser: Any) -> None:
    torch.manual_seed(0)
    weights, bias = torch.randn(200, 100), torch.randn(7)
    step = step_of(weights, 11.0)
    weights[3, 4], weights[5, 6] = -300.0, 300.0
    assert 300 / step > 2**15, "these take more than two bytes"
    page = browser.new_page()
    page.add_script_tag(content=(TEMPLATES / "weights.js").read_text())
    content = packed({"bias": bias, "weights": weights}, {"weights": step})
    values = page.evaluate(
        "async (content) => Object.fromEntries(Object.entries(await unpacked(content))"
        ".map(([name, values]) => [name, Array.from(values)]))",
        content,
    )
    np.testing.assert_array_equal(np.float32(values["bias"]), bias.numpy())
    restored = torch.tensor(values["weights"]).reshape(200, 100)
    assert float((restored - weights).abs().max()) <= step / 2 * 1.001
    bits = 6.4 * (len(content["bytes"]) - 7 * 4 * 1.25) / weights.numel()
    assert 11 < bits < 11.5


def test_rounding_is_as_coarse_as_the_bound_allows_and_no_coarser() -> None:
    torch.manual_seed(0)
    module = nn.Linear(50, 50)
    x = torch.randn(200, 50)

    @torch.no_grad()
    def error(other: nn.Module) -> float:
        return float((other(x) - module(x)).abs().max())

    before = module.weight.clone()
    coarse = coarsest_steps(module, {"weight", "bias"}, error, 0.02)
    fine = coarsest_steps(module, {"weight", "bias"}, error, 0.001)
    assert set(coarse) == {"weight"}, "a bias is a vector and costs little"
    assert fine["weight"] < coarse["weight"]
    assert coarsest_steps(module, {"weight"}, error, 0.0) == {}
    assert torch.equal(module.weight, before)


def test_a_matrix_that_matters_less_has_fewer_bits() -> None:
    torch.manual_seed(0)
    module = nn.Linear(30, 30)
    before, other = module.weight.detach(), torch.randn(30, 30)
    module.register_buffer("other", other)
    x = torch.randn(200, 30)

    @torch.no_grad()
    def error(rounded: nn.Module) -> float:
        off = rounded(x) - module(x) + 1e-3 * (x @ (rounded.get_buffer("other") - other))
        return float(off.abs().max())

    steps = coarsest_steps(module, {"weight", "other"}, error, 0.005)
    assert steps["other"] == pytest.approx(step_of(other, COARSEST)), "the least that is asked for"
    assert steps["weight"] < step_of(before, COARSEST) / 2


def test_a_whole_page_decodes_and_reconstructs_within_a_grey_level(
    opened: Any, address: str, models: list[TrainedModel]
) -> None:
    page = opened(address)
    generator = torch.Generator().manual_seed(1)
    for place, lab in enumerate(models):
        z = 1.5 * torch.randn(20, lab.latent_size, generator=generator)
        images, labels = lab.examples(20)
        answers = page.evaluate(
            """([place, latents, images, labels]) => {
                const model = session.models[place];
                const decoded = latents.map((z, i) => Array.from(model.decode(z, labels[i])));
                const means = images.map((image, i) => model.encode(image, labels[i]).mean);
                return [decoded, means.map((z, i) => Array.from(model.decode(z, labels[i])))];
            }""",
            [place, z.tolist(), images.flatten(1).tolist(), labels.tolist()],
        )
        decoded, reconstructed = (torch.tensor(answer) for answer in answers)
        assert float((decoded - lab.decode(z, labels).flatten(1)).abs().max()) <= LEVEL
        assert float((reconstructed - lab.reconstruct(images, labels).flatten(1)).abs().max()) <= LEVEL
