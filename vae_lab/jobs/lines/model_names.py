"""Models of a multirun are told apart by the name that their runs are recorded with."""

from __future__ import annotations

from collections.abc import Collection

from vae_lab import config
from vae_lab.config.names import flatten
from vae_lab.errors import UserError, quoted
from vae_lab.jobs.job import Job

GROUP = "model"  # of the config


def check_model_names(jobs: Collection[Job]) -> None:
    """Checks that no two options of the config group `model` have runs of one model's name.

    Tables, charts and claims know a model by this name, and would average the runs of both.

    Args:
        jobs: Of a multirun.

    Raises:
        UserError: Two options differ in more than the keys that are set one by one, and share their name.
    """
    if len({_option(job) for job in jobs}) < 2:
        return
    named = {_key(override) for job in jobs for override in job.overrides}
    settings: dict[str, dict[str, set[str]]] = {}
    for job in jobs:
        options = settings.setdefault(config.model_name(job.settings), {})
        options.setdefault(_option(job), set()).add(_unnamed(job, named))
    for name, options in settings.items():
        first, *others = options
        for other in others:
            if options[other] != options[first]:
                both = " and ".join(quoted(option or "no model=") for option in (first, other))
                raise UserError(
                    f"{both}: are different models of one name, {quoted(name)}, and would be averaged; "
                    "name their classes apart, or vary keys one by one, as in model.hidden_size=50,100."
                )


def _option(job: Job) -> str:
    return next((override for override in reversed(job.overrides) if _key(override) == GROUP), "")


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")


def _unnamed(job: Job, named: set[str]) -> str:
    """Returns a model's settings without the keys that overrides name, which tell runs apart themselves."""
    flat = flatten(config.plain(job.settings, [GROUP]))
    return repr([entry for entry in flat if not _parents(entry[0]) & named])


def _parents(key: str) -> set[str]:
    """Returns a dotted key and those above it but the first: of model.options.width, model.options, too."""
    parts = key.split(".")
    return {".".join(parts[:count]) for count in range(2, len(parts) + 1)}
