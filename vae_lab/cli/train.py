"""`vae-lab train`: hands the rest of the line to Hydra and puts its errors into one message."""

from __future__ import annotations

import logging
import os
import re
import sys
import traceback
import warnings
from pathlib import Path
from typing import NoReturn

import click
import hydra
import yaml
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from vae_lab.config import check_size, checked, unknown_key, valid_keys
from vae_lab.errors import LabError, UserError, choices, os_error_message, quoted
from vae_lab.files import CONF

FULL_ERROR = "HYDRA_FULL_ERROR"
MULTIRUN = ("-m", "--multirun")
USER_MISTAKE, FAILED, INTERRUPTED = 2, 1, 130
STOPPED = "interrupted. Every finished epoch is kept; the same command goes on from there."
LONGEST = 1000  # characters of a message, most of which name the valid choices
CONFIG_DEPTHS = ("*.yaml", "*/*.yaml", "*/*/*.yaml")  # of the files in a folder of configs
COMPOSING = (  # the parts of Hydra that have done their work before the lab's begins
    *("hydra._internal.config_loader_impl", "hydra.core.override_parser.overrides_parser"),
    "hydra.core.plugins",
)


class Messages(logging.Handler):
    """Prints what the lab logs above the bars instead of through them."""

    def emit(self, record: logging.LogRecord) -> None:
        """Prints one message."""
        from vae_lab.runs.progress import console  # imports rich, which most short commands never need

        console.print(self.format(record), markup=False, soft_wrap=True)


def task(config: DictConfig) -> str | Exception:
    """One job of Hydra's: trains the config and gives the run's id.

    The error of a single run is a result too: raised through Hydra, it would come with a line of Hydra's.
    """
    job = HydraConfig.get()
    try:
        checked(config)  # before seconds go into imports: a mistake is told at once
        from vae_lab.runs.progress import busy

        with busy("Loading PyTorch and MLflow"):
            from vae_lab.runs.single import run_once
        return run_once(
            config, tuple(each for each in job.overrides.task if not each.startswith("tracking."))
        )
    except Exception as error:
        if job.mode == RunMode.MULTIRUN:
            raise
        _single_run_failures.append(error)
        return error


_single_run_failures: list[Exception] = []


def train(arguments: list[str]) -> int:
    """Runs Hydra on `arguments`; gives the exit code: 0, 1 if a run failed, 2 for a mistake in them."""
    if {"--help", "-h"} & set(arguments):
        from vae_lab.cli import train_help

        train_help.show()
        return 0
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[Messages()])
    logging.getLogger("vae_lab").setLevel(logging.INFO)
    logging.getLogger("hydra.utils").setLevel(logging.CRITICAL)  # it logs what it also raises
    _single_run_failures.clear()
    wants_traceback = FULL_ERROR in os.environ
    os.environ[FULL_ERROR] = "1"  # Hydra then raises, and this function words the message
    # Hydra looks for them in sys.argv, and takes flags only before or after all overrides.
    flags = [each for each in arguments if each in MULTIRUN]
    sys.argv = ["vae-lab train", *flags[:1], *(each for each in arguments if each not in MULTIRUN)]
    try:
        _check_flags(sys.argv[1:])
        with warnings.catch_warnings():
            # What Hydra warns of, it then does not do, such as searching a folder that is not there.
            warnings.filterwarnings("error", category=UserWarning, module="hydra")
            hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(task)()
        if _single_run_failures:
            raise _single_run_failures[0]
    except KeyboardInterrupt:
        click.echo(f"vae-lab: {STOPPED}", err=True)
        return INTERRUPTED
    except SystemExit as end:  # after Hydra's own help or version, or a flag's value that it did not find
        return USER_MISTAKE if end.code else 0
    except Exception as error:
        if wants_traceback:
            raise
        return _report(error)
    finally:
        if not wants_traceback:
            del os.environ[FULL_ERROR]
    return 0


