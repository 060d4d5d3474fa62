"""The runs of a search: entered in its plan as they come, taken over where they are there, and measured."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import msgspec

from vae_lab import config, tracking
from vae_lab.jobs import progress
from vae_lab.jobs.job import Job, Multirun
from vae_lab.jobs.lines.multirun import Parent
from vae_lab.jobs.runs.measuring import add_measures, record_plan, wants_measures
from vae_lab.jobs.search.engine import Order
from vae_lab.jobs.search.points import Points
from vae_lab.studies.plan import Plan
from vae_lab.tracking import StoredRun
from vae_lab.tracking.abandoned import finished_run, finished_runs, unfinished_runs


class Members:
    """The runs of a search under its parent run, whose plan has them as they come.

    Args:
        parent: The parent run.
        plan: Without runs.
        points: Makes jobs of points.
        planned: How many runs share the cores.
    """

    def __init__(self, parent: Parent, plan: Plan, points: Points, planned: int) -> None:
        self.parent, self.plan, self.points, self.planned = parent, plan, points, planned
        self.jobs: dict[int, Job] = {}
        self._there: list[tuple[Job, StoredRun]] = []  # not trained by this command, and to be measured
        # Of each job, so that it is asked once: to record 10,000 trials as they come asks 50 million times.
        self._keys: dict[int, tuple[str, str]] = {}
        self._varied: dict[int, dict[str, str]] = {}

    def job_of(self, order: Order) -> Job:
        """Returns the job of an order's point, which is in the plan from now on."""
        job = self._enter(order.number, order.values)
        self.record()
        return job

    def settled(self, job: Job) -> StoredRun | None:
        """Returns the finished run of the same result, which is the search's from now on."""
        run = finished_run(self.parent.store, job.parts.fingerprint)
        if run is not None:
            self._adopt(run)
            if wants_measures(job.settings):
                self._there.append((job, run))
        return run

    def measure(self) -> None:
        """Takes the measures that the search asks for of the runs that were there, where they lack them.

        Not as they come: others would wait for it before they are told what to train next.
        """
        for job, run in self._there:
            if add_measures(self.parent.store, run, job.name, job.settings) == "failed":
                self.parent.failures.append(f"  {job.name}: could not be measured")

    def without_run(self, trials: Mapping[int, Mapping[str, Any]]) -> list[int]:
        """Returns those of some trials of full length, by their settings, that have no finished run any more.

        A store may be lost, or a run deleted, while Optuna's storage is left.
        """
        fingerprints = {number: self._job(values).parts.fingerprint for number, values in trials.items()}
        there = finished_runs(self.parent.store, {*fingerprints.values()})
        missing = [number for number, fingerprint in fingerprints.items() if fingerprint not in there]
        if missing:
            place = tracking.store_name(self.parent.store.uri)
            progress.console.print(
                f"{len(missing)} of {len(trials)} trials of full length have no run in {place} any more: "
                "they are trained once more.",
                soft_wrap=True,
            )
        return missing

    def take_over(self, number: int, values: Mapping[str, Any]) -> None:
        """Makes the runs of a trial the search's that it did not touch: of an earlier process, or command."""
        if number in self.jobs:
            return
        job = self._enter(number, values)
        if self.settled(job) is None:
            for run in unfinished_runs(self.parent.store, tracking.FINGERPRINT, job.parts.fingerprint)[:1]:
                self._adopt(run)
                if tracking.STOPPED not in run.tags and run.status == "KILLED":
                    epoch = tracking.heartbeat(run).get("epoch", 0)
                    self.parent.store.recorder(run).tag({tracking.STOPPED: str(epoch)})

    def record(self) -> None:
        """Writes the plan with the runs and the values that there are by now."""
        numbers = sorted(self.jobs)
        varied: dict[str, dict[str, None]] = {key: {} for key in self.plan.cross}
        for number in numbers:
            for key, value in self._varied[number].items():
                varied[key][value] = None
        runs, cross = [self._keys[number] for number in numbers], {key: [*varied[key]] for key in varied}
        record_plan(self.parent.recorder, msgspec.structs.replace(self.plan, runs=runs, cross=cross))

    def _enter(self, number: int, values: Mapping[str, Any]) -> Job:
        """Returns the job of a trial by its settings, which is the search's from now on."""
        job = self.jobs[number] = self._job(values)
        parameters = config.parameters(job.settings)
        self._keys[number] = job.key
        self._varied[number] = {key: parameters[key] for key in self.plan.cross if key in parameters}
        return job

    def _job(self, values: Mapping[str, Any]) -> Job:
        job = self.points.job(values)
        multirun = Multirun(self.parent.recorder.run_id, self.parent.study, self.planned, job.name)
        return job.within(multirun)

    def _adopt(self, run: StoredRun) -> None:
        store, member = self.parent.store, tracking.member_tag(self.parent.recorder.run_id)
        if run.tags.get(member) != "1":
            store.ask(partial(store.client.set_tag, run.run_id, member, "1", synchronous=True))
