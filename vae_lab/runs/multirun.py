"""A multirun from its points to its parent run: nothing trained twice, every result kept."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial

import pandas as pd
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig, OmegaConf

from vae_lab import devices, tracking
from vae_lab.errors import LabError, UserError
from vae_lab.report import tables
from vae_lab.report.conclusion import conclude
from vae_lab.report.page import rendering
from vae_lab.report.verdicts import print_verdicts
from vae_lab.runs import progress
from vae_lab.runs.grid import REPLICATED, axes, points
from vae_lab.runs.measuring import add, wants_measures
from vae_lab.runs.parts import dataset, prepare
from vae_lab.runs.planning import Round, chosen_by_verdicts, command, plan, study_name, study_of, write_plan
from vae_lab.studies import claims, latent_size
from vae_lab.studies.comparison import load_study
from vae_lab.tracking import Recorder, RunFolder, Store, StoredRun


class SweepError(LabError):
    """Some runs of a multirun failed; the others are kept."""


def sweep(
    master: DictConfig,
    arguments: Sequence[str],
    parser: OverridesParser,
    compose: Callable[[list[str]], DictConfig],
    launch: Callable[[list[list[str]]], Sequence[JobReturn]],
) -> None:
    """Runs a multirun and gives its parent run the tables and pictures, whatever failed.

    With `seeds=auto` it goes in rounds, each with more seeds, until the study's claims are settled.

    Args:
        master: the composed config of the multirun, with its `hydra` node.
        arguments: the command line's overrides.
        parser: for those, and for the values in `master.sweep`.
        compose: overrides of a point to its config.
        launch: overrides of all points to their results.

    Raises:
        UserError: a point is not valid; nothing has been trained or written.
        SweepError: some runs failed.
    """
    sequential = master.seeds == "auto"
    target = _next_round(master, [], 0) if sequential else master.seeds
    overrides = parser.parse_overrides(list(arguments))
    claims.parse(study_of(master)["claims"])

    def checked(seeds: int | None) -> Round:
        found = axes(master.sweep, overrides, parser, seeds)
        with progress.busy("Checking every run's settings and the data"):
            made = points(found, compose, OmegaConf.select(master, "hydra.runtime.choices"))
            return Round(found, {(prepare(each.settings).fingerprint, each.name): each for each in made})

    current = checked(target)
    first = next(iter(current.points.values())).settings
    store = Store.open(first.tracking.uri, create=True)
    store.wait = first.tracking.wait
    name = study_name(master, current.axes)
    tags = {tracking.STUDY: name, tracking.COMMAND: command(master, arguments)}
    recorder, hold = _opened(store, first.tracking.experiment, name, tags, anew=master.reuse == "never")
    status, failures, tried = "KILLED", list[str](), set[tuple[str, str]]()
    try:
        # A round of seeds=auto is sequential anyway, and has no need to be told so.
        looked = not sequential and master.reuse != "never" and chosen_by_verdicts(store, name, current)
        _write_spectrum(recorder, first)
        while True:
            write_plan(recorder, plan(master, current, name, sequential or looked))
            failures += _train(store, recorder, current, name, launch, tried, reuse=master.reuse)
            tried |= current.points.keys()
            if not sequential:
                break
            verdicts = claims.judge_study(load_study(store, recorder.run_id))
            target = _next_round(master, verdicts, len(current.axes.replicate[REPLICATED]))
            if target is None:
                break
            open_ = ", ".join(each.claim.id for each in verdicts if not each.settled)
            progress.console.print(f"Not settled yet: {open_}. Going on to {target} seeds.")
            current = checked(target)
        status = "FAILED" if failures else "FINISHED"
    finally:
        try:
            _conclude(store, recorder, name, status)
        finally:
            hold.release()
    if failures:
        raise SweepError("\n".join([f"{len(failures)} of {len(current.points)} runs failed:", *failures]))


def _opened(
    store: Store, experiment: str, name: str, tags: dict[str, str], *, anew: bool
) -> tuple[Recorder, RunFolder]:
    """The multirun's parent run: the one that the same command left unfinished, else a new one."""
    if not anew:
        left = [
            record
            for record in store.tagged(tracking.KIND, tracking.SWEEP)
            if record.status != "FINISHED" and tags.items() <= record.tags.items()
        ]
        closed = {record.run_id for record in store.close_gone(left)}
        store.check_delivered(record for record in left if record.run_id not in closed)
        for record in left:
            if store.record(record.run_id).status == "RUNNING":
                continue  # its process may be at work
            hold = RunFolder.lock(store.uri, record.run_id)
            if hold is not None:
                progress.console.print(f"{name}: goes on where it ended before.")
                return store.reopen(record.run_id), hold
    recorder = store.start(experiment, name, kind=tracking.SWEEP, tags=tags)
    hold = RunFolder.lock(store.uri, recorder.run_id)
    assert hold is not None, "a run that was just made has no other process"
    return recorder, hold


