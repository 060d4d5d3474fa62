"""The launchers behind `hydra/launcher=workers` (the default) and `hydra/launcher=stacked`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from vae_lab.errors import UserError, quoted

COUNT = "a whole number of at least 1"
STACK = 16  # runs; a CPU gains little beyond 4, and a GPU's launches are by then a small part of a step

for _name, _stack in (("workers", 1), ("stacked", STACK)):
    ConfigStore.instance().store(
        group="hydra/launcher",
        name=_name,
        node={
            "_target_": "hydra_plugins.vae_lab.launcher.WorkersLauncher",
            "workers": None,
            "stack": _stack,
        },
        provider="vae_lab",
    )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


class WorkersLauncher(Launcher):
    """Trains the jobs of a multirun in threads of this process, runs of one architecture together if asked.

    Args:
        workers: how many runs or stacks at once; None for one a core on a CPU and one on a GPU.
        stack: most runs of a stack; 1 for none.
    """

    def __init__(self, workers: int | None = None, stack: int = 1) -> None:
        self.workers, self.stack = workers, stack
        self.config: DictConfig | None = None
        self.hydra_context: HydraContext | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra. The task is the lab's own: Hydra's way to run one is not safe in threads."""
        self.hydra_context, self.config = hydra_context, config
        if self.workers is not None and not _is_count(self.workers):
            raise UserError(f"hydra.launcher.workers={quoted(self.workers)}: must be null or {COUNT}.")
        if not _is_count(self.stack):
            raise UserError(f"hydra.launcher.stack={quoted(self.stack)}: must be {COUNT}.")

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Trains one run for each list of overrides."""
        from vae_lab.runs.jobs import Job
        from vae_lab.runs.workers import run_jobs

        assert self.hydra_context is not None
        assert self.config is not None
        loader = self.hydra_context.config_loader
        jobs = []
        for given in job_overrides:
            composed = loader.load_sweep_config(self.config, list(given))
            told = tuple(str(each) for each in composed.hydra.overrides.task)
            settings = DictConfig({key: composed._get_node(key) for key in composed if key != "hydra"})
            jobs.append(Job(settings, tuple(each for each in told if not each.startswith("tracking."))))
        results = []
        for overrides, job, outcome in zip(
            job_overrides, jobs, run_jobs(jobs, stack=self.stack, workers=self.workers), strict=True
        ):
            failed = isinstance(outcome, Exception)
            result = JobReturn(overrides=overrides, cfg=job.settings, working_dir=str(Path.cwd()))
            result.status = JobStatus.FAILED if failed else JobStatus.COMPLETED
            result.return_value = outcome
            results.append(result)
        return results
