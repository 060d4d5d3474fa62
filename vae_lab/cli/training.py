"""`vae-lab train`: hands the rest of the line to Hydra and puts its errors into one message."""

from __future__ import annotations

import logging
import os
import re
import sys
import traceback

import click
import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from vae_lab.config import checked, unknown_key, valid_keys
from vae_lab.errors import LabError, choices
from vae_lab.folders import CONF

FULL_ERROR = "HYDRA_FULL_ERROR"
MULTIRUN = ("-m", "--multirun")
USER_MISTAKE, FAILED, INTERRUPTED = 2, 1, 130
STOPPED = "interrupted. Every finished epoch is kept; the same command goes on from there."


class Messages(logging.Handler):
    """Prints what the lab logs above the bars instead of through them."""

    def emit(self, record: logging.LogRecord) -> None:
        """Prints one message."""
        from vae_lab.progress import console  # imports rich, which most short commands never need

        console.print(self.format(record), markup=False, soft_wrap=True)


def task(config: DictConfig) -> str | Exception:
    """One job of Hydra's: trains the config and gives the run's id.

    The error of a single run is a result too: raised through Hydra, it would come with a line of Hydra's.
    """
    job = HydraConfig.get()
    try:
        checked(config)  # before seconds go into imports: a mistake is told at once
        from vae_lab.progress import busy

        with busy("Loading PyTorch and MLflow"):
            from vae_lab.sweeping import run_once
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
        from vae_lab.cli import training_help

        training_help.show()
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
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(task)()
        if _single_run_failures:
            raise _single_run_failures[0]
    except KeyboardInterrupt:
        click.echo(f"vae-lab: {STOPPED}", err=True)
        return INTERRUPTED
    except Exception as error:
        if wants_traceback:
            raise
        return _report(error)
    finally:
        if not wants_traceback:
            del os.environ[FULL_ERROR]
    return 0


def _report(error: Exception) -> int:
    if isinstance(error, LabError):
        message, code = str(error), error.exit_code
    elif isinstance(error, HydraException | OmegaConfBaseException):
        message, code = explained(error), USER_MISTAKE
    elif isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        message, code = f"{where}{error.strerror or error}.", FAILED
    elif (isinstance(error, ValueError) and "can only be used" in str(error)) or "Only one of" in str(error):
        message, code = str(error), USER_MISTAKE  # Hydra's own flags, wrongly combined
    else:
        traceback.print_exception(error)
        message, code = (
            "this is a fault of the lab or of a class that it was given; the traceback is above.",
            FAILED,
        )
    click.echo(f"vae-lab: {message}", err=True)
    return code


def explained(error: Exception) -> str:
    """Hydra's or OmegaConf's error in one line: the value, the rule and the valid choices."""
    text = str(error)
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
        return f"{error.override}: not of the form KEY=VALUE: {error.message.splitlines()[0]}"
    cause_text = str(error.__cause__) if isinstance(error.__cause__, OmegaConfBaseException) else ""
    lines = [line.strip() for line in f"{text}\n{cause_text}".splitlines() if line.strip()]
    kept = [
        line for line in dict.fromkeys(lines) if not line.startswith(("See https", "Set the environment"))
    ]
    return " ".join(kept)
