"""A job: one configuration to be trained, checked and named once, and handed on as it is."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from omegaconf import DictConfig

from vae_lab import config
from vae_lab.errors import UserError
from vae_lab.jobs.environment import check_environment

if TYPE_CHECKING:  # PyTorch is loaded for the parts, after every point of a multirun has been checked
    from vae_lab.jobs.parts.prepared import Parts

MULTIRUN_VARIABLE = "VAE_LAB_MULTIRUN"  # by which a job learns of its multirun under launchers of others
Result = str | Exception  # the id of the finished MLflow run, or why there is none


class UnderWayError(UserError):
    """Another process is at work on a run of the same result."""


def other_sweeper() -> UserError:
    """Returns what is wrong with a plan whose points another sweeper than the lab's own makes."""
    return UserError(
        "hydra/sweeper: vae-lab plan knows the points of the lab's own only; leave hydra/sweeper out."
    )


class Multirun(NamedTuple):
    """The multirun that a job is part of."""

    parent_run_id: str
    study: str
    runs: int  # that it plans; they share the cores
    name: str  # of this job's run

    def to_text(self) -> str:
        """Returns letters and digits for `from_text`, which no override grammar changes."""
        return base64.urlsafe_b64encode(json.dumps(self).encode()).decode().rstrip("=")

    @classmethod
    def from_text(cls, text: str) -> Multirun:
        """Returns what `to_text` wrote.

        Raises:
            UserError: The text is not of that form.

        >>> Multirun.from_text(Multirun("8c1f", "depth", 6, "vae L3 Z15 s0").to_text()).study
        'depth'
        """
        try:
            return cls(*json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))))
        except (ValueError, TypeError):
            raise UserError(f"{MULTIRUN_VARIABLE}: is for the lab's own use; unset it.") from None


@dataclass(frozen=True, eq=False)
class Job:
    """One configuration to be trained."""

    settings: DictConfig  # checked
    name: str
    overrides: tuple[str, ...] = ()  # the overrides that make it, with those of the command line
    points: tuple[str, ...] = ()  # its names in `sweep.also`
    multirun: Multirun | None = None
    hydra_words: tuple[str, ...] = ()  # what the line said to Hydra itself; see `commands`

    @cached_property
    def parts(self) -> Parts:
        """Its data, device, loss and arguments, each tried once.

        Raises:
            UserError: A device, class or argument does not exist or does not work.
            LabError: The data cannot be had.
        """
        from vae_lab.jobs.parts.prepared import prepare

        return prepare(self.settings)

    @property
    def key(self) -> tuple[str, str]:
        """Fingerprint and name, by which a study knows its runs."""
        return self.parts.fingerprint, self.name

    def within(self, multirun: Multirun) -> Job:
        """Returns the job as part of a multirun, with the same parts."""
        job = replace(self, multirun=multirun)
        job.__dict__["parts"] = self.parts
        return job


def job_of(
    composed: DictConfig,
    overrides: Iterable[str],
    environment: Mapping[str, str],
    hydra_words: tuple[str, ...] = (),
) -> Job:
    """Returns the job of a composed config.

    Args:
        composed: The config as Hydra composed it.
        overrides: The command line's.
        environment: Variables; one of them says which multirun it is part of, if it is.
        hydra_words: What the line said to Hydra itself.

    Raises:
        UserError: The config is not valid.
    """
    check_environment(environment)
    settings = config.checked(composed)
    text = environment.get(MULTIRUN_VARIABLE)
    multirun = Multirun.from_text(text) if text else None
    name = multirun.name if multirun else settings.tracking.run_name or config.run_name(settings)
    if settings.seeds is not None and multirun is None:
        raise UserError(
            f"seeds={settings.seeds}: is for a multirun; add -m, or choose sweeps=... or experiments=..."
        )
    return Job(settings, name, tuple(overrides), multirun=multirun, hydra_words=hydra_words)
