import gc
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor

from tests.conftest import SMALL
from vae_lab import devices, load, tracking
from vae_lab.checkpoints import Checkpoint
from vae_lab.errors import LabError, UserError
from vae_lab.jobs.crews import workers
from vae_lab.jobs.crews.crew import RunsTogether, Source, train_all
from vae_lab.jobs.crews.workers import (
    CoreShares,
    Threads,
    packs_of,
    share_cores,
    thread_crew,
    train_in_workers,
)
from vae_lab.jobs.job import Job, job_of
from vae_lab.jobs.lines.single import run_once
from vae_lab.jobs.runs.learner import Learner
from vae_lab.jobs.runs.reports import Assignment, Reached
from vae_lab.jobs.runs.run import Run
from vae_lab.jobs.runs.together import train_pack
from vae_lab.models import VAE, Posterior
from vae_lab.tracking import Store
from vae_lab.training import DivergedError

Lab = Callable[..., tuple[int, str, str]]
Compose = Callable[..., DictConfig]
CPU, GPU = torch.device("cpu"), torch.device("cuda")
CURVES = ("train/step_loss", "train/loss", "train/kl", "test/loss", "test/active_units")


def job(composed: Compose, *overrides: str) -> Job:
    return job_of(composed(*SMALL, *overrides), overrides, {})


@pytest.mark.parametrize(
    ("cores", "packs", "device", "workers", "threads", "known"),
    [
        (2, 10, CPU, None, None, CoreShares(2, 1)),
        (2, 1, CPU, None, None, CoreShares(1, 2)),  # one run has the machine for itself
        (64, 10, CPU, None, None, CoreShares(10, 6)),
        (8, 10, CPU, None, 4, CoreShares(2, 4)),
        (8, 10, CPU, 3, None, CoreShares(3, 2)),
        (8, 10, CPU, 3, 4, CoreShares(3, 4)),
        (1, 10, CPU, None, 2, CoreShares(1, 2)),
        (16, 10, GPU, None, None, CoreShares(1, 16)),
        (16, 10, GPU, 2, None, CoreShares(2, 8)),
    ],
)
def test_the_cores_are_shared_out_once(
    cores: int,
    packs: int,
    device: torch.device,
    workers: int | None,
    threads: int | None,
    known: CoreShares,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: cores)
    assert share_cores(packs, device, workers, threads) == known


class Faulty(Source):
    """A source that cannot take note of its only pack."""

    def __init__(self) -> None:
        super().__init__()
        self.packs = iter([RunsTogether([])])

    def _next(self) -> RunsTogether | None:
        return next(self.packs, None)

    def _note(self, pack: RunsTogether) -> None:
        raise LabError("What came of it cannot be told.")


def test_a_source_that_fails_ends_the_work_and_no_worker_waits_for_ever() -> None:
    with pytest.raises(LabError, match="cannot be told"):
        train_all(Threads(2, threads=1), Faulty())


def test_the_longest_work_comes_first() -> None:
    assert packs_of([50, 70, 100, 1], ["a", "b", "a", None], stack=1, workers=2) == [[2], [1], [0], [3]]


def test_runs_of_one_kind_are_stacked_and_every_worker_gets_a_stack() -> None:
    work, keys = [1] * 10, ["a"] * 10
    assert packs_of(work, keys, stack=16, workers=2) == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    assert packs_of(work, keys, stack=4, workers=2) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert packs_of([1, 1, 1, 5], ["a", None, "a", None], stack=16, workers=1) == [[3], [0, 2], [1]]


def test_runs_that_differ_in_seed_optimizer_schedule_and_weights_of_the_loss_can_be_stacked(
    composed: Compose,
) -> None:
    def key(*overrides: str) -> str | None:
        return job(composed, *overrides).parts.stack_key

    base = key()
    assert base is not None
    same = ("seed=3", "optimizer.lr=1e-4", "optimizer=sgd", "scheduler=cosine", "objective.beta=4")
    assert {key(each) for each in same} == {base}
    for other in (
        "model.latent_size=3",
        "model=cvae",
        "model.init=xavier",
        "train.batch_size=64",
        "train.epochs=3",
        "data.binarize=fixed",
        "objective=gaussian",
        "objective.penalty=ard",
    ):
        assert key(other) != base


