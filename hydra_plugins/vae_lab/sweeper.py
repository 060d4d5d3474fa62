"""The sweeper behind `hydra/sweeper=ablation`: Hydra's side of `vae_lab.runs`."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

ConfigStore.instance().store(
    group="hydra/sweeper",
    name="ablation",
    node={"_target_": "hydra_plugins.vae_lab.sweeper.AblationSweeper"},
    provider="vae_lab",
)


class AblationSweeper(Sweeper):
    """Crosses some axes and varies others one at a time around the base, which is trained once."""

    def __init__(self) -> None:
        self.launcher: Launcher | None = None
        self.hydra_context: HydraContext | None = None
        self.config: DictConfig | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra."""
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Runs the points of `sweep` and of the command line."""
        from vae_lab.config import checked_plan
        from vae_lab.runs.grid import axes, points

        assert self.hydra_context is not None
        assert self.config is not None
        master, loader = self.config, self.hydra_context.config_loader
        parser = OverridesParser.create(config_loader=loader)

        @functools.cache
        def composed(overrides: tuple[str, ...]) -> DictConfig:
            found = loader.load_sweep_config(master, list(overrides))
            return DictConfig({key: found._get_node(key) for key in found if key != "hydra"})

        def compose(overrides: list[str]) -> DictConfig:
            return composed(tuple(overrides))

        # First of all, and before seconds go into imports: a mistake in one point is told at once.
        planned = checked_plan(DictConfig({key: master._get_node(key) for key in master if key != "hydra"}))
        seeds = 1 if planned.seeds == "auto" else planned.seeds
        points(axes(planned.sweep, parser.parse_overrides(arguments), parser, seeds), compose)
        from vae_lab.runs.progress import busy

        with busy("Loading PyTorch and MLflow"):
            from vae_lab.runs.multirun import sweep

        def launch(overrides: list[list[str]]) -> Sequence[JobReturn]:
            assert self.launcher is not None
            return self.launcher.launch(overrides, initial_job_idx=0)

        sweep(master, arguments, parser, compose, launch)
