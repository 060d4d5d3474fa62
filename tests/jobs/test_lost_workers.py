"""Runs whose workers are lost or refuse, without a Ray: others go on from the last epoch."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.jobs.conftest import losses
from vae_lab import interruption
from vae_lab.errors import LabError
from vae_lab.jobs.crews import crew
from vae_lab.jobs.crews.crew import LostWorkerError, Member, Queue, RefusedError, RunsTogether, train_all
from vae_lab.jobs.crews.workers import Thread
from vae_lab.jobs.job import Job
from vae_lab.jobs.progress import open_display
from vae_lab.jobs.runs.ran_on import DEVICE
from vae_lab.jobs.runs.reports import Assignment, Began, Report
from vae_lab.jobs.runs.run import Run
from vae_lab.tracking import WAITING, WORKER, Store


class Mortal(Thread):
    """A member whose machine is lost after some of its reports."""

    def __init__(self, reports: int) -> None:
        super().__init__(threads=1)
        self.reports = reports

    def train(
        self, assignments: Mapping[int, Assignment], wanted: Container[int]
    ) -> Iterator[Sequence[Report]]:
        for number, reports in enumerate(super().train(assignments, wanted)):
            if number == self.reports:
                self.is_lost = True
                raise LostWorkerError("A machine is gone.")
            yield reports


class Elsewhere(Mortal):
    """A member on a machine of some name, which is lost after some of its reports."""

    def __init__(self, name: str, reports: int) -> None:
        super().__init__(reports)
        self.name = name

    def train(
        self, assignments: Mapping[int, Assignment], wanted: Container[int]
    ) -> Iterator[Sequence[Report]]:
        for reports in super().train(assignments, wanted):
            yield [
                report._replace(tags={**report.tags, DEVICE: self.name})
                if isinstance(report, Began)
                else report
                for report in reports
            ]


class Stopped(Mortal):
    """A member that is lost as the user asks to stop."""

    def train(
        self, assignments: Mapping[int, Assignment], wanted: Container[int]
    ) -> Iterator[Sequence[Report]]:
        try:
            yield from super().train(assignments, wanted)
        except LostWorkerError:
            interruption.request()
            raise


class Refusing(Thread):
    """A member whose machine lacks the data."""

    def train(
        self, assignments: Mapping[int, Assignment], wanted: Container[int]
    ) -> Iterator[Sequence[Report]]:
        raise RefusedError("A machine lacks the data.")


class Spent(Thread):
    """A member that has to be ended when a state that it sends is damaged."""

    def train(
        self, assignments: Mapping[int, Assignment], wanted: Container[int]
    ) -> Iterator[Sequence[Report]]:
        if self.is_lost:
            raise LostWorkerError("A machine is gone.")
        self.is_lost = True
        raise ValueError("a damaged state")


class Looking(Thread):
    """A member that looks into the store before each of its reports: what a run is said to wait for."""

    def __init__(self, looks: list[str | None]) -> None:
        super().__init__(threads=1)
        self.looks = looks

    def train(
        self, assignments: Mapping[int, Assignment], wanted: Container[int]
    ) -> Iterator[Sequence[Report]]:
        for reports in super().train(assignments, wanted):
            (stored,) = Store.open().tagged("vae_lab.kind", "run")
            self.looks.append(stored.tags.get(WAITING))
            yield reports


class InTurn:
    """A crew of some members at a time, and others in their place; then there are no more."""

    def __init__(self, size: int, *members: Member) -> None:
        self.size, self.members = size, iter(members)

    def member(self, _over: Callable[[], bool]) -> Member | None:
        return next(self.members, None)


class Full(InTurn):
    """A crew on machines that have room for some members; for the others it waits, as `RayCrew` does."""

    def member(self, over: Callable[[], bool]) -> Member | None:
        member = next(self.members, None)
        while member is None and not over():
            time.sleep(0.01)
        return member


def mortals(*reports: int) -> InTurn:
    """A crew whose members live for so many reports, one after the other."""
    return InTurn(1, *map(Mortal, reports))


def test_a_run_goes_on_in_another_workers_hands_from_the_last_epoch(
    job: Job, undisturbed: dict[str, list[dict[int, float]]]
) -> None:
    plain = replace(job, settings=job.settings.copy())
    plain.settings.optimizer.lr = 1e-3
    plain.settings.evaluation.pictures = False
    run = Run(plain)
    with open_display(1, 4):
        train_all(mortals(0, 3, 9), Queue([RunsTogether([run])]))
    assert isinstance(run.result, str)
    (curve,) = losses(Path.cwd())[plain.parts.fingerprint]
    assert [curve] in undisturbed.values()


def test_a_run_says_that_it_waits_for_another_worker_until_one_has_trained_an_epoch(job: Job) -> None:
    job.settings.evaluation.pictures = False
    looks: list[str | None] = []
    with open_display(1, 4):
        train_all(InTurn(1, Mortal(2), Looking(looks)), Queue([RunsTogether([Run(job)])]))
    began, *_, ended = looks
    assert (began, ended) == (WORKER, None)


@pytest.mark.parametrize(
    ("machines", "device"),
    [
        ([("A", 3), ("B", 2), ("C", 9)], "A to epoch 2, then B to epoch 3, then C"),
        ([("A", 3), ("B", 1), ("C", 9)], "A to epoch 2, then C"),  # B came to no epoch
        ([("A", 3), ("B", 1), ("A", 9)], "A"),
    ],
)
def test_a_run_names_every_machine_that_trained_some_of_its_epochs(
    job: Job, machines: list[tuple[str, int]], device: str
) -> None:
    members = [Elsewhere(name, reports) for name, reports in machines]
    job.settings.evaluation.pictures = False
    with open_display(1, 4):
        train_all(InTurn(1, *members), Queue([RunsTogether([Run(job)])]))
    (stored,) = Store.open(job.settings.tracking.uri).tagged("vae_lab.kind", "run")
    assert stored.tags[DEVICE] == device


def test_a_run_that_ends_three_workers_is_given_up_and_others_are_not(job: Job) -> None:
    other = replace(job, settings=job.settings.copy())
    other.settings.seed = 1
    runs = [Run(job), Run(other)]
    with open_display(2, 8):
        train_all(mortals(1, 1, 1, 9), Queue([RunsTogether([run]) for run in runs]))
    assert "Given up: this was its worker number 3." in str(runs[0].result)
    assert isinstance(runs[1].result, str)


def test_without_any_worker_left_what_is_open_is_closed_as_failed(job: Job) -> None:
    run = Run(job)
    with open_display(1, 4), pytest.raises(Exception, match=r"No worker is left\. A machine is gone\."):
        train_all(mortals(1), Queue([RunsTogether([run])]))
    (stored,) = Store.open(job.settings.tracking.uri).tagged("vae_lab.kind", "run")
    assert stored.status == "FAILED"


def test_what_a_lost_worker_left_is_closed_as_killed_where_the_user_asks_to_stop(job: Job) -> None:
    run = Run(job)
    with open_display(1, 4), pytest.raises(KeyboardInterrupt):
        train_all(InTurn(1, Stopped(2), Thread(1)), Queue([RunsTogether([run])]))
    (stored,) = Store.open(job.settings.tracking.uri).tagged("vae_lab.kind", "run")
    assert stored.status == "KILLED"


def test_who_refuses_is_not_asked_again_and_a_lost_worker_is_still_replaced(job: Job) -> None:
    run = Run(job)
    with open_display(1, 4):
        train_all(InTurn(2, Refusing(1), Mortal(1), Thread(1)), Queue([RunsTogether([run])]))
    assert isinstance(run.result, str)
    assert run.lost_workers == 1


def test_where_all_refuse_the_reason_is_said(job: Job) -> None:
    packs = Queue([RunsTogether([Run(job)])])
    with open_display(1, 4), pytest.raises(LabError, match=r"No worker is left\. A machine lacks the data\."):
        train_all(InTurn(1, Refusing(1), Thread(1)), packs)


@pytest.mark.timeout(30)
def test_where_all_that_have_room_refuse_the_reason_is_said_and_no_others_are_waited_for(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew, "PATIENCE_SECONDS", 0.1, raising=False)
    packs = Queue([RunsTogether([Run(job)])])
    with open_display(1, 4), pytest.raises(LabError, match=r"No worker is left\. A machine lacks the data\."):
        train_all(Full(3, Refusing(1)), packs)
    (stored,) = Store.open(job.settings.tracking.uri).tagged("vae_lab.kind", "run")
    assert stored.status == "FAILED"


def test_a_further_worker_is_waited_for_while_anybody_trains_and_where_nobody_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(crew, "PATIENCE_SECONDS", 0.0)
    state = crew.CrewState()
    state.came()
    state.came()
    state.tell(LostWorkerError("A machine is gone."))
    state.left()
    assert not state.is_waited_in_vain()
    state.tell(RefusedError("A machine lacks the data."))
    assert not state.is_waited_in_vain()
    state.left()
    assert state.is_waited_in_vain()
    monkeypatch.setattr(crew, "PATIENCE_SECONDS", 60.0)
    assert not state.is_waited_in_vain()  # one may be starting


def test_after_an_error_of_its_own_a_worker_that_has_ended_is_not_taken_for_a_lost_one(job: Job) -> None:
    other = replace(job, settings=job.settings.copy())
    other.settings.seed = 1
    runs = [Run(job), Run(other)]
    with open_display(2, 8):
        train_all(InTurn(1, Spent(1), Thread(1)), Queue([RunsTogether([run]) for run in runs]))
    assert isinstance(runs[0].result, ValueError)
    assert isinstance(runs[1].result, str)
    assert [run.lost_workers for run in runs] == [0, 0]
