"""The short form of what `make cluster` shows: a host of a real Ray is cut off in mid-run, and healed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks.cluster.__main__ import PROOFS
from benchmarks.processes import ROOT

LACKING = PROOFS[1].lacking()


@pytest.mark.skipif(bool(LACKING), reason=LACKING)
@pytest.mark.timeout(400)
def test_runs_of_a_host_that_was_cut_off_are_finished_once_and_bit_identical() -> None:
    command = [sys.executable, "-m", "benchmarks.cluster", "--quick", "--only", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert "each finished once, bit-identical, none begun anew" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0
