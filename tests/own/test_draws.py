"""Losses of several draws: the loop, stacks and held-out images give them what the formula asks for."""

from __future__ import annotations

import math
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.test_stacks import alone, batches, member, same
from vae_lab import devices, evaluation
from vae_lab.checkpoints import Checkpoint
from vae_lab.config import checked
from vae_lab.data import Dataset
from vae_lab.errors import UserError
from vae_lab.evaluation.bounds import log_weight
from vae_lab.jobs.job import Job
from vae_lab.jobs.parts.built import build_objective
from vae_lab.jobs.parts.own_losses import is_stackable, try_loss
from vae_lab.jobs.parts.prepared import prepare
from vae_lab.jobs.runs.reports import Assignment, Failed, Reached
from vae_lab.jobs.runs.together import train_pack
from vae_lab.models import VAE, Posterior, autoencoded
from vae_lab.objectives import Objective, likelihood
from vae_lab.stacks import Stack, train_together
from vae_lab.training import Epoch


@pytest.fixture
def weighted(guide: Path) -> Any:
    """Makes the guide's importance-weighted loss."""

    def make(draws: int, beta: float = 1.0, kind: Any = "bernoulli") -> Objective:
        loss = import_module("my_losses").ImportanceWeighted
        pixels = likelihood(kind) if isinstance(kind, str) else kind
        return loss(draws=draws, likelihood=pixels, beta=beta)  # type: ignore[no-any-return]

    return make


@pytest.mark.parametrize("C", [0, 3])
def test_each_draw_is_decoded_as_it_would_be_alone(C: int, device: torch.device, guide: Path) -> None:
    convolutional = import_module("my_convolutions").Convolutional(
        data_size=16, image_shape=(1, 4, 4), condition_size=C, latent_size=2, hidden_size=4, outputs=1
    )
    for model in (VAE(16, C, latent_size=2, hidden_size=8), convolutional):
        model.to(device)
        x, noise = torch.rand(5, 16, device=device), torch.randn(7, 5, 2, device=device)
        c = torch.eye(max(C, 5), device=device)[:5, :C]
        logits, posterior = autoencoded(model, x, c, noise)
        assert posterior.mean.shape == (5, 2)
        for draw in range(7):
            torch.testing.assert_close(logits[draw], model(x, c, noise[draw])[0])


@pytest.mark.parametrize("C", [0, 3])
def test_the_latent_path_of_the_guides_convolutions_stays_in_float32(
    C: int, device: torch.device, guide: Path
) -> None:
    model = import_module("my_convolutions").Convolutional(
        data_size=16, image_shape=(1, 4, 4), condition_size=C, latent_size=2, hidden_size=4, outputs=1
    )
    model.to(device)
    x, c, z = (torch.rand(5, size, device=device) for size in (16, C, 2))
    with devices.autocast("bfloat16", device):
        posterior, logits = model.posterior(x, c), model.logits(z, c)
        first = model.decoder[0](torch.cat([z, c], dim=-1))
    assert logits.dtype == torch.bfloat16
    assert {posterior.mean.dtype, posterior.log_var.dtype, first.dtype} == {torch.float32}


def test_each_draw_of_a_stack_is_that_of_its_run(rows: Dataset, device: torch.device) -> None:
    models = [member(rows, seed, C=3).model for seed in range(3)]
    x, c = (
        torch.rand(3, 5, 16, device=device),
        torch.eye(3, device=device).expand(3, 3, 3)[:, [0, 1, 2, 0, 1]],
    )
    noise = torch.randn(7, 3, 5, 2, device=device)
    expected = [autoencoded(model, x[i], c[i], noise[:, i])[0] for i, model in enumerate(models)]
    together, _ = autoencoded(Stack(models), x, c, noise)
    torch.testing.assert_close(together, torch.stack(expected, dim=1))


