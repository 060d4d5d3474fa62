"""The sweeper behind `hydra/sweeper=search`: Hydra's side of `vae_lab.jobs.search`."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.vae_lab.composing import Composer, without_hydra
from hydra_plugins.vae_lab.launcher import WorkersLauncher
from hydra_plugins.vae_lab.sweeper import AblationSweeper
from vae_lab.errors import UserError

if TYPE_CHECKING:
    from vae_lab.jobs.search.points import Points

ConfigStore.instance().store(
    group="hydra/sweeper",
    name="search",
    node={"_target_": "hydra_plugins.vae_lab.search.SearchSweeper", "params": None},
    provider="vae_lab",
)


class SearchSweeper(AblationSweeper):
    """Looks for the best point of a space, in place of training all points of a grid.

    Args:
        params: Key to values, as texts of Hydra's override grammar: dimensions as Hydra's own sweepers have
            them, beside those of the config's `search.space`. The command line goes before them.
    """

    def sweep(self, arguments: list[str]) -> None:
        """Runs the search of `search` and of the command line."""
        from vae_lab.config import checked_plan
        from vae_lab.jobs.environment import check_environment

        assert self.hydra_context is not None
        assert self.config is not None
        assert self.launcher is not None
        HydraConfig.instance().set_config(self.config)  # what ${hydra:...} in a value is resolved by
        check_environment(os.environ)
        plan = checked_plan(without_hydra(self.config))
        _check_plan(plan)
        points = self._points(plan, arguments)
        points.checked()  # before seconds go into imports
        if self.in_place_of_training is not None:
            raise UserError(
                "hydra/sweeper=search: its points are not known before; vae-lab plan is for grids."
            )
        if not isinstance(self.launcher, WorkersLauncher):
            raise UserError(
                f"hydra/launcher: {type(self.launcher).__name__}: trains whole runs only; a search takes "
                "hydra/launcher=workers or ray."
            )
        if importlib.util.find_spec("optuna") is None:
            raise UserError("hydra/sweeper=search: needs Optuna: pip install 'vae-lab[search]'")
        if self.launcher.stack > 1:
            raise UserError(
                f"hydra.launcher.stack={self.launcher.stack}: a search trains one run at a time on each "
                "worker; it takes hydra/launcher=workers or ray without a stack."
            )
        from vae_lab.jobs.progress import busy

        with busy("Loading PyTorch, MLflow and Optuna"):
            from vae_lab.jobs.search.running import run_search
        run_search(self.config, arguments, points, self.launcher.crew)

    def _points(self, plan: DictConfig, arguments: Sequence[str]) -> Points:
        """Returns what makes jobs of points, by the config and the command line."""
        from vae_lab.jobs.commands import hydra_words
        from vae_lab.jobs.search.points import Points
        from vae_lab.jobs.search.reading import space_of

        assert self.hydra_context is not None
        assert self.config is not None
        loader = self.hydra_context.config_loader
        parser = OverridesParser.create(config_loader=loader)
        overrides = parser.parse_overrides([*self.params, *arguments])
        space, fixed = space_of(plan.search, overrides)
        choices = OmegaConf.select(self.config, "hydra.runtime.choices")
        compose = Composer(loader, self.config, parser)
        return Points(space, fixed, compose, choices, hydra_words(self.config.hydra))


def _check_plan(plan: DictConfig) -> None:
    """Raises a UserError for objectives that are none, and for parts of a grid or a study."""
    from vae_lab.jobs.search.objectives import directions

    directions(plan.search.metrics)
    for kind in ("cross", "one_at_a_time", "also", "replicate"):
        if plan.sweep[kind]:
            raise UserError(
                f"sweep.{kind}: is of a grid; a search takes search.space, or keys with several values."
            )
    if plan.seeds is not None:
        raise UserError(f"seeds={plan.seeds}: a search trains one seed a trial; its best is trained on more.")
    if plan.reuse == "never":
        raise UserError("reuse=never: a search goes on with its trials; another search.seed begins anew.")
    if plan.study.claims or plan.study.oracle is not None:
        raise UserError("study: a search has no claims; they are held against the runs of a grid.")
