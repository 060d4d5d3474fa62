"""The likelihoods of docs/extending.md have the formulas that they name; weights in one are resumed."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Context, Decimal, localcontext
from importlib import import_module
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.conftest import SMALL
from vae_lab import interruption
from vae_lab.jobs.runs.reports import Reached
from vae_lab.jobs.runs.run import Run
from vae_lab.tracking import KIND, RUN, Store, reader
from vae_lab.trained.explorer.graph import traced

LINE = ("--config-dir", "my_configs", *SMALL, "objective=learned_std", "evaluation.pictures=false")


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_the_probabilities_of_all_grey_values_add_up_to_one(guide: Path, levels: int) -> None:
    pixels = import_module("my_likelihoods").DiscretizedLogistic(levels)
    grey = torch.linspace(0, 1, levels, dtype=torch.float64)[:, None]
    for location, log_scale in ((0.0, -2.0), (3.0, 0.5), (-9.0, -6.0)):
        logits = torch.tensor([[location, log_scale]], dtype=torch.float64).expand(levels, 2)
        assert float((-pixels.negative_log(logits, grey)).exp().sum()) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_grey_values_in_the_tails_cost_what_they_do_and_have_a_gradient(
    guide: Path, dtype: torch.dtype
) -> None:
    """Black, white and what lies between, from likely grey values to such of a probability of 1e-300."""
    pixels = import_module("my_likelihoods").DiscretizedLogistic(256)
    levels = range(0, 256, 15)
    grey = torch.tensor([*levels], dtype=dtype)[:, None] / 255
    for raw, log_scale in ((0.0, -2.0), (5.0, -4.0), (-9.0, -8.0), (0.3, 3.0)):
        logits = torch.tensor([[raw, log_scale]], dtype=dtype).repeat(len(levels), 1).requires_grad_()
        nats = pixels.negative_log(logits, grey)
        (gradient,) = torch.autograd.grad(nats.sum(), logits)
        exact = [exact_nats(level, raw, log_scale) for level in levels]
        rounding = 1e-3 if dtype == torch.float32 else 1e-9
        assert nats.tolist() == pytest.approx(exact, rel=rounding / 10, abs=rounding)
        assert bool(gradient.all())


def exact_nats(level: int, raw: float, log_scale: float) -> float:
    """-log of what a logistic has nearer to one of 256 grey values than to any other, by 400 digits."""
    with localcontext(Context(prec=400)):
        location = 1 / (1 + Decimal(-raw).exp())
        scale = Decimal(-7).exp() + Decimal(log_scale).exp()
        lower, upper = (
            1 / (1 + ((location - (level + Decimal(side)) / 255) / scale).exp()) for side in ("-0.5", "0.5")
        )
        ends = (Decimal(0) if level == 0 else lower, Decimal(1) if level == 255 else upper)
        return float(-(ends[1] - ends[0]).ln())


@pytest.mark.parametrize("levels", [17, 256])
def test_the_mean_of_the_discretized_logistic_is_that_of_its_grey_values(guide: Path, levels: int) -> None:
    """Within half a step of grey, also where much of the logistic lies beyond black or white."""
    pixels = import_module("my_likelihoods").DiscretizedLogistic(levels)
    grey = torch.linspace(0, 1, levels, dtype=torch.float64)
    for raw in (-9.0, -3.0, 0.3, 2.0, 9.0):
        for log_scale in (-9.0, -4.0, -1.0, 0.0, 2.0, 5.0):
            logits = torch.tensor([raw, log_scale], dtype=torch.float64)
            nats = pixels.negative_log(logits.expand(levels, 2), grey[:, None])
            expected = float(((-nats).exp() * grey).sum())
            mean = pixels.mean(logits.float())
            assert float(mean) == pytest.approx(expected, abs=0.5 / (levels - 1) + 1e-5)
            assert 0 <= float(mean) <= 1


def test_the_explorer_knows_every_operation_of_the_mean_of_two_numbers_a_pixel(guide: Path) -> None:
    pixels = import_module("my_likelihoods").DiscretizedLogistic()
    graph = traced(nn.Identity(), "decode", pixels.mean, torch.zeros(1, 32))
    assert graph.steps[-1]["size"] == 16


def test_the_learned_standard_deviation_is_best_at_the_error(guide: Path) -> None:
    x, logits = torch.rand(50, 16), torch.zeros(50, 16)
    error = float((x - 0.5).square().mean().sqrt())
    pixels = import_module("my_likelihoods").LearnedStd(error)
    pixels.negative_log(logits, x).mean().backward()
    assert float(pixels.log_std.grad) == pytest.approx(0, abs=1e-4)
    nats = float(pixels.negative_log(logits, x).mean().detach())
    assert nats == pytest.approx(16 * (math.log(error) + math.log(2 * math.pi) / 2 + 0.5), rel=1e-4)


def test_a_run_whose_likelihood_has_weights_goes_on_where_it_was_stopped(
    guide: Path, lab: Callable[..., tuple[int, str, str]], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "my_configs").symlink_to(guide / "my_configs")
    reach = Run.reach

    def stopping(self: Run, reached: Reached) -> None:
        reach(self, reached)
        if reached.checkpoint.epoch == 1:
            interruption.request()

    code, _, err = lab(*LINE)
    assert code == 0, err
    (whole,) = reader().tagged(KIND, RUN)
    with monkeypatch.context() as patch:
        patch.setattr(Run, "reach", stopping)
        assert lab(*LINE, "reuse=never")[0] == 130
    Store.open().client.delete_run(whole.run_id)
    assert lab(*LINE)[0] == 0
    (resumed,) = reader().tagged(KIND, RUN)
    assert resumed.run_id != whole.run_id
    assert resumed.metrics["test/loss"] == whole.metrics["test/loss"]