def test_the_bound_is_that_of_the_importance_weights(weighted: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    x, logits = torch.rand(4, 16), torch.randn(6, 4, 16, generator=generator)
    q = Posterior(*torch.randn(2, 4, 3, generator=generator))
    noise = torch.randn(6, 4, 3, generator=generator)
    terms = weighted(6)(logits, x, q, noise)
    weights = log_weight(likelihood("bernoulli"), logits, x, q, noise)
    torch.testing.assert_close(terms.loss, math.log(6) - weights.logsumexp(0))
    elbo = Objective(likelihood("bernoulli"))(logits, x, q)
    torch.testing.assert_close(terms.reconstruction, elbo.reconstruction.mean(0))
    torch.testing.assert_close(terms.kl, elbo.kl)


def test_one_weight_in_the_mean_over_draws_is_the_elbo(rows: Dataset, weighted: Any) -> None:
    model = member(rows, 0).model
    draws = {"seed": 0, "draws": 300}
    plain = evaluation.held_out(model, Objective(likelihood("bernoulli")), rows.test, **draws)
    single = evaluation.held_out(model, weighted(1), rows.test, **draws)
    assert single.negative_elbo == pytest.approx(plain.negative_elbo, rel=1e-5), "of the same draws"
    assert single.loss == pytest.approx(plain.loss, rel=2e-3)
    several = evaluation.held_out(model, weighted(20), rows.test, seed=0)
    assert several.loss < single.loss


def test_runs_of_a_stack_end_where_they_would_alone(rows: Dataset, weighted: Any) -> None:
    members = [
        member(rows, seed)._replace(objective=weighted(3, beta=beta)) for seed, beta in enumerate((1.0, 2.0))
    ]
    expected = [
        alone(rows, member(rows, seed)._replace(objective=weighted(3, beta=beta)))
        for seed, beta in enumerate((1.0, 2.0))
    ]
    for number, results in enumerate(train_together(members, batches(rows, 0), epochs=3)):
        for run, epochs in enumerate(expected):
            epoch = results[run]
            assert isinstance(epoch, Epoch)
            same(epoch, epochs[number])


class OverTheBatch(Objective):
    """Compares images with each other, also those of other runs."""

    def __call__(self, logits: Any, x: Any, posterior: Any, *further: Any, **more: Any) -> Any:
        terms = super().__call__(logits, x, posterior, *further, **more)
        return terms._replace(loss=terms.loss + posterior.mean.square().mean())


class Derived(Objective):
    """Computes with numbers that its class derives from its weights."""

    def __init__(self, *arguments: Any, held: type = float, **weights: Any) -> None:
        super().__init__(*arguments, **weights)
        self.half = held(self.beta / 2)

    def __call__(self, logits: Any, x: Any, posterior: Any, *further: Any, **more: Any) -> Any:
        terms = super().__call__(logits, x, posterior, *further, **more)
        return terms._replace(loss=terms.reconstruction + float(self.half) * terms.kl)


class Held:
    """A number that no state shows."""

    def __init__(self, number: float) -> None:
        self.number = number

    def __float__(self) -> float:
        return self.number


class OfItsWarmUp(Objective):
    """Takes a warm-up for a number, after which its penalty is weighed as that of one run."""

    def __call__(self, logits: Any, x: Any, posterior: Any, *further: Any, **more: Any) -> Any:
        terms = super().__call__(logits, x, posterior, *further, **more)
        past = more["epochs_done"] > torch.as_tensor(self.warmup_epochs).min()
        return terms._replace(loss=terms.loss + past * torch.as_tensor(self.penalty_weight).max())


def stack_keys(composed: Any, *overrides: str) -> list[str | None]:
    """The stack's keys of runs with beta = 1 and beta = 8 and of two seeds of the latter."""
    line = ("data=digits", "train.device=cpu", *overrides)
    runs = (["objective.beta=1"], ["objective.beta=8"], ["objective.beta=8", "seed=1"])
    return [prepare(checked(composed(*line, *run))).stack_key for run in runs]


def test_runs_whose_losses_hold_other_numbers_share_no_stack(composed: Any) -> None:
    plain = stack_keys(composed)
    assert plain[0] == plain[1] == plain[2]
    low, high, of_other_seed = stack_keys(composed, f"objective._target_={__name__}.Derived")
    assert None not in (low, high)
    assert low != high
    assert high == of_other_seed, "seeds do"


class Weighed(Objective):
    """Weighs the KL by the size of a gradient, which it takes where there are gradients."""

    axes: tuple[int, ...] = (-2, -1)

    def __call__(self, logits: Any, x: Any, posterior: Any, *further: Any, **more: Any) -> Any:
        terms = super().__call__(logits, x, posterior, *further, **more)
        if not logits.requires_grad:
            return terms
        (slope,) = torch.autograd.grad(terms.reconstruction.sum(), posterior.mean, retain_graph=True)
        weight = slope.square().sum(self.axes, keepdim=True)[..., 0]
        return terms._replace(loss=terms.reconstruction + weight * terms.kl)


class WeighedOverRuns(Weighed):
    """The same, of all runs of a stack at once."""

    def __call__(self, logits: Any, *parts: Any, **more: Any) -> Any:
        self.axes = tuple(range(-logits.ndim, 0))
        return super().__call__(logits, *parts, **more)


def test_a_loss_that_takes_gradients_is_tried_with_them() -> None:
    runs_apart, over_runs = Weighed(likelihood("bernoulli")), WeighedOverRuns(likelihood("bernoulli"))
    names = {"objective._target_": "my.Loss", "objective.likelihood": "bernoulli"}
    for loss in (runs_apart, over_runs):
        try_loss(loss, names, data_size=16, latent_size=2)
    assert is_stackable(runs_apart, data_size=16, latent_size=2)
    assert not is_stackable(over_runs, data_size=16, latent_size=2)


def test_only_losses_that_keep_runs_apart_are_stacked(weighted: Any) -> None:
    likelihoods = import_module("my_likelihoods")
    sizes = 16, 2
    assert is_stackable(weighted(3), *sizes)
    assert is_stackable(weighted(3, kind=likelihoods.DiscretizedLogistic()), *sizes)
    assert not is_stackable(OverTheBatch(likelihood("bernoulli")), *sizes)
    one, two = (Derived(likelihood("bernoulli"), beta=beta, held=Held) for beta in (1.0, 3.0))
    assert not is_stackable(one, *sizes, other=two), "what its class derives, too"
    weights: dict[str, Any] = {"warmup_epochs": 2, "penalty": "l1", "penalty_weight": 0.5}
    assert not is_stackable(OfItsWarmUp(likelihood("bernoulli"), **weights), *sizes)
    assert is_stackable(Objective(likelihood("bernoulli"), **weights), *sizes)
    assert not is_stackable(weighted(3, kind=likelihoods.LearnedStd(0.1)), *sizes)


class Mmd(Objective):
    """Holds a draw of the posterior against one of the prior, as a Wasserstein autoencoder's loss does."""

    def __call__(self, logits: Any, x: Any, posterior: Any, *further: Any, **more: Any) -> Any:
        terms = super().__call__(logits, x, posterior, *further, **more)
        distance = (torch.randn_like(posterior.mean) - posterior.mean).square().sum(-1)
        return terms._replace(loss=terms.loss + distance)


class Projected(Objective):
    """Draws a direction when it is built."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.direction = torch.randn(2)


class Langevin(torch.optim.SGD):
    """Adds noise to every step."""

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for weights in group["params"]:
                weights.data.add_(torch.randn_like(weights), alpha=1e-3)
        return super().step(closure)


class Wandering(torch.optim.lr_scheduler.CosineAnnealingLR):
    """A schedule that draws its rates."""

    def get_lr(self) -> Any:
        return [float(torch.rand(1)) for _ in self.base_lrs]


DRAWING = {
    "loss": (f"objective._target_={__name__}.Mmd",),
    "optimizer": ("optimizer=sgd", f"optimizer._target_={__name__}.Langevin"),
}
DIGITS = ("data=digits", "train.device=cpu")
QUICK = (*DIGITS, "model.hidden_size=8", "model.layers=1", "train.epochs=2", "evaluation.pictures=false")


def states(job: Job, number: int, parts: tuple[int, ...]) -> Checkpoint:
    """Trains a run up to some epochs, each time in a process whose generator is elsewhere."""
    state: Checkpoint | None = None
    for until in parts:
        torch.manual_seed(number)
        for reports in train_pack({0: Assignment(job, state, until)}, {0}):
            for report in reports:
                assert not isinstance(report, Failed), report
                state = report.checkpoint if isinstance(report, Reached) else state
        assert state is not None
        state = Checkpoint.from_bytes(state.to_bytes(), "between")
    assert state is not None
    return state


def held_out_losses(state: Checkpoint) -> list[float]:
    return [epoch["test/loss"] for epoch in state.history]


@pytest.mark.parametrize("line", DRAWING.values(), ids=DRAWING)
def test_a_loss_and_an_optimizer_that_draw_are_seeded_as_a_model_is(
    composed: Any, line: tuple[str, ...]
) -> None:
    job = Job(checked(composed(*QUICK, *line)), "run")
    first, again, resumed = (states(job, number, parts) for number, parts in enumerate([(2,), (2,), (1, 2)]))
    for other in (again, resumed):
        assert other.step_losses == first.step_losses
        assert held_out_losses(other) == held_out_losses(first)
        torch.testing.assert_close(other.model, first.model, rtol=0, atol=0)
    assert job.parts.draws
    assert job.parts.stack_key is None, "each run of a stack would draw for all"


def test_what_does_not_draw_is_left_as_it_was(composed: Any) -> None:
    plain = prepare(checked(composed(*DIGITS)))
    own = prepare(checked(composed(*DIGITS, f"objective._target_={__name__}.Derived")))
    assert not plain.draws
    assert not own.draws
    assert own.stack_key is not None


def test_what_a_loss_draws_when_it_is_built_follows_from_the_seed(composed: Any) -> None:
    def direction(seed: int) -> Any:
        line = (f"objective._target_={__name__}.Projected", f"seed={seed}")
        return build_objective(checked(composed(*DIGITS, *line))).direction  # type: ignore[attr-defined]

    assert torch.equal(direction(0), direction(0))
    assert not torch.equal(direction(0), direction(1))


def test_a_schedule_that_draws_is_refused(composed: Any) -> None:
    line = ("scheduler=cosine", f"scheduler._target_={__name__}.Wandering")
    with pytest.raises(UserError, match=r"Wandering: draws from PyTorch's global generator") as raised:
        prepare(checked(composed(*DIGITS, *line)))
    assert "\n" not in str(raised.value)