def _next_round(master: DictConfig, verdicts: list[claims.Verdict], done: int) -> int | None:
    """The number of seeds to have after the next round of `seeds=auto`; None once it is over."""
    if not done:
        declared = claims.parse(study_of(master)["claims"])
        if not declared:
            raise UserError("seeds=auto: is for a study that declares claims, such as experiments=reference.")
        claims.check_measured(declared, master.evaluation)
        verdicts = claims.judge(declared, pd.DataFrame(), sequential=True)
    return claims.round_target(verdicts, done, master.max_seeds)


def _write_spectrum(recorder: Recorder, settings: DictConfig) -> None:
    """What the latent-size oracle asks of the training data, for a study that has one."""
    if settings.study.oracle is None:
        return
    data = dataset(settings.data, devices.resolve(settings.train.device))
    with (
        progress.busy("Measuring the spectrum of the training data"),
        recorder.artifacts(sealed=[latent_size.FILE]) as folder,
    ):
        found = latent_size.measure_spectrum(data, settings.objective.likelihood, settings.objective.std)
        (folder / latent_size.FILE).write_text(found.to_json())


def _train(
    store: Store,
    recorder: Recorder,
    current: Round,
    name: str,
    launch: Callable[[list[list[str]]], Sequence[JobReturn]],
    tried: Collection[tuple[str, str]],
    *,
    reuse: str,
) -> list[str]:
    """Trains the points that were not tried in an earlier round and have not finished; gives what failed."""
    wanted = {key: point for key, point in current.points.items() if key not in tried}
    there = {} if reuse == "never" else _finished(store, wanted)
    missing = [point for key, point in wanted.items() if key not in there]
    if there:
        rest = f"training {len(missing)}" if missing else "nothing is left to train"
        progress.console.print(
            f"{len(there)} of {len(wanted)} runs are there already, {rest} (reuse=never trains all)."
        )
    unmeasured = []
    for key, record in there.items():
        store.ask(partial(store.client.set_tag, record.run_id, tracking.member_tag(recorder.run_id), "1"))
        if wants_measures(wanted[key].settings):
            outcome = add(store, record, wanted[key].name, wanted[key].settings)
            unmeasured += [f"  {wanted[key].name}: could not be measured"] if outcome == "failed" else []
    if not missing:
        return unmeasured
    belongs = [
        f"tracking.parent_run_id={recorder.run_id}",
        f"tracking.study='{name}'",
        f"tracking.runs={len(current.points)}",
    ]
    with progress.shown(len(missing), sum(point.settings.train.epochs for point in missing)):
        results = launch([[*point.overrides, *belongs] for point in missing])
    return unmeasured + [
        f"  {point.name}: {_error(result)}"
        for point, result in zip(missing, results, strict=True)
        if result.status != JobStatus.COMPLETED
    ]


def _finished(store: Store, wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], StoredRun]:
    found = {key: store.finished(key[0]) for key in wanted}
    return {key: record for key, record in found.items() if record is not None}


def _error(result: JobReturn) -> str:
    error = result._return_value  # the property would raise it
    return (str(error) or type(error).__name__).splitlines()[0]


def _conclude(store: Store, recorder: Recorder, name: str, status: str) -> None:
    """The end of every multirun: tables and pictures on the parent run and in the terminal."""
    try:
        made = conclude(store, recorder)
    finally:
        recorder.finish(status)
    terminal = tables.console()
    for table in made.tables:
        terminal.print()
        tables.show(table, terminal)
    again = name if " " not in name else recorder.run_id
    if any(each.settled for each in made.verdicts):
        terminal.print()
        print_verdicts(made.verdicts, terminal)
    elif made.verdicts:
        needed = max(each.needed or 0 for each in made.verdicts)
        terminal.print(
            f"\nAll {len(made.verdicts)} claims are undecided: they take at least {needed:.0f} seeds "
            f"(seeds={needed:.0f}) and every claim's metric (evaluation=full has all). "
            f"Claim by claim: vae-lab verdict {again}",
            soft_wrap=True,
            markup=False,
        )
    sheet = store.place(recorder.run_id, "figures/contact_sheet.png")
    terminal.print(f"\nContact sheet  {sheet}", soft_wrap=True, markup=False)
    page = store.place(recorder.run_id, rendering.ARTIFACT)
    terminal.print(f"The study page {page}", soft_wrap=True, markup=False)
    terminal.print(f"Tables again   vae-lab compare {again}", markup=False)
    terminal.print("In the browser vae-lab ui")
