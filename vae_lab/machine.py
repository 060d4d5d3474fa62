"""Facts about the machine: its free memory, and what a run's numbers may depend on."""

from __future__ import annotations

import functools
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

UNKNOWN = 2**63  # bytes free, where a machine does not say
PACKAGES = ("numpy", "hydra-core", "mlflow", "matplotlib", "scikit-learn")


def free_memory(device: torch.device) -> int:
    """Returns the bytes that are free for new tensors on `device`; UNKNOWN where the system does not say."""
    if device.type == "cuda":
        reserved = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + reserved
    return min(_free_in_container(), _free_in_machine())


def _free_in_machine() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return UNKNOWN


def _free_in_container() -> int:
    """Returns the bytes below the container's limit; cached files, which Linux drops first, count as free."""
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = ((group / f"memory.{name}").read_text().strip() for name in ("max", "current"))
        statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return UNKNOWN if limit == "max" else int(limit) - int(used) + int(statistics.get("file", 0))
    except (OSError, ValueError):
        return UNKNOWN


def describe(device: torch.device) -> dict[str, str]:
    """Returns what the numbers of a run on `device` may depend on; names neither the machine nor its user."""
    facts = {
        "Python": platform.python_version(),
        "torch": torch.__version__,  # with the build, such as +cu130
        **{name: _version(name) for name in PACKAGES},
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "cores": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
        "instructions": torch.backends.cpu.get_cpu_capability(),  # of the processor, that PyTorch uses
    }
    if device.type == "cuda":
        facts["GPU"] = torch.cuda.get_device_name(device)
        facts["CUDA"] = str(torch.version.cuda)
    return facts


def processor(listing: Path = Path("/proc/cpuinfo")) -> str:
    """Returns the processor's model where the system names it, else its architecture."""
    try:
        names = [line.partition(":")[2] for line in listing.read_text().splitlines() if "model name" in line]
    except OSError:
        names = []
    return names[0].strip() if names else platform.machine()


@functools.cache  # every planned point is asked what it would run on
def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
