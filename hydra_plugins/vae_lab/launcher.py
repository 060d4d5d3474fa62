"""The launchers behind `hydra/launcher=workers` (the default), `stacked` and `ray`."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from vae_lab.errors import UserError, quoted

if TYPE_CHECKING:
    from vae_lab.jobs.crews.crew import Crew
    from vae_lab.jobs.crews.workers import CrewAndPacks, Shared
    from vae_lab.jobs.job import Job, Result

log = logging.getLogger("vae_lab.launcher")

COUNT = "a whole number of at least 1"
PART = "a part of one such as 0.25, or a whole number"
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
ConfigStore.instance().store(
    group="hydra/launcher",
    name="ray",
    node={
        "_target_": "hydra_plugins.vae_lab.launcher.RayLauncher",
        "workers": None,
        "cpus": 1,
        "gpus": None,
        "stack": 1,
        "address": None,
    },
    provider="vae_lab",
)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


class WorkersLauncher(Launcher):
    """Trains the jobs of a multirun in threads of this process, runs of one architecture together if asked.

    Args:
        workers: How many runs or stacks at once; None for one a core on a CPU and one on a GPU.
        stack: Most runs of a stack; 1 for none.
    """

    def __init__(self, workers: int | None = None, stack: int = 1) -> None:
        self.workers, self.stack = workers, stack
        self.config: DictConfig | None = None
        self.trains = True
        self.hydra_context: HydraContext | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra. The task is the lab's own: Hydra's way to run one is not safe in threads."""
        self.hydra_context, self.config = hydra_context, config
        self.trains = not hasattr(task_function, "of_multirun")
        if self.workers is not None and not _is_count(self.workers):
            raise UserError(f"hydra.launcher.workers={quoted(self.workers)}: must be null or {COUNT}.")
        if not _is_count(self.stack):
            raise UserError(f"hydra.launcher.stack={quoted(self.stack)}: must be {COUNT}.")
        if config.hydra.job.chdir:
            log.warning(
                "hydra.job.chdir=true: runs that share a process stay in this folder; "
                "hydra/launcher=basic changes into one for each."
            )

    def trainer(self) -> Callable[[Sequence[Job]], list[Result]]:
        """Returns what trains jobs as they are, for the lab's own sweeper."""
        from vae_lab.jobs.crews.workers import train_in_workers

        return partial(train_in_workers, crew_of=self.crew_maker(self.stack))

    def crew_maker(self, stack: int) -> Callable[[Sequence[Job]], CrewAndPacks]:
        """Returns what makes the crew for jobs, which trains stacks of so many at most."""
        from vae_lab.jobs.crews.workers import thread_crew

        return partial(thread_crew, stack=stack, workers=self.workers)

    def shares(self, jobs: Sequence[Job], planned: int) -> Shared:
        """Returns how the crew would share out jobs, and starts nothing.

        Args:
            jobs: What would be trained.
            planned: Runs of the multirun.
        """
        from vae_lab.jobs.crews.workers import thread_shares

        return thread_shares(jobs, planned, stack=self.stack, workers=self.workers)

    def crew(self, job: Job, runs: int) -> Crew:
        """Returns who trains the runs of a search, one at a time each.

        Args:
            job: One of them.
            runs: How many there will be at most; they share the cores.
        """
        return self.crew_maker(stack=1)([job] * runs).crew

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Trains or finds one run for each list of overrides: what sweepers of others ask for."""
        from vae_lab.jobs.commands import hydra_words
        from vae_lab.jobs.job import job_of, other_sweeper
        from vae_lab.jobs.lines.single import train_missing

        if not self.trains:
            raise other_sweeper()

        assert self.hydra_context is not None
        assert self.config is not None
        loader = self.hydra_context.config_loader
        jobs = []
        for overrides in job_overrides:
            composed = loader.load_sweep_config(self.config, list(overrides))
            settings = DictConfig({key: composed._get_node(key) for key in composed if key != "hydra"})
            task = map(str, composed.hydra.overrides.task)
            jobs.append(job_of(settings, task, {}, hydra_words(composed.hydra)))
        returns = []
        results = train_missing(jobs, self.trainer())
        for overrides, job, result in zip(job_overrides, jobs, results, strict=True):
            job_return = JobReturn(overrides=overrides, cfg=job.settings, working_dir=str(Path.cwd()))
            failed = isinstance(result, Exception)
            job_return.status = JobStatus.FAILED if failed else JobStatus.COMPLETED
            job_return.return_value = result
            returns.append(job_return)
        return returns


class RayLauncher(WorkersLauncher):
    """Trains the jobs of a multirun on workers of Ray: processes of this machine or of several.

    Args:
        workers: How many runs or stacks at once; None for as many as have room.
        cpus: CPUs of each worker.
        gpus: GPUs of each, a part of one, too; None for one where there are any.
        stack: Most runs of a stack; 1 for none.
        address: Of a Ray that runs already, or `auto`; None for one of the command's own on this machine.
    """

    def __init__(
        self,
        workers: int | None = None,
        cpus: float = 1,
        gpus: float | None = None,
        stack: int = 1,
        address: str | None = None,
    ) -> None:
        super().__init__(workers, stack)
        self.cpus, self.gpus, self.address = cpus, gpus, address

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra."""
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        if importlib.util.find_spec("ray") is None:
            raise UserError("hydra/launcher=ray: Ray is not installed; pip install 'vae-lab[ray]'")
        if not _is_part(self.cpus) or not self.cpus:
            raise UserError(f"hydra.launcher.cpus={quoted(self.cpus)}: must be {PART} above 0.")
        if self.gpus is not None and not _is_part(self.gpus):
            raise UserError(f"hydra.launcher.gpus={quoted(self.gpus)}: must be null, 0 or {PART}.")
        if self.address is not None and str(self.address).startswith("ray://"):
            raise UserError(
                f"hydra.launcher.address={quoted(self.address)}: is of Ray Client, which is not used here; "
                "give the command on a machine of the cluster, with hydra.launcher.address=auto"
            )

    def crew_maker(self, stack: int) -> Callable[[Sequence[Job]], CrewAndPacks]:
        """Returns what makes a crew of Ray's workers; a Ray of the command's own begins to start."""
        from vae_lab.jobs.crews.cluster import cluster_at
        from vae_lab.jobs.crews.ray_crew import ray_crew_of
        from vae_lab.jobs.crews.ray_member import Share

        cluster = cluster_at(self.address, self.cpus * (self.workers or 1))
        share = Share(self.cpus, self.gpus)
        return partial(ray_crew_of, cluster=cluster, share=share, stack=stack, workers=self.workers)

    def shares(self, jobs: Sequence[Job], planned: int) -> Shared:
        """Returns how workers would share out jobs; a Ray that runs already is not asked."""
        from vae_lab.jobs.crews.ray_crew import ray_shares
        from vae_lab.jobs.crews.ray_member import Share

        share = Share(self.cpus, self.gpus)
        return ray_shares(
            jobs, planned, address=self.address, share=share, stack=self.stack, workers=self.workers
        )


def _is_part(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 <= value <= 1 or (value > 1 and value % 1 == 0)
