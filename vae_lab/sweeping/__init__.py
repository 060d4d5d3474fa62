"""A multirun: its runs, all checked before the first is trained, and what becomes of them."""

from vae_lab.sweeping.multirun import SweepError, command, sweep
from vae_lab.sweeping.workers import run_jobs

__all__ = ["SweepError", "command", "run_jobs", "sweep"]
