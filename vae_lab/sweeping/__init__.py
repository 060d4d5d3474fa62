"""What `vae-lab train` starts: a multirun, all of it checked before the first run is trained, or one run."""

from vae_lab.sweeping.multirun import SweepError, sweep
from vae_lab.sweeping.planning import command
from vae_lab.sweeping.single import run_once
from vae_lab.sweeping.workers import run_jobs

__all__ = ["SweepError", "command", "run_jobs", "run_once", "sweep"]