class AlongFeatures(VAE):
    """Divides what is hidden by its norm."""

    axis = -1

    def posterior(self, x: Tensor, c: Tensor) -> Posterior:
        hidden = self.encoder(torch.cat([x, c], dim=-1))
        hidden = hidden / (1e-3 + hidden.norm(dim=self.axis, keepdim=True))
        return Posterior(self.mean(hidden), self.log_var(hidden))


class AlongAxis1(AlongFeatures):
    """The same, with an axis that is the features of one run, and the images of each in a stack."""

    axis = 1


class OverImages(AlongFeatures):
    """Also tells images of a minibatch, or runs of a stack, from each other."""

    axis = 0


class FromZero(AlongAxis1):
    """Begins with outputs that tell nothing of what is hidden."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        for layer in (self.mean, self.log_var):
            torch.nn.init.zeros_(layer.weight)


class Steered(VAE):
    """Changes gradients by the norm of all of them."""

    def logits(self, z: Tensor, c: Tensor) -> Tensor:
        logits = super().logits(z, c)
        if logits.requires_grad:
            logits.register_hook(lambda gradient: gradient / gradient.norm())
        return logits


class Drawing(VAE):
    """Draws numbers, and does not say so."""

    def logits(self, z: Tensor, c: Tensor) -> Tensor:
        return super().logits(z + 0.1 * torch.randn_like(z), c)


class Shared(VAE):
    """Has one layer in two places."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.decoder[2] = self.encoder[2]


