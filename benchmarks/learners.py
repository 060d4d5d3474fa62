"""A run of the lab in training, without a store: what is measured from within."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vae_lab.jobs.runs.learner import Learner


def new_learner(overrides: Sequence[str]) -> Learner:
    """Returns the run that `vae-lab train OVERRIDES` would begin."""
    from hydra import compose, initialize_config_dir

    from vae_lab.files import CONF
    from vae_lab.jobs.job import job_of
    from vae_lab.jobs.runs.learner import Learner
    from vae_lab.jobs.runs.reports import Assignment

    with initialize_config_dir(str(CONF), version_base="1.3"):
        job = job_of(compose("config", list(overrides)), overrides, {})
    return Learner(0, Assignment(job, None, job.settings.train.epochs))
