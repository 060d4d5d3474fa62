"""`vae-lab train`: hands its line to Hydra, which calls `task` for every run."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vae_lab.cli import INTERRUPTED
from vae_lab.cli.completion import complete_overrides
from vae_lab.cli.terminal.ending import out_of_memory
from vae_lab.cli.terminal.messages import echo, log_messages, print_error
from vae_lab.cli.terminal.streams import make_lasting
from vae_lab.errors import LabError, UserError
from vae_lab.files import CONF, started_in

if TYPE_CHECKING:  # the help of all commands goes without Hydra
    from omegaconf import DictConfig

    from vae_lab.cli.overrides.line import Line
    from vae_lab.jobs.job import Job

FULL_ERROR = "HYDRA_FULL_ERROR"
USER_MISTAKE = 2
STOPPED = "interrupted. Every finished epoch is kept; the same command goes on from there."
Task = Callable[["DictConfig"], "str | None"]
FAULT = "this is a fault of the lab or of a class that it was given; the traceback is above."


def run_hydra(overrides: Sequence[str], do: Task | None = None) -> int:
    """Hands a line to Hydra.

    Args:
        overrides: The words after `vae-lab train`.
        do: In place of `task`; its attribute `of_multirun` gets a multirun's points from the sweeper.

    Returns:
        The exit code: 0, 1 if a run failed, 2 for a mistake in the line, 130 if it was interrupted.
    """
    if {"--help", "-h"} & set(overrides):
        return _show_help()
    from vae_lab.cli.overrides.checks import checked_lines
    from vae_lab.cli.overrides.line import Line, parse_line

    log_messages()
    _single_run_failures.clear()
    line, wants_traceback = Line([]), FULL_ERROR in os.environ
    try:
        with _as_hydra_expects(overrides):
            line = parse_line(sys.argv[1:])
            lines = checked_lines(line)
            if len(lines) == 1:
                sys.argv[1:] = _in_place_of(line.overrides, lines[0].overrides, sys.argv[1:])
                with _hydra(lines[0], do or task) as run:
                    run()
                _raise_kept()
        if len(lines) > 1:
            return _run_each([_in_place_of(line.overrides, one.overrides, overrides) for one in lines], do)
    except KeyboardInterrupt:
        echo(f"vae-lab: {STOPPED}", err=True)
        return INTERRUPTED
    except SystemExit as end:  # after Hydra's own help or version, or a flag's value that it does not know
        return USER_MISTAKE if end.code else 0
    except Exception as error:
        if wants_traceback:
            raise
        return _report(error, line)
    return 0


train = click.command(
    "train",
    help="Train; everything after `train` is Hydra's.",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True},
    short_help="Train one run, a sweep or a study (--help lists every key).",
)(click.argument("overrides", nargs=-1, type=click.UNPROCESSED, shell_complete=complete_overrides)(run_hydra))


def _show_help() -> int:
    from vae_lab.cli.overrides import train_help

    train_help.show()
    return 0


def _raise_kept() -> None:
    if _single_run_failures:
        raise _single_run_failures[0]


@contextmanager
def _hydra(line: Line, do: Task) -> Iterator[Callable[[], object]]:
    """Yields what has Hydra compose a checked line and run it.

    Hydra's own entry point would compose it once more before, to see whether it is a multirun.
    """
    import hydra
    from hydra._internal.hydra import Hydra
    from hydra.core.global_hydra import GlobalHydra

    from vae_lab.cli.overrides.line import VERSION_BASE, search_path

    if not line.trains:
        yield hydra.main(version_base=VERSION_BASE, config_path=str(CONF), config_name="config")(do)
        return
    runner = Hydra.create_main_hydra2("train", search_path(line))
    mode, run = ("MULTIRUN", runner.multirun) if line.multirun else ("RUN", runner.run)
    try:
        yield partial(run, line.config_name, do, [*line.overrides, f"hydra.mode={mode}"])
    finally:
        GlobalHydra.instance().clear()


def _in_place_of(before: list[str], after: list[str], words: Sequence[str]) -> list[str]:
    spellings = dict(zip(before, after, strict=True))
    return [spellings.get(word, word) for word in words]


def _run_each(lines: Iterable[list[str]], do: Task | None) -> int:
    """Runs several lines one after another and returns the worst exit code."""
    worst = 0
    for arguments in lines:
        worst = max(worst, run_hydra(arguments, do))
        if worst == INTERRUPTED:
            break
    return worst


@contextmanager
def _as_hydra_expects(arguments: Sequence[str]) -> Iterator[None]:
    """Puts the line where Hydra looks for it, and has Hydra raise what it would otherwise print."""
    from vae_lab.cli.overrides.line import flags_first

    sys.argv = ["vae-lab train", *flags_first(arguments)]
    full_error = os.environ.get(FULL_ERROR)
    os.environ[FULL_ERROR] = "1"
    try:
        with warnings.catch_warnings():
            # What Hydra warns of, it then does not do, such as searching a folder that is not there.
            warnings.filterwarnings("error", category=UserWarning, module="hydra")
            yield
    finally:
        if full_error is None:
            del os.environ[FULL_ERROR]
        else:
            os.environ[FULL_ERROR] = full_error


def task(config: DictConfig) -> str | None:
    """Trains one job of Hydra's and returns the run's id; None for a single run that failed."""
    make_lasting()  # a launcher may have left the command's process
    run_id = None
    with errors_of_single_runs_kept():
        job = job_of_hydra(config)  # before seconds go into imports
        from hydra.core.hydra_config import HydraConfig

        from vae_lab.jobs.progress import busy

        with busy("Loading PyTorch and MLflow"):
            from vae_lab.jobs.lines.single import run_once
        # Hydra has changed into the run's folder if hydra.job.chdir=true.
        with started_in(Path(HydraConfig.get().runtime.cwd)):
            run_id = run_once(job)
    return run_id


def job_of_hydra(config: DictConfig) -> Job:
    """Returns the job of a config that Hydra composed for a task.

    Raises:
        UserError: The config is not valid.
    """
    from hydra.core.hydra_config import HydraConfig

    from vae_lab.jobs.commands import hydra_words
    from vae_lab.jobs.job import job_of

    context = HydraConfig.get()
    # Read after the config has been checked, since reading them resolves their interpolations.
    overrides = (text for text in context.overrides.task)
    return job_of(config, overrides, os.environ, hydra_words(context))


@contextmanager
def errors_of_single_runs_kept() -> Iterator[None]:
    """Keeps a single run's error for `run_hydra`: through Hydra it would come with a line of Hydra's."""
    try:
        yield
    except Exception as error:
        from hydra.core.hydra_config import HydraConfig
        from hydra.types import RunMode

        if HydraConfig.get().mode == RunMode.MULTIRUN:
            raise
        _single_run_failures.append(error)


_single_run_failures: list[Exception] = []


def _report(error: Exception, line: Line) -> int:
    from vae_lab.cli.overrides.checks import explained, is_of_composing

    if isinstance(error, LabError):
        return print_error(error)
    if is_of_composing(error):
        return print_error(UserError(explained(error, line)))
    if isinstance(error, OSError):
        return print_error(error)
    if (full := out_of_memory(error)) is not None:
        return print_error(full)
    echo("".join(traceback.format_exception(error)), err=True)
    return print_error(LabError(FAULT))