@pytest.mark.parametrize(
    ("model", "stacked"),
    [
        (AlongFeatures, True),
        (AlongAxis1, False),
        (OverImages, False),
        (FromZero, False),
        (Steered, False),
        (Drawing, False),
        (Shared, False),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_model_of_ones_own_is_stacked_if_it_does_there_what_it_does_alone(
    composed: Compose, model: type[VAE], stacked: bool
) -> None:
    chosen = [f"model._target_={__name__}.{model.__name__}", "model.layers=2"]
    assert (job(composed, *chosen).parts.stack_key is not None) is stacked
    with_conditions = job(composed, *chosen, "model.conditional=true", "seed=1")
    assert (with_conditions.parts.stack_key is not None) is stacked


def curves(run_id: str) -> Mapping[str, list[float]]:
    store = Store.open()
    return {name: store.history(run_id, name) for name in CURVES}


def test_auto_takes_one_format_for_all_seeds(composed: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "faster_precisions", lambda device: ["bfloat16"])
    chosen = ["train.precision=auto", "objective=gaussian", "objective.std=0.05", "model.layers=2"]
    chosen.append("model.hidden_size=400")
    jobs = [job(composed, *chosen, f"seed={seed}") for seed in range(6)]
    assert len({Learner(0, Assignment(one, None, 1)).precision for one in jobs}) == 1


def last_states(*assignments: Assignment) -> list[Checkpoint]:
    """Trains runs that are given to one worker together, and returns how they end."""
    states: dict[int, Checkpoint] = {}
    places = range(len(assignments))
    for reports in train_pack(dict(enumerate(assignments)), places):
        states |= {report.place: report.checkpoint for report in reports if isinstance(report, Reached)}
    return [states[place] for place in places]


def test_runs_of_another_format_are_trained_in_another_stack(composed: Compose) -> None:
    jobs = [job(composed, "train.precision=auto", "model.layers=2", f"seed={seed}") for seed in range(3)]

    def begun(index: int) -> Assignment:
        (state,) = last_states(Assignment(jobs[index], None, 1))
        precision = "bfloat16" if index == 1 else "float32"
        return Assignment(jobs[index], state._replace(precision=precision), 2)

    together = last_states(*map(begun, range(3)))
    (alone,) = last_states(begun(1))
    assert [state.precision for state in together] == ["float32", "bfloat16", "float32"]
    assert together[1].step_losses == alone.step_losses
    in_one_stack = last_states(begun(0), begun(2))
    assert [state.step_losses for state in together[::2]] == [state.step_losses for state in in_one_stack]


def test_a_runs_curve_does_not_depend_on_who_trains_beside_it(folder: object, composed: Compose) -> None:
    common = ("train.threads=1", "model=cvae", "reuse=never")
    jobs = [job(composed, *common, f"seed={seed}") for seed in range(4)]
    together = train_in_workers(jobs, partial(thread_crew, workers=3))
    backwards = train_in_workers(jobs[::-1], partial(thread_crew, workers=2))[::-1]
    alone = [run_once(job) for job in jobs]
    for several, others, one in zip(together, backwards, alone, strict=True):
        assert isinstance(several, str)
        assert isinstance(others, str)
        assert curves(several) == curves(one) == curves(others)
        weights, known = (load(run_id).module.state_dict() for run_id in (several, one))
        assert all(torch.equal(weights[name], known[name]) for name in known)


def test_stacked_runs_each_leave_the_record_of_a_run_alone(lab: Lab) -> None:
    sweep = (*SMALL, "-m", "seed=0,1,2", "optimizer.lr=1e-3,1e-2")
    assert lab(*sweep, "hydra/launcher=stacked", "hydra.launcher.workers=1")[0] == 0
    assert lab(*sweep, "reuse=never", "hydra/launcher=basic")[0] == 0
    store = Store.open()
    runs = [each for each in store.records() if each.kind == tracking.RUN]
    stacked = {each.name: each for each in runs if each.tags.get("vae_lab.stack") == "6"}
    alone = {each.name: each for each in runs if "vae_lab.stack" not in each.tags}
    assert len(stacked) == 6
    assert stacked.keys() == alone.keys()
    for name, record in stacked.items():
        assert record.status == "FINISHED"
        assert record.params == alone[name].params
        assert record.metrics.keys() == alone[name].metrics.keys()
        found, known = curves(record.run_id), curves(alone[name].run_id)
        for metric in CURVES:
            assert found[metric] == pytest.approx(known[metric], rel=1e-3)
        listed = [
            {file.path for file in store.client.list_artifacts(each.run_id, "figures")}
            for each in (record, alone[name])
        ]
        assert listed[0] == listed[1]
        x = torch.rand(2, 64)
        outputs = [
            load(each.run_id).module(x, torch.empty(2, 0), torch.zeros(2, 15))[0]
            for each in (record, alone[name])
        ]
        torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-2, atol=1e-2)


def test_a_diverging_run_of_a_stack_fails_alone(lab: Lab) -> None:
    code, _, err = lab(*SMALL, "-m", "optimizer=sgd", "optimizer.lr=1e-5,1e20,1e-4", "hydra/launcher=stacked")
    assert code == 1
    assert "1 of 3 runs failed" in err
    assert "lr=1e+20 vae L3 Z15 s0: training diverged" in err
    found = {each.name: each for each in Store.open().records()}
    assert {name: each.status for name, each in found.items()} == {
        "lr=1e-05 vae L3 Z15 s0": "FINISHED",
        "lr=1e+20 vae L3 Z15 s0": "FAILED",
        "lr=0.0001 vae L3 Z15 s0": "FINISHED",
        "lr": "FAILED",
    }
    assert "training diverged" in found["lr=1e+20 vae L3 Z15 s0"].tags["vae_lab.error"]


def test_runs_that_ended_keep_neither_models_nor_curves(
    folder: object, composed: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    def models() -> int:
        gc.collect()
        return sum(type(item) is VAE for item in gc.get_objects())  # others warn when asked

    def begun(job: Job) -> Run:
        runs.append(Run(job))
        return runs[-1]

    runs: list[Run] = []
    monkeypatch.setattr(workers, "Run", begun)
    before = models()
    rates = ("optimizer.lr=1e20", "optimizer.lr=1e-5", "optimizer.lr=1e21")
    jobs = [job(composed, "optimizer=sgd", "train.epochs=1", rate) for rate in rates]
    results = train_in_workers(jobs, partial(thread_crew, workers=1))
    assert [*map(type, results)] == [DivergedError, str, DivergedError]
    assert models() == before
    assert [run.history for run in runs] == [[], [], []]
    failed = [run for run in Store.open().records() if run.status == "FAILED"]
    assert ["training diverged" in run.tags[tracking.ERROR] for run in failed] == [True, True]


def test_a_config_that_is_not_valid_stops_all_before_the_first(folder: object, composed: Compose) -> None:
    with pytest.raises(UserError, match=r"model.activation=nothing"):
        train_in_workers([job(composed), job(composed, "model.activation=nothing")])
    with pytest.raises(UserError, match="no runs are kept here yet"):
        Store.open()
