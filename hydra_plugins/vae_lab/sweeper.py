"""The sweeper behind `hydra/sweeper=ablation`: Hydra's side of `vae_lab.jobs.lines.multirun`."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.vae_lab.composing import Composer, without_hydra
from hydra_plugins.vae_lab.launcher import WorkersLauncher

if TYPE_CHECKING:
    from vae_lab.jobs.job import Job, Result
    from vae_lab.jobs.lines.grid import Axes
    from vae_lab.jobs.lines.rounds import Grid

ConfigStore.instance().store(
    group="hydra/sweeper",
    name="ablation",
    node={"_target_": "hydra_plugins.vae_lab.sweeper.AblationSweeper", "params": None},
    provider="vae_lab",
)


class AblationSweeper(Sweeper):
    """Crosses some axes and varies others one at a time around the base, which is trained once.

    Args:
        params: Key to values, as texts of Hydra's override grammar: axes as Hydra's own sweeper has them,
            beside those of the config's `sweep`. The command line goes before them.
    """

    def __init__(self, params: Mapping[str, object] | None = None) -> None:
        self.params = [f"{key}={value}" for key, value in (params or {}).items()]
        self.launcher: Launcher | None = None
        self.hydra_context: HydraContext | None = None
        self.config: DictConfig | None = None
        self.in_place_of_training: Callable[[DictConfig, Grid, Launcher | None], None] | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra."""
        self.hydra_context, self.config = hydra_context, config
        # Of a command that trains nothing: what it does with the points.
        self.in_place_of_training = getattr(task_function, "of_multirun", None)
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Runs the points of `sweep` and of the command line."""
        from vae_lab.config import checked_plan
        from vae_lab.jobs.commands import hydra_words
        from vae_lab.jobs.environment import check_environment
        from vae_lab.jobs.lines import grid

        assert self.hydra_context is not None
        assert self.config is not None
        master, loader = self.config, self.hydra_context.config_loader
        HydraConfig.instance().set_config(master)  # what ${hydra:...} in a value is resolved by
        check_environment(os.environ)
        plan = checked_plan(without_hydra(master))
        parser = OverridesParser.create(config_loader=loader)
        overrides = parser.parse_overrides([*self.params, *arguments])
        choices = OmegaConf.select(master, "hydra.runtime.choices")
        compose = Composer(loader, master, parser)
        known: dict[grid.Identity, Job] = {}
        words = hydra_words(master.hydra)

        @functools.cache
        def jobs_of(seeds: int | None) -> tuple[Axes, list[Job]]:
            axes = grid.axes(plan.sweep, overrides, parser, seeds)
            return axes, grid.jobs(axes, compose, choices, known, words)

        # Before seconds go into imports: a mistake in one point is told at once.
        _, jobs = jobs_of(1 if plan.seeds == "auto" else plan.seeds)
        _check_study(plan, jobs, [override.key_or_group for override in overrides])
        if self.in_place_of_training is not None:
            self.in_place_of_training(master, jobs_of, self.launcher)
            return
        run_multirun = _loaded()
        launch = self.launcher.trainer() if isinstance(self.launcher, WorkersLauncher) else self._launch
        run_multirun(master, arguments, jobs_of, launch)

    def _launch(self, jobs: Sequence[Job]) -> list[Result]:
        """Hands jobs as overrides to a launcher that may leave the process."""
        from vae_lab.jobs.job import MULTIRUN_VARIABLE

        assert self.launcher is not None

        lines = []
        for job in jobs:
            assert job.multirun is not None
            variable = f"+hydra.job.env_set.{MULTIRUN_VARIABLE}={job.multirun.to_text()}"
            lines.append([*job.overrides, variable])
        return [_result(job_return) for job_return in self.launcher.launch(lines, initial_job_idx=0)]


def _loaded() -> Callable[..., None]:
    """Returns the function that runs a multirun, once what it needs has been loaded."""
    from vae_lab.jobs.progress import busy

    with busy("Loading PyTorch and MLflow"):
        from vae_lab.jobs.lines.multirun import run_multirun
    return run_multirun


def _check_study(plan: DictConfig, jobs: Sequence[Job], overridden: Sequence[str]) -> None:
    study = OmegaConf.to_container(plan.study)
    assert isinstance(study, dict)
    if not (study["claims"] or study["reference"] or study["oracle"]):
        return
    from vae_lab.config import parameters
    from vae_lab.studies.planned import PlannedRuns, check_declared

    metrics = []
    if names := {name: None for job in jobs for name in job.settings.evaluation.metrics}:
        from vae_lab.jobs.parts.own_metrics import own_metrics

        metrics = [own.metric for own in own_metrics(names)]
    runs = PlannedRuns([parameters(job.settings) for job in jobs], plan.sweep.also, overridden, metrics)
    check_declared({str(key): value for key, value in study.items()}, runs)


def _result(job_return: JobReturn) -> Result:
    result = job_return._return_value  # the property would raise an error
    if job_return.status == JobStatus.COMPLETED or isinstance(result, Exception):
        return result  # type: ignore[no-any-return]
    return RuntimeError(str(result))