def _check_flags(arguments: list[str]) -> None:
    """Has Hydra's own parser look at the line, which would refuse it with a page of usage.

    Raises:
        UserError: a flag that is not there or not taken, or a folder of configs that would fill the memory.
    """

    def refuse(message: str) -> NoReturn:
        raise UserError(f"{quoted(message, 300)}. All flags: vae-lab train --hydra-help")

    parser = get_args_parser()
    parser.error = refuse  # type: ignore[method-assign]
    flags = parser.parse_args(arguments)
    if flags.config_dir is not None:
        _check_folder(Path(flags.config_dir))
    if flags.experimental_rerun is not None:
        raise UserError(
            "--experimental-rerun: would unpickle a file, which can run any code. Every run's page in MLflow "
            "has the command that trains it again."
        )


def _check_folder(folder: Path) -> None:
    for file in (each for depth in CONFIG_DEPTHS for each in sorted(folder.glob(depth)) if each.is_file()):
        try:
            check_size(file.read_text(), str(file))
        except (OSError, ValueError, RecursionError, yaml.YAMLError):
            continue  # Hydra says so if it is to read the file


def _report(error: Exception) -> int:
    if isinstance(error, LabError):
        message, code = str(error), error.exit_code
    elif isinstance(error, HydraException | OmegaConfBaseException) or _while_composing(error):
        message, code = explained(error), USER_MISTAKE
    elif isinstance(error, OSError):
        message, code = os_error_message(error), FAILED
    else:
        traceback.print_exception(error)
        message, code = (
            "this is a fault of the lab or of a class that it was given; the traceback is above.",
            FAILED,
        )
    click.echo(f"vae-lab: {message}", err=True)
    return code


def _while_composing(error: Exception) -> bool:
    """Whether it was raised while Hydra read the line and the YAML files, not by what the lab then did."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__) if frame.f_code != train.__code__]
    modules = [str(frame.f_globals.get("__name__")) for frame in frames]
    return any(name in COMPOSING for name in modules) or not any(
        name.startswith(("vae_lab.", "hydra_plugins.vae_lab.")) for name in modules
    )


def explained(error: Exception) -> str:
    """What was raised while Hydra composed a config, in one line: value, rule and valid choices."""
    return quoted(_explained(error), LONGEST)


def _explained(error: Exception) -> str:
    text = str(error)
    if isinstance(error, RecursionError):
        return "a value or a YAML file is nested too deeply to be read."
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"{mark.name}, line {mark.line + 1}: is no YAML that is safe to load: {error.problem}."
    if isinstance(error, MissingConfigException) and error.options is not None:
        found = re.search(r"Could not find '(.+?)'", text)
        group, _, option = (found[1] if found else str(error.missing_cfg_file)).rpartition("/")
        return f"{group}={option}: no such option{choices(option, error.options)}"
    if found := re.search(r"Could not override '(.+?)'", text):
        if "No match in the defaults list" in text:
            return str(unknown_key(found[1]))
        if found[1] in valid_keys():
            return f"{found[1]}: nothing of that name is in it; to add it, write a plus before the key."
        cause = error.__cause__
        if cause is None or "not in struct" in text or "not in struct" in str(cause):
            return str(unknown_key(found[1]))
    if found := re.search(r"In .+?: Could not find '(.+?)'", text):
        return f"{found[1]}: no such file in the config folders."
    if found := re.search(r"Ambiguous value for argument '(.+?)'", text):
        key, _, values = found[1].partition("=")
        return f"{found[1]}: to train each of these add -m; for one list write {key}=[{values}]."
    if isinstance(error, OverrideParseException):
        return f"{quoted(error.override)}: not of the form KEY=VALUE: {error.message.splitlines()[0]}"
    cause_text = str(error.__cause__) if isinstance(error.__cause__, OmegaConfBaseException) else ""
    lines = [line.strip() for line in f"{text}\n{cause_text}".splitlines() if line.strip()]
    kept = [
        line for line in dict.fromkeys(lines) if not line.startswith(("See https", "Set the environment"))
    ]
    told = " ".join(kept) or type(error).__name__
    line = _override_under_way(error)
    return told if line is None or line in told else f"{line}: {told}"


def _override_under_way(error: Exception) -> str | None:
    """The part of the line that Hydra was looking at; not all of its messages say it."""
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        if isinstance(found := frame.f_locals.get("override"), Override):
            return found.input_line
    return None
