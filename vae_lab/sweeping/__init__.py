"""A multirun: its points, all checked before the first is trained, and what becomes of them."""

from vae_lab.sweeping.multirun import SweepError, command, sweep
from vae_lab.sweeping.points import Axes, Point, axes, points
from vae_lab.sweeping.workers import run_jobs

__all__ = ["Axes", "Point", "SweepError", "axes", "command", "points", "run_jobs", "sweep"]
