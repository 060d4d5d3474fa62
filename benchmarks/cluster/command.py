"""How the proofs call the lab: from a folder of its own, with state of its own and no store of the user's."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from benchmarks import processes

LAB = [sys.executable, "-m", "vae_lab"]
WORKERS = ["hydra.launcher.workers=2"]


def environment(folder: Path) -> dict[str, str]:
    """Returns the variables of a command in a folder."""
    path = os.pathsep.join([str(Path(sys.executable).parent), processes.ENVIRONMENT["PATH"]])
    own = {"XDG_STATE_HOME": str(folder / "state"), "PYTHONPATH": str(processes.ROOT), "PATH": path}
    return {**processes.ENVIRONMENT, **own}
