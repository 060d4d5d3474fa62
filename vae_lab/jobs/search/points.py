"""The points of a search as jobs: composed, checked and named as every point of a multirun."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Mapping
from typing import Any

from omegaconf import DictConfig

from vae_lab import config
from vae_lab.errors import UserError
from vae_lab.jobs.job import Job
from vae_lab.jobs.lines import grid
from vae_lab.jobs.lines.model_names import check_model_names
from vae_lab.jobs.search.space import Space, Value, overrides

log = logging.getLogger(__name__)


class Points:
    """Makes jobs of points.

    Args:
        space: What varies.
        fixed: What the command line sets for all points, as texts of the grammar.
        compose: Overrides to a config.
        choices: The option of each config group where a point names none.
        hydra_words: What the line said to Hydra itself.
    """

    def __init__(
        self,
        space: Space,
        fixed: Mapping[str, str],
        compose: Callable[[list[str]], DictConfig],
        choices: Mapping[str, Any],
        hydra_words: tuple[str, ...],
    ) -> None:
        self.space, self._fixed = space, fixed
        self._compose, self._choices, self._words = compose, choices, hydra_words
        self._known: dict[grid.Identity, Job] = {}

    def job(self, values: Mapping[str, Value]) -> Job:
        """Returns the job of a point.

        Raises:
            UserError: The point is not valid.
        """
        prefixes: dict[str, str] = {}
        fixed = {_plain(key, prefixes): value for key, value in self._fixed.items()}
        cross = {_plain(key, prefixes): [value] for key, value in overrides(values).items()}
        axes = grid.Axes(fixed, cross, {}, {}, {}, prefixes)
        (job,) = grid.jobs(axes, self._compose, self._choices, self._known, self._words)
        return job

    def checked(self) -> Job:
        """Returns the first of the points that have every choice and both ends of all numbers among them.

        Raises:
            UserError: One of them is not valid.
        """
        jobs = [self.job(values) for values in self.space.corners()]
        check_model_names(jobs)
        grid.check_threads(jobs)
        return jobs[0]

    def identity(self, values: Mapping[str, Value]) -> Hashable | None:
        """Returns what points that come to the same run have in common; None for one that is not valid."""
        try:
            return tuple(config.parameters(self.job(values).settings).items())
        except UserError as error:
            log.warning(f"Left out: {error}")
            return None

    def fingerprint(self, values: Mapping[str, Value]) -> str:
        """Returns the fingerprint of a point's run: of its config, and of code and data of today.

        Raises:
            UserError: The point is not valid.
            LabError: The data cannot be had.
        """
        return self.job(values).parts.fingerprint

    def axes(self) -> dict[str, list[str]]:
        """Returns what varies, with the values that are known beforehand."""
        known: dict[str, dict[str, None]] = {}
        for dim in self.space.all_dimensions():
            known.setdefault(dim.key.lstrip("+~"), {}).update(dict.fromkeys(map(str, dim.choices)))
        return {key: [*values] for key, values in known.items()}


def _plain(key: str, prefixes: dict[str, str]) -> str:
    """Returns a key without its plus, which is noted in `prefixes`."""
    plain = key.lstrip("+~")
    if prefix := key.removesuffix(plain):
        prefixes[plain] = prefix
    return plain
