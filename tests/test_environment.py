import json
import platform
from pathlib import Path

import torch

from vae_lab import environment


def test_the_record_holds_versions_machine_and_threads() -> None:
    found = environment.describe(torch.device("cpu"))
    assert found["torch"] == torch.__version__
    assert found["Python"] == platform.python_version()
    assert found["threads"] == str(torch.get_num_threads())
    assert json.loads(json.dumps(found)) == found


def test_the_record_does_not_name_the_machine() -> None:
    assert platform.node() not in environment.describe(torch.device("cpu")).values()


def test_the_processor_is_read_where_the_system_tells_it(tmp_path: Path) -> None:
    listing = tmp_path / "cpuinfo"
    listing.write_text("processor\t: 0\nmodel name\t: Difference Engine No. 2\n")
    assert environment.processor(listing) == "Difference Engine No. 2"
    assert environment.processor(tmp_path / "none") == platform.machine()


def test_a_package_that_is_not_there_is_said_to_be_so() -> None:
    assert environment._version("vae-lab-has-no-such-package") == "not installed"
