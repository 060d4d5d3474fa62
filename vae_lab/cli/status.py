"""`vae-lab status`: how far a study is, and how to go on with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from vae_lab.cli.options import refuse_unread, uri_option
from vae_lab.cli.terminal.messages import echo
from vae_lab.errors import UserError

if TYPE_CHECKING:
    from vae_lab.studies.study import Study
    from vae_lab.tracking import Reader, StoredRun

MOST_RUNS = 40  # unfinished ones that are listed, unless all are asked for


@click.command
@click.argument("study", required=False)
@click.option("--all", "every", is_flag=True, help="Finished runs too.")
@uri_option
def status(study: str | None, every: bool, uri: str | None) -> None:
    """Say which runs of STUDY are finished, running, interrupted, stopped by a search, failed or missing.

    STUDY is a study's or sweep's name, for its newest multirun, or the id of a parent run. Without it, all
    studies are listed. Runs whose process is gone are marked as interrupted; the command that started the
    study, given again, goes on with them after their last finished epoch.

    \b
    Examples:
      vae-lab status
      vae-lab status reference --all
    """
    from vae_lab.tracking import reader

    if study is None:
        refuse_unread("lists the runs of a study; name it, as in: vae-lab status reference --all", "every")
    store = reader(uri)
    if study is None:
        _print_studies(store)
    else:
        _print_study(store, _marked_study(store, study), study, every)


def _marked_study(store: Reader, name: str) -> Study:
    """Returns a study whose runs are marked in the store as interrupted if their process is gone."""
    from vae_lab.studies.names import find_parents
    from vae_lab.studies.study import load_study

    _mark_gone(store, find_parents(store, name))
    return load_study(store, name, measured=False)


def _mark_gone(store: Reader, parents: Sequence[StoredRun]) -> None:
    """Marks those runs of multiruns in the store as interrupted whose process is gone."""
    from vae_lab.tracking.abandoned import ends_in

    running = [store.members(parent.run_id, running=True, measured=False) for parent in parents]
    runs = [*parents, *(run for members in running for run in members)]
    dead = [*filter(ends_in(store), runs)]
    if dead:
        from vae_lab.tracking import Store  # only now, as it brings MLflow with it
        from vae_lab.tracking.abandoned import close_abandoned

        try:
            close_abandoned(Store.open(store.uri), dead)
        except UserError as error:  # its tables are another MLflow's
            echo(f"Runs whose process is gone are shown as interrupted, and not marked: {error}", err=True)


def _print_study(store: Reader, study: Study, name: str, every: bool) -> None:
    from vae_lab.cli.terminal.listing import print_runs
    from vae_lab.report.terminal import output, plain
    from vae_lab.studies.names import whose
    from vae_lab.studies.status import count_states, in_words, run_states
    from vae_lab.tracking import COMMAND

    states = run_states(study)
    listed = states if every else [run for run in states if run.state != "finished"]
    most = len(listed) if every else MOST_RUNS
    terminal = output()
    owner = whose(study.parent, store.uri)
    terminal.print(plain(f"{study.plan.name}{owner}: {in_words(count_states(states))}"))
    if listed:
        terminal.print()
        print_runs(listed[:most])
    if len(listed) > most:
        more = len(listed) - most
        terminal.print(plain(f"and {more} more; all of them: vae-lab status {name} --all"))
    if any(run.state in ("interrupted", "failed", "missing") for run in states):
        again = study.parent.tags.get(COMMAND, "the command that started it")
        terminal.print("\nTo go on, give the same command again:")
        terminal.print(plain(f"  {again}"), soft_wrap=True)


def _print_studies(store: Reader) -> None:
    from vae_lab.cli.terminal.listing import belongings, print_multiruns
    from vae_lab.report.terminal import output
    from vae_lab.studies.names import by_study
    from vae_lab.studies.status import states_in_words
    from vae_lab.studies.study import readable_studies
    from vae_lab.tracking import KIND, SWEEP, checkpoint_files

    _mark_gone(store, store.tagged(KIND, SWEEP))
    oldest_first = by_study(store.tagged(KIND, SWEEP)[::-1]).values()
    newest = [next(readable_studies(store, group[::-1], measured=False), None) for group in oldest_first]
    studies = [study for study in newest if study is not None]
    parents = [study.parent for study in studies]
    details = belongings(store, parents) | {"runs": [states_in_words(study) for study in studies]}
    print_multiruns(parents, details, "Run by run: vae-lab status STUDY")
    if files := checkpoint_files(store.uri):
        size = sum(file.stat().st_size for file in files) / 1e6
        text = (
            f"\n{len(files)} runs under way or interrupted have {size:.1f} MB of checkpoints in\n"
            f"  {files[0].parent.parent}\nTo give up interrupted ones, remove their folders."
        )
        output().print(text, soft_wrap=True)
