"""One run: what its config comes to here, its training, and the record that it leaves."""

from vae_lab.run.jobs import Job, Outcome, Outline, outline, run, run_together
from vae_lab.run.parts import Parts, build_objective, dataset, prepare
from vae_lab.run.recorded import check_alone
from vae_lab.run.results import again, full_measures, measured_at

__all__ = [
    "Job",
    "Outcome",
    "Outline",
    "Parts",
    "again",
    "build_objective",
    "check_alone",
    "dataset",
    "full_measures",
    "measured_at",
    "outline",
    "prepare",
    "run",
    "run_together",
]
