"""The mutual information gap of docs/extending.md, and what a metric of one's own must be."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from vae_lab import seeding
from vae_lab.data import Dataset, dataset
from vae_lab.errors import UserError
from vae_lab.evaluation import ModelInHand
from vae_lab.jobs.parts import own_metrics
from vae_lab.metrics import HIGHER, metric
from vae_lab.models import VAE, Posterior
from vae_lab.objectives import Objective, likelihood

BCE = Objective(likelihood("bernoulli"))


class Encoded(ModelInHand):
    """A model whose posteriors are given."""

    def __init__(self, mean: torch.Tensor, std: float) -> None:
        self.q = Posterior(mean, torch.full_like(mean, std).log() * 2)

    def encode(self, *_: object) -> Posterior:
        return self.q


@pytest.fixture(scope="module")
def factors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {"kind": torch.arange(600) % 3, "x": torch.rand(600, generator=generator)}


def gap(mean: torch.Tensor, std: float, factors: dict[str, torch.Tensor]) -> float:
    mig = import_module("my_metrics").mig
    return float(mig(Encoded(mean, std), None, None, factors, 0))


def test_a_dimension_for_each_factor_has_a_gap_and_a_mixture_of_them_has_none(
    guide: Path, factors: dict[str, torch.Tensor]
) -> None:
    apart = torch.stack([factors["kind"] - 1.0, 4 * factors["x"] - 2], dim=1)
    assert gap(apart, 0.02, factors) > 0.85
    mixed = torch.stack([apart.sum(1), apart.sum(1)], dim=1)
    assert abs(gap(mixed, 0.02, factors)) < 0.05
    noise = torch.randn(600, 2, generator=torch.Generator().manual_seed(1))
    assert abs(gap(noise, 0.001, factors)) < 0.05, "narrow posteriors say nothing of factors"
    collapsed = 1e-6 * apart[:, :1] + torch.tensor([[0.0, 0.0]])
    assert abs(gap(collapsed, 1.0, factors)) < 0.05, "nor do collapsed ones"


def test_the_shapes_are_what_their_factors_say(guide: Path) -> None:
    data = import_module("my_shapes").load(None)
    assert (len(data.train), len(data.test), data.shape, data.classes) == (4000, 1000, (1, 16, 16), 3)
    assert data.factors is not None
    images = data.test.scaled(slice(None)).unflatten(-1, (16, 16))
    place = (2 * torch.arange(16) + 1) / 16 - 1
    centre = (images.sum(1) * place).sum(1) / images.sum((1, 2))
    kind = data.factors["kind"]
    for form in range(3):
        pair = torch.stack([centre[kind == form].double(), data.factors["x"][kind == form]])
        assert float(torch.corrcoef(pair)[0, 1]) > 0.85, form
        pair = torch.stack([images[kind == form].sum((1, 2)).double(), data.factors["size"][kind == form]])
        assert float(torch.corrcoef(pair)[0, 1]) > 0.95, form


@metric("light", better=HIGHER)
def light(model: ModelInHand, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return model.sample(4, seed=1).mean() * (images.shape[1:] == (1, 4, 4)) * (len(labels) == len(images))


@metric("of factors")
def of_factors(model: ModelInHand, images: Any, labels: Any, factors: Any) -> float:
    return float(factors["size"].mean())


@metric("nothing")
def broken(model: ModelInHand, images: Any, labels: Any) -> float:
    raise KeyError("nowhere")


@metric("endless")
def endless(model: ModelInHand, images: Any, labels: Any) -> float:
    return float("nan")


ALL = [f"{__name__}.{name}" for name in ("light", "of_factors", "broken", "endless")]


def in_hand(data: Dataset, C: int) -> ModelInHand:
    device = data.test.pixels.device
    module = VAE(16, C, latent_size=2).to(device)
    return ModelInHand(module, BCE, device=device, load_data=lambda: data, name="vae s0")


def test_what_fails_is_absent_with_its_reason_and_the_rest_is_there(rows: Dataset) -> None:
    for C in (0, 3):
        model = in_hand(rows, C)
        measures = own_metrics.measured_by(own_metrics.own_metrics(ALL), model, seed=0)
        assert measures.metrics.keys() == {"own/light"}
        assert measures.absent == {
            "own/of_factors": "data rows has no factors",
            "own/broken": "'nowhere'",
            "own/endless": "it is nan",
        }
        known = in_hand(rows._replace(factors={"size": torch.tensor([1.0, 2.0])}), C)
        measured = own_metrics.measured_by(own_metrics.own_metrics(ALL), known, seed=0).metrics
        assert measured["own/of_factors"] == 1.5


@pytest.mark.parametrize(
    ("factors", "words"),
    [
        ({}, "factors={}: must be numbers by name"),
        ([1, 2], "must be numbers by name"),
        ({"size": [1.0]}, "factor size of shape (1,): must have a finite number for each of the 2"),
        ({"size": [1.0, float("nan")]}, "must have a finite number"),
        ({"kind": ["a", "b"]}, "factor kind are of type <U1"),
    ],
)
def test_factors_are_checked_in_one_line(factors: Any, words: str) -> None:
    pixels = [[[0, 255]], [[255, 0]]]
    with pytest.raises(UserError) as error:
        dataset("pair", pixels, [0, 1], pixels, [0, 1], factors=factors)
    assert words in str(error.value)


def test_other_factors_are_other_data() -> None:
    pixels = [[[0, 255]], [[255, 0]]]
    parts = ("pair", pixels, [0, 1], pixels, [0, 1])
    plain, one, two = (dataset(*parts, factors=f).checksum for f in (None, {"x": [1, 2]}, {"x": [1, 3]}))
    assert len({plain, one, two}) == 3
    assert dataset(*parts).checksum == plain


@pytest.mark.parametrize("factors", [None, {"x": [1, 2]}])
def test_a_data_set_is_itself_and_no_other_so_that_measures_are_cached_by_it(factors: Any) -> None:
    pixels = [[[0, 255]], [[255, 0]]]
    one, two = (dataset("pair", pixels, [0, 1], pixels, [0, 1], factors=factors) for _ in range(2))
    assert {one: "of one", two: "of two"}[one] == "of one"
    assert one != two


@metric("drawn")
def drawn(model: ModelInHand, images: Any, labels: Any) -> torch.Tensor:
    with seeding.global_generator(7, "of its own"):  # in the turn that it has already
        torch.rand(3)
    return torch.rand(1)


def test_what_a_metric_draws_follows_from_the_seed_and_leaves_no_trace(rows: Dataset) -> None:
    model, chosen = in_hand(rows, 0), own_metrics.own_metrics([f"{__name__}.drawn"])
    before = torch.get_rng_state()
    first, other = (own_metrics.measured_by(chosen, model, seed=seed).metrics for seed in (0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(1)
    assert own_metrics.measured_by(chosen, model, seed=0).metrics == first != other
