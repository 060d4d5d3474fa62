"""Facts about the machine that speed depends on; its name is not among them."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.processes import ENVIRONMENT, ROOT

TORCH_FACTS = """
import json, torch
built = torch.__config__.show().splitlines()
blas = next((line.strip(" -").partition(" Build")[0] for line in built if "Math Kernel" in line), "")
gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
facts = {"torch": torch.__version__, "threads": torch.get_num_threads(), "GPU": gpu, "BLAS": blas,
         "instructions": torch.backends.cpu.get_cpu_capability()}
print(json.dumps(facts))
"""
PEERS = ("pythae", "lightning")


def describe() -> dict[str, str]:
    """Returns processor, cores, threads and versions; those of torch come from a process of its own."""
    process = subprocess.run(
        [sys.executable, "-c", TORCH_FACTS], env=ENVIRONMENT, capture_output=True, text=True, check=True
    )
    torch_facts = json.loads(process.stdout)
    settings = {key: value for key, value in ENVIRONMENT.items() if key.startswith(("OMP_", "GOMP_", "MKL_"))}
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory": _memory(),
        "system": f"{platform.system()} {platform.machine()}",
        "Python": platform.python_version(),
        **{key: str(value) for key, value in torch_facts.items()},
        **{name: importlib.metadata.version(name) for name in PEERS if installed(name)},
        "environment": " ".join(f"{key}={value}" for key, value in settings.items()) or "nothing set",
        "commit": _commit(),
        "date": time.strftime("%Y-%m-%d"),
    }


def installed(package: str) -> bool:
    """Returns whether a package is installed."""
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def busy_cores(seconds: float = 2.0) -> float | None:
    """Returns how many cores other programs kept busy just now; None where the system does not say."""
    try:
        before = _ticks()
        time.sleep(seconds)
        after = _ticks()
    except (OSError, ValueError):
        return None
    return (after - before) / os.sysconf("SC_CLK_TCK") / seconds


def _ticks() -> int:
    """Returns the clock ticks of all cores in /proc/stat: user, nice, system, irq and softirq, not idle."""
    values = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    return sum(values) - values[3] - values[4]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.processor() or platform.machine()


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
    except (ValueError, OSError):
        return "unknown"


def _commit() -> str:
    git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
