from pathlib import Path

import pytest
import torch

from vae_lab import memory

CPU = torch.device("cpu")


def test_what_is_free_is_less_than_what_a_machine_can_have() -> None:
    assert 2**20 < memory.free(CPU) <= memory.UNKNOWN


def test_a_containers_limit_counts_without_the_files_that_give_way(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "meminfo": "MemTotal: 9000 kB\nMemAvailable:   8000 kB\n",
        "memory.max": "5000000\n",
        "memory.current": "4000000\n",
        "memory.stat": "anon 1000000\nfile 2500000\n",
    }
    monkeypatch.setattr(Path, "read_text", lambda path: files[path.name])
    assert memory.free(CPU) == 5_000_000 - 4_000_000 + 2_500_000
    files["memory.max"] = "max\n"
    assert memory.free(CPU) == 8000 * 1024


def test_a_machine_that_does_not_say_refuses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(path: Path) -> str:
        raise FileNotFoundError(path)

    monkeypatch.setattr(Path, "read_text", absent)
    assert memory.free(CPU) == memory.UNKNOWN
