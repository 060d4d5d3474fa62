"""One run: what its config comes to here, its training, and the record that it leaves."""

from vae_lab.run.parts import Parts, build_objective, dataset, prepare
from vae_lab.run.recorded import run
from vae_lab.run.results import again, full_measures, measured_at

__all__ = ["Parts", "again", "build_objective", "dataset", "full_measures", "measured_at", "prepare", "run"]
