import json
import platform
from pathlib import Path

import pytest
import torch

from vae_lab import machine

CPU = torch.device("cpu")


def test_what_is_free_is_less_than_what_a_machine_can_have() -> None:
    assert 2**20 < machine.free_memory(CPU) <= machine.UNKNOWN


def test_a_containers_limit_counts_without_the_files_that_give_way(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "meminfo": "MemTotal: 9000 kB\nMemAvailable:   8000 kB\n",
        "memory.max": "5000000\n",
        "memory.current": "4000000\n",
        "memory.stat": "anon 1000000\nfile 2500000\n",
    }
    monkeypatch.setattr(Path, "read_text", lambda path: files[path.name])
    assert machine.free_memory(CPU) == 5_000_000 - 4_000_000 + 2_500_000
    files["memory.max"] = "max\n"
    assert machine.free_memory(CPU) == 8000 * 1024


def test_a_machine_that_does_not_say_refuses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(path: Path) -> str:
        raise FileNotFoundError(path)

    monkeypatch.setattr(Path, "read_text", absent)
    assert machine.free_memory(CPU) == machine.UNKNOWN


def test_the_record_holds_versions_machine_and_threads() -> None:
    facts = machine.describe(torch.device("cpu"))
    assert facts["torch"] == torch.__version__
    assert facts["Python"] == platform.python_version()
    assert facts["threads"] == str(torch.get_num_threads())
    assert json.loads(json.dumps(facts)) == facts


def test_the_record_does_not_name_the_machine() -> None:
    assert platform.node() not in machine.describe(torch.device("cpu")).values()


def test_the_processor_is_read_where_the_system_tells_it(tmp_path: Path) -> None:
    listing = tmp_path / "cpuinfo"
    listing.write_text("processor\t: 0\nmodel name\t: Difference Engine No. 2\n")
    assert machine.processor(listing) == "Difference Engine No. 2"
    assert machine.processor(tmp_path / "none") == platform.machine()


def test_a_package_that_is_not_there_is_said_to_be_so() -> None:
    assert machine._version("vae-lab-has-no-such-package") == "not installed"
