"""`vae-lab status`: how far a study is, and how to go on with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vae_lab.cli.options import uri_option

if TYPE_CHECKING:
    from vae_lab.studies.comparison import Study
    from vae_lab.tracking import Reader

MOST_RUNS = 40  # unfinished ones that are listed, unless all are asked for


@click.command
@click.argument("study", required=False)
@click.option("--all", "every", is_flag=True, help="Finished runs too.")
@uri_option
def status(study: str | None, every: bool, uri: str | None) -> None:
    """Say which runs of STUDY are finished, running, interrupted, failed or missing.

    STUDY is a study's or sweep's name, for its newest multirun, or the id of a parent run. Without it, all
    studies are listed. Runs whose process is gone are marked as interrupted; the command that started the
    study, given again, goes on with them after their last finished epoch.

    \b
    Examples:
      vae-lab status
      vae-lab status reference --all
    """
    from vae_lab.tracking import reader

    store = reader(uri)
    if study is None:
        _print_studies(store)
    else:
        _print_study(_marked_study(store, study), study, every)


def _marked_study(store: Reader, name: str) -> Study:
    """Returns a study whose runs are marked in the store as interrupted if their process is gone."""
    from vae_lab.studies.comparison import find_parent, load_study
    from vae_lab.tracking import process_end

    parent = find_parent(store, name)
    dead = [run for run in (parent, *store.members(parent.run_id)) if process_end(run)]
    if dead:
        from vae_lab.tracking import Store  # only now, as it brings MLflow with it

        Store.open(store.uri).close_gone(dead)
    return load_study(store, parent.run_id)


def _print_study(study: Study, name: str, every: bool) -> None:
    from rich.text import Text

    from vae_lab.cli.listing import in_words, print_runs
    from vae_lab.report.tables import console
    from vae_lab.studies.status import count_states, run_states
    from vae_lab.tracking import COMMAND

    states = run_states(study)
    listed = states if every else [run for run in states if run.state != "finished"]
    most = len(listed) if every else MOST_RUNS
    terminal = console()
    terminal.print(Text(f"{study.plan.name}: {in_words(count_states(states))}"))
    if listed:
        terminal.print()
        print_runs(listed[:most])
    if len(listed) > most:
        more = len(listed) - most
        terminal.print(Text(f"and {more} more; all of them: vae-lab status {name} --all"))
    if any(run.state in ("interrupted", "failed", "missing") for run in states):
        again = study.parent.tags.get(COMMAND, "the command that started it")
        terminal.print(Text(f"\nTo go on, give the same command again:\n  {again}"), soft_wrap=True)


def _print_studies(store: Reader) -> None:
    from rich.text import Text

    from vae_lab.cli.listing import in_words, print_multiruns, study_name
    from vae_lab.report.tables import console
    from vae_lab.studies.status import count_states, run_states
    from vae_lab.tracking import KIND, SWEEP, checkpoint_files

    newest = {study_name(parent): parent for parent in reversed(store.tagged(KIND, SWEEP))}
    parents = list(newest.values())
    states = [run_states(_marked_study(store, parent.run_id)) for parent in parents]
    counts = [in_words(count_states(runs)) for runs in states]
    print_multiruns(parents, {"runs": counts}, "Run by run: vae-lab status STUDY")
    if files := checkpoint_files(store.uri):
        size = sum(file.stat().st_size for file in files) / 1e6
        text = (
            f"\n{len(files)} runs under way or interrupted have {size:.1f} MB of checkpoints in\n"
            f"  {files[0].parent.parent}\nTo give up interrupted ones, remove their folders."
        )
        console().print(Text(text), soft_wrap=True)
