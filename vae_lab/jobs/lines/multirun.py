"""A multirun from its grid to its parent run: nothing trained twice, every result recorded."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import NamedTuple

import msgspec
from omegaconf import DictConfig

from vae_lab import devices, tracking
from vae_lab.errors import LabError, UserError, quoted, without_credentials
from vae_lab.evaluation import spectrum
from vae_lab.jobs import progress
from vae_lab.jobs.commands import multirun_command
from vae_lab.jobs.job import Job, Multirun, Result, UnderWayError
from vae_lab.jobs.lines.declarations import known_claims, let_go_of_superseded, with_declarations
from vae_lab.jobs.lines.rounds import Grid, Key, announced, plan_of, rounds, study_name
from vae_lab.jobs.parts.datasets import dataset
from vae_lab.jobs.runs.measuring import add_measures, record_plan, wants_measures
from vae_lab.jobs.runs.under_way import check_multirun, wait_for
from vae_lab.report import tables
from vae_lab.report.conclusion import conclude
from vae_lab.report.page import rendering
from vae_lab.report.terminal import output
from vae_lab.report.verdicts import print_verdicts
from vae_lab.studies import latent_size
from vae_lab.studies.claims import Verdict, judge_study
from vae_lab.studies.names import unambiguous_name, whose_runs
from vae_lab.studies.plan import Plan
from vae_lab.studies.study import load_study
from vae_lab.tracking import Recorder, RunFolder, Store, StoredRun
from vae_lab.tracking.abandoned import check_delivered, close_abandoned, finished_runs
from vae_lab.tracking.environment import experiment_name
from vae_lab.tracking.tagging import tag_runs

Launch = Callable[[list[Job]], Sequence[Result]]


class MultirunError(LabError):
    """Some runs of a multirun failed; the others are recorded."""

    def __init__(self, message: str, failures: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.details = [*map(without_credentials, failures)]


class Parent(NamedTuple):
    """The parent run of a multirun under way."""

    store: Store
    recorder: Recorder
    study: str
    failures: list[str]  # a line for each job that failed


def run_multirun(master: DictConfig, arguments: Sequence[str], grid: Grid, launch: Launch) -> None:
    """Runs a multirun and gives its parent run the tables and pictures, whatever failed.

    Args:
        master: The composed config of the multirun, with its `hydra` node.
        arguments: The command line's overrides.
        grid: Returns axes and checked jobs for a number of seeds.
        launch: Trains jobs.

    Raises:
        UserError: A point is not valid; nothing has been trained or written.
        MultirunError: Some runs failed.
    """
    following = rounds(master, grid, lambda: _verdicts(parent), known_claims)
    first = next(following)
    settings = next(iter(first.jobs.values())).settings
    check_names(settings)
    store = Store.open(settings.tracking.uri, create=True)
    store.wait = settings.tracking.wait
    study = study_name(master, first.axes)
    tags = {tracking.STUDY: study, tracking.COMMAND: multirun_command(master.hydra, arguments)}
    finished: set[Key] = set()
    seen = _finished(store, first.jobs)
    plan = plan_of(master, first, study, master.seeds == "auto")
    experiment = experiment_name(store, settings.tracking.experiment)
    plan = announced(with_declarations(plan, store, seen.values(), experiment), first)
    with parent_run(store, experiment, tags, plan, anew=master.reuse == "never") as parent:
        _record_spectrum(parent.recorder, settings)
        for current in chain([first], following):
            if current is not first:
                wider = plan_of(master, current, study, plan.sequential)
                record_plan(parent.recorder, msgspec.structs.replace(wider, declared=plan.declared))
            wanted = {key: job for key, job in current.jobs.items() if key not in finished}
            there = seen if current is first else _finished(store, wanted)
            _train(parent, wanted, {} if master.reuse == "never" else there, len(current.jobs), launch)
            finished |= wanted.keys()
    if parent.failures:
        raise MultirunError(f"{len(parent.failures)} of {len(finished)} runs failed:", parent.failures)


def check_names(settings: DictConfig) -> None:
    """Raises a UserError for a name of a single run in a multirun."""
    if (name := settings.tracking.run_name) is not None:
        raise UserError(
            f"tracking.run_name={quoted(name)}: is for a single run; the runs of a multirun are named by "
            "what tells them apart, and all of them together by study.name."
        )


def _verdicts(parent: Parent) -> list[Verdict]:
    verdicts = judge_study(load_study(parent.store, parent.recorder.run_id))
    return [verdict for verdict in verdicts if not verdict.dropped]  # nobody waits for these


@contextmanager
def parent_run(
    store: Store, experiment: str, tags: dict[str, str], plan: Plan, *, anew: bool
) -> Iterator[Parent]:
    """Yields the multirun's parent run: the one that the same command left unfinished, else a new one.

    It has its plan before anything else is done. In the end, failures or not, it gets its tables, pictures
    and status.
    """
    study = tags[tracking.STUDY]
    with tracking.start_lock(store.uri):  # of two equal commands at once, the second sees the first's parent
        unfinished = None if anew else _unfinished(store, experiment, tags)
        if unfinished is not None:
            stored, folder = unfinished
            progress.console.print(f"{study}: goes on where it ended before.")
            recorder = store.reopen(stored.run_id)
        else:
            recorder = store.start(experiment, study, kind=tracking.SWEEP, tags=tags)
            locked = RunFolder.lock(store.uri, recorder.run_id)
            assert locked is not None, "a run that was just made has no other process"
            folder = locked
    parent = Parent(store, recorder, study, [])
    status, planned = "KILLED", False
    try:
        record_plan(parent.recorder, plan)
        planned = True
        if unfinished is not None:
            let_go_of_superseded(store, recorder.run_id, plan)
        yield parent
        status = "FAILED" if parent.failures else "FINISHED"
    finally:
        try:
            if planned:
                _conclude(parent, status)
            else:
                parent.recorder.finish(status)
        finally:
            folder.release()


def _unfinished(store: Store, experiment: str, tags: dict[str, str]) -> tuple[StoredRun, RunFolder] | None:
    """Returns a parent run of the same command that did not finish and that no process is at work on.

    It is the user's own, in the same experiment: of the same command of others everybody has one.

    Raises:
        UnderWayError: A process of this machine is at work on one.
    """
    names, own = store.experiments(), tags | {tracking.OWNER: tracking.owner(store.uri)}
    unfinished = [
        run
        for run in store.tagged(tracking.KIND, tracking.SWEEP)
        if run.status != "FINISHED"
        and names.get(run.experiment_id) == experiment
        and own.items() <= run.tags.items()
    ]
    closed = {run.run_id for run in close_abandoned(store, unfinished)}
    check_delivered(store, [run for run in unfinished if run.run_id not in closed])
    for run in unfinished:
        if store.record(run.run_id).status == "RUNNING":
            check_multirun(run)
        elif (folder := RunFolder.lock(store.uri, run.run_id)) is not None:
            return run, folder
        else:
            raise UnderWayError(f"{run.name}: another process is training it now.")
    return None


def _record_spectrum(recorder: Recorder, settings: DictConfig) -> None:
    """Records what the recipes for the latent size ask of the data, for a study that compares them."""
    if settings.study.oracle is None:
        return
    data = dataset(settings.data, devices.resolve(settings.train.device))
    with (
        progress.busy("Measuring the spectrum of the training data"),
        recorder.artifacts(sealed=[latent_size.SPECTRUM_FILE]) as folder,
    ):
        objective = settings.objective
        measured = latent_size.Spectrum(
            data=data.name,
            checksum=data.checksum,
            images=len(data.train),
            eigenvalues=spectrum.eigenvalues(data.train).tolist(),
            noise_variance=spectrum.assumed_variance(data.train, objective.likelihood, objective.std),
        )
        (folder / latent_size.SPECTRUM_FILE).write_text(measured.to_json(), encoding="utf-8")


def _train(
    parent: Parent, wanted: dict[Key, Job], finished: dict[Key, StoredRun], planned: int, launch: Launch
) -> None:
    """Trains the jobs that have no finished run; those that fail are added to the parent's failures.

    A run of the same result that another process has under way is waited for.

    Args:
        parent: The parent run.
        wanted: Jobs that were not tried in an earlier round.
        finished: Runs that are taken in place of these jobs.
        planned: Runs of the whole round, which share the cores.
        launch: Trains jobs.
    """
    missing = [job for key, job in wanted.items() if key not in finished]
    if finished:
        rest = f"training {len(missing)}" if missing else "nothing is left to train"
        there = f"{len(finished)} of {len(wanted)} runs are there already"
        others = whose_runs(finished.values(), parent.store.uri)
        progress.console.print(f"{there}{others}, {rest} (reuse=never trains all).")
    _adopt(parent, finished, wanted)
    if not missing:
        return
    jobs = [job.within(Multirun(parent.recorder.run_id, parent.study, planned, job.name)) for job in missing]
    with progress.open_display(len(jobs), sum(job.settings.train.epochs for job in jobs)):
        results = launch(jobs)
    waiting = {}
    for job, result in zip(jobs, results, strict=True):
        if isinstance(result, UnderWayError):
            waiting[job.key] = job
        elif isinstance(result, Exception):
            reason = (str(result) or type(result).__name__).splitlines()[0]
            parent.failures.append(f"  {job.name}: {reason}")
    if waiting:
        wait_for(parent.store, waiting.values())
        _train(parent, waiting, _finished(parent.store, waiting), planned, launch)


def _finished(store: Store, wanted: dict[Key, Job]) -> dict[Key, StoredRun]:
    runs = finished_runs(store, {fingerprint for fingerprint, _ in wanted})
    return {key: runs[key[0]] for key in wanted if key[0] in runs}


def _adopt(parent: Parent, finished: Mapping[Key, StoredRun], wanted: Mapping[Key, Job]) -> None:
    """Makes runs that are there already those of the multirun, with the measures that it asks for."""
    store, member = parent.store, tracking.member_tag(parent.recorder.run_id)
    others = [run.run_id for run in finished.values() if run.tags.get(member) != "1"]
    with progress.busy(f"Taking over {len(others)} runs"):
        tag_runs(store, others, member, "1")
    for key, run in finished.items():
        job = wanted[key]
        if wants_measures(job.settings) and add_measures(store, run, job.name, job.settings) == "failed":
            parent.failures.append(f"  {job.name}: could not be measured")


def _conclude(parent: Parent, status: str) -> None:
    """Ends every multirun: tables and pictures on the parent run and in the terminal.

    A parent that does not get them has not finished: the same command goes on with it.
    """
    store, run_id = parent.store, parent.recorder.run_id
    try:
        conclusion = conclude(store, parent.recorder)
    except BaseException as error:
        parent.recorder.finish("FAILED" if isinstance(error, Exception) else "KILLED")
        raise
    parent.recorder.finish(status)
    terminal = output()
    for table in conclusion.tables:
        terminal.print()
        tables.show(table, terminal)
    name = unambiguous_name(store, store.record(run_id))
    again = name if " " not in name else run_id
    verdicts = conclusion.verdicts
    lows = [verdict.needed.low for verdict in verdicts if verdict.needed and verdict.needed.low < math.inf]
    if any(verdict.settled or verdict.standing for verdict in verdicts) or (verdicts and not lows):
        terminal.print()
        print_verdicts(verdicts, terminal)
    elif verdicts:
        needed = max(lows)
        terminal.print(
            f"\nAll {len(verdicts)} claims are undecided: they take at least {needed:.0f} seeds "
            f"(seeds={needed:.0f}) and every claim's metric (evaluation=full has all). "
            f"Claim by claim: vae-lab verdict {again}",
            soft_wrap=True,
        )
    sheet = store.place(run_id, "figures/contact_sheet.png")
    terminal.print(f"\nContact sheet  {sheet}", soft_wrap=True)
    page = store.place(run_id, rendering.ARTIFACT)
    terminal.print(f"The study page {page}", soft_wrap=True)
    terminal.print(f"Tables again   vae-lab compare {again}")
    terminal.print(f"With sliders   vae-lab explore {again}")
    terminal.print("In the browser vae-lab ui")
