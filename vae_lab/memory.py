"""How much memory is free, so that what cannot fit is refused before the machine runs out."""

from __future__ import annotations

from pathlib import Path

import torch

UNKNOWN = 2**63  # bytes free, where a machine does not say


def free(device: torch.device) -> int:
    """Bytes that a new tensor on `device` may take before memory runs out; UNKNOWN where nothing says so."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + kept
    return min(_free_in_group(), _free_in_machine())


def _free_in_machine() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return UNKNOWN


def _free_in_group() -> int:
    """What the container's limit leaves; files that Linux keeps in memory give way and do not count."""
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = ((group / f"memory.{name}").read_text().strip() for name in ("max", "current"))
        facts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return UNKNOWN if limit == "max" else int(limit) - int(used) + int(facts.get("file", 0))
    except (OSError, ValueError):
        return UNKNOWN
