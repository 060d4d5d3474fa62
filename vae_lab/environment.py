"""What a run ran on: versions, machine and threads, as a record that can be read anywhere."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

PACKAGES = ("numpy", "hydra-core", "mlflow", "matplotlib", "scikit-learn")


def describe(device: torch.device) -> dict[str, str]:
    """What the numbers of a run on `device` may depend on; names neither the machine nor its user."""
    found = {
        "Python": platform.python_version(),
        "torch": torch.__version__,  # with the build, such as +cu130
        **{name: _version(name) for name in PACKAGES},
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "cores": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
    }
    if device.type == "cuda":
        found["GPU"] = torch.cuda.get_device_name(device)
        found["CUDA"] = str(torch.version.cuda)
    return found


def processor(listing: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's model where the system tells it, else its architecture."""
    try:
        names = [line.partition(":")[2] for line in listing.read_text().splitlines() if "model name" in line]
    except OSError:
        names = []
    return names[0].strip() if names else platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
