"""What annealed chains say of a run: with its training, added later, and beside the other bounds."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from scipy import stats

from tests.evaluation.test_bounds import LinearGaussian
from vae_lab.cli.evaluate import evaluate
from vae_lab.data import Images
from vae_lab.evaluation import annealed_measures
from vae_lab.evaluation.annealed import annealed
from vae_lab.evaluation.bounds import evenly_spaced
from vae_lab.evaluation.simulated import drawn_pixels
from vae_lab.metrics import ANNEALED_DISTORTION, ANNEALED_RATE, ERROR, is_metric, series
from vae_lab.objectives import Gaussian
from vae_lab.tracking import EVALUATION, KIND, RUN, Store, reader

FEW = {"count": 20, "temperatures": 40, "chains": 4, "seed": 0}
SMALL = ("data=digits", "train.epochs=1", "model.hidden_size=16", "model=cvae", "train.device=cpu")
CHEAP = ("evaluation=annealed", "evaluation.annealed_images=10", "evaluation.temperatures=20")


def images(count: int) -> Images:
    generator = torch.Generator().manual_seed(3)
    pixels = torch.randint(0, 256, (count, 6), generator=generator).to(torch.uint8)
    return Images(pixels, torch.arange(count) % 3, 255)


def test_the_curve_ends_at_the_bound_of_its_images_and_falls_from_the_prior() -> None:
    metrics = annealed_measures(LinearGaussian(), Gaussian(0.5), images(20), **FEW)
    rate, distortion = series(metrics, ANNEALED_RATE), series(metrics, ANNEALED_DISTORTION)
    assert len(rate) == len(distortion) == 21
    assert rate[0] == pytest.approx(0, abs=1e-9)
    assert rate[-1] > rate[0]
    assert distortion[-1] < distortion[0]
    error = metrics["test/ais_bound_error"]
    assert rate[-1] + distortion[-1] == pytest.approx(metrics["test/ais_bound"], abs=4 * error)
    assert abs(metrics["test/ais_gap"]) < 0.1
    assert all(map(is_metric, metrics))


def test_the_bound_of_a_part_of_the_images_stands_for_all() -> None:
    model, some = LinearGaussian(), images(400)
    part = annealed_measures(model, Gaussian(0.5), some, **FEW)
    whole = annealed_measures(model, Gaussian(0.5), some, **(FEW | {"count": 400}))
    error = part["test/ais_bound_error"] + whole["test/ais_bound_error"]
    assert part["test/ais_bound"] == pytest.approx(whole["test/ais_bound"], abs=4 * error)


def test_the_standard_errors_of_the_curve_are_scipys_over_images_and_hold_the_curve_of_all() -> None:
    model, some = LinearGaussian(), images(400)
    part = annealed_measures(model, Gaussian(0.5), some, **FEW)
    whole = annealed_measures(model, Gaussian(0.5), some, **(FEW | {"count": 400}))
    x = some.scaled(evenly_spaced(torch.arange(400), FEW["count"]))
    settings: Any = {key: FEW[key] for key in ("temperatures", "chains", "seed")}
    chains = annealed(model, Gaussian(0.5), x, torch.zeros(len(x), 0), **settings)
    for name, values in ((ANNEALED_RATE, chains.rate), (ANNEALED_DISTORTION, chains.distortion)):
        errors, spread = series(part, f"{name}{ERROR}"), stats.sem(values[::2].numpy(), axis=1)
        assert errors == pytest.approx(spread.tolist(), rel=1e-5, abs=1e-12)
        for error, of_part, of_all in zip(errors, series(part, name), series(whole, name), strict=True):
            assert of_part == pytest.approx(of_all, abs=4 * error + 1e-9)


def test_one_image_has_a_bound_and_no_standard_error() -> None:
    metrics = annealed_measures(LinearGaussian(), Gaussian(0.5), images(20), **(FEW | {"count": 1}))
    assert metrics["test/ais_bound"] > 0
    assert math.isnan(metrics["test/ais_bound_error"])
    assert len(series(metrics, ANNEALED_RATE)) == 21
    assert series(metrics, f"{ANNEALED_RATE}{ERROR}") == []


def test_a_likelihood_that_inherits_from_one_of_the_labs_has_no_gap_since_its_draws_are_not_known() -> None:
    class Tails(Gaussian):
        def negative_log(self, logits: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
            return ((x - logits.sigmoid()).abs() / self.std + math.log(2 * self.std)).sum(-1)

    metrics = annealed_measures(LinearGaussian(), Tails(0.5), images(20), **FEW)
    assert metrics["test/ais_bound"] > 0
    assert "test/ais_gap" not in metrics
    with pytest.raises(TypeError, match="Tails: no draws are known"):
        drawn_pixels(Tails(0.5), torch.zeros(2, 6), torch.Generator())


def test_measures_added_later_are_those_of_training(
    folder: Path, lab: Callable[..., tuple[int, str, str]]
) -> None:
    code, _, err = lab(*SMALL, *CHEAP)
    assert code == 0, err
    assert lab(*SMALL, "reuse=never")[0] == 0
    first, later = sorted(reader().tagged(KIND, RUN), key=lambda run: "test/ais_bound" not in run.metrics)
    assert first.tags[EVALUATION] == "annealed_images=10 temperatures=20 chains=16"
    assert EVALUATION not in later.tags
    result = CliRunner().invoke(evaluate, [later.run_id, *CHEAP])
    assert result.exit_code == 0, result.output
    added = Store.open().record(later.run_id)
    assert added.metrics.keys() == first.metrics.keys()
    assert added.metrics["test/ais_bound"] == pytest.approx(first.metrics["test/ais_bound"], rel=1e-3)
    assert "has these measures" in CliRunner().invoke(evaluate, [later.run_id, *CHEAP]).output
