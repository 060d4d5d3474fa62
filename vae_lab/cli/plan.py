"""`vae-lab plan`: what a line of `vae-lab train` would train and what that takes, before it does."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vae_lab.cli.completion import complete_overrides
from vae_lab.cli.options import format_option
from vae_lab.cli.terminal.messages import echo
from vae_lab.files import started_in

if TYPE_CHECKING:  # the help of all commands goes without Hydra
    from hydra.plugins.launcher import Launcher
    from omegaconf import DictConfig

    from vae_lab.jobs.job import Job
    from vae_lab.jobs.lines.rounds import Grid
    from vae_lab.report.tables import Table


@click.command(context_settings={"ignore_unknown_options": True})
@format_option
@click.argument(
    "overrides", metavar="LINE...", nargs=-1, type=click.UNPROCESSED, shell_complete=complete_overrides
)
def plan(form: str, overrides: tuple[str, ...]) -> None:
    """Print what a line of `vae-lab train` would train and what it takes, before anything is trained.

    LINE is what would follow `vae-lab train`. The tables list which of its runs are finished, interrupted or
    missing; the time of each, known from finished runs of the store that are alike, else from a few steps
    tried here; memory and disk; the whole time, with as many runs at once as its launcher would train; and
    how many seeds can settle each claim of its study. Nothing is written to the store, no data are fetched.

    \b
    Examples:
      vae-lab plan experiments=reference seeds=10
      vae-lab plan -m model.layers=2,3,4 seed=0,1,2
      vae-lab plan experiments=reference --format csv > plan.csv
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from vae_lab.cli.train import errors_of_single_runs_kept, job_of_hydra, run_hydra
    from vae_lab.jobs.job import other_sweeper

    began = time.monotonic()

    def of_run(config: DictConfig) -> None:
        with errors_of_single_runs_kept(), started_in(Path(HydraConfig.get().runtime.cwd)):
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                raise other_sweeper()
            _print(_tables_of_run(job_of_hydra(config), began), form)

    def of_multirun(master: DictConfig, grid: Grid, launcher: Launcher | None) -> None:
        _print(_tables_of_multirun(master, grid, launcher, began), form)

    of_run.of_multirun = of_multirun  # type: ignore[attr-defined]
    sys.exit(run_hydra([*overrides], of_run))


def _print(drawn: Sequence[Table], form: str) -> None:
    from vae_lab.report import tables
    from vae_lab.report.terminal import output

    if form != "terminal":
        echo("\n".join(tables.FORMATS[form](table) for table in drawn), nl=False)
        return
    terminal = output()
    for number, table in enumerate(drawn):
        if number:
            terminal.print()
        tables.show(table, terminal)


def _tables_of_run(job: Job, began: float) -> list[Table]:
    from vae_lab.jobs.plan.estimate import check_data, estimate, readable_store
    from vae_lab.jobs.plan.tables import points_table, whole_table

    check_data(job.settings)
    estimated = estimate([job], readable_store(job.settings.tracking.uri))
    return [points_table(job.name, estimated, None), whole_table(estimated, time.monotonic() - began)]


def _tables_of_multirun(
    master: DictConfig, grid: Grid, launcher: Launcher | None, began: float
) -> list[Table]:
    from vae_lab.jobs.lines.declarations import known_claims
    from vae_lab.jobs.lines.multirun import check_names
    from vae_lab.jobs.lines.rounds import announced, plan_of, rounds, study_name
    from vae_lab.jobs.plan import estimate as estimates
    from vae_lab.jobs.plan.tables import claims_table, points_table, whole_table

    _, jobs = grid(1 if master.seeds == "auto" else master.seeds)
    for settings in {job.settings.data._target_: job.settings for job in jobs}.values():
        estimates.check_data(settings)
    first = next(rounds(master, grid, list, known_claims))
    check_names(jobs[0].settings)
    name = study_name(master, first.axes)
    jobs = [*first.jobs.values()]
    prepared = time.monotonic() - began
    store = estimates.readable_store(jobs[0].settings.tracking.uri)
    estimated = estimates.estimate(jobs, store, estimates.sharing_of(launcher))
    # As `train` does: by the tests that its runs allow, over all claims ever declared.
    planned = known_claims(plan_of(master, first, name, master.seeds == "auto"), first.jobs)
    planned = announced(planned, first)
    most = master.max_seeds if master.seeds == "auto" else None
    if most:
        seeds = len(planned.replicate[planned.pairs_by])
        estimated.remarks.append(
            f"seeds=auto: this is the first round, of {seeds} seeds; further ones, up to max_seeds={most}, "
            "train what a claim that is open compares."
        )
    needs = estimates.needs_of_claims(planned, estimated.points)
    return [
        points_table(name, estimated, planned),
        whole_table(estimated, prepared),
        *([claims_table(needs, planned, most)] if needs else []),
    ]
