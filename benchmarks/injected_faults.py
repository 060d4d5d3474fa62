"""Every fault that a run can be given, on ten seeds: does the doctor find it by its name, and none elsewhere?

    python -m benchmarks.injected_faults [--seeds 10] [--folder FOLDER]

Each is put into CVAEs of the lab on the digits, and into a VAE of plain torch. Prints the table of
docs/doctor.md and ends with 1 if a fault is found on fewer than nine seeds of ten, or any in what has none.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks.plain_faults import plain_report
from benchmarks.processes import ENVIRONMENT, ROOT
from vae_lab.config import FAULTS, NOTHING
from vae_lab.data import digits
from vae_lab.studies.study import load_study
from vae_lab.tracking import reader
from vae_lab.trained.doctor.findings import FAULT, Report
from vae_lab.trained.doctor.stored import audited_run

NAMES = (NOTHING, *(name for names in FAULTS.values() for name in names))
STUDY = "injected_faults"
SETTINGS = (
    *("model=cvae", "data=digits", "model.hidden_size=64", "train.epochs=10", "train.device=cpu"),
    *("evaluation.pictures=false", f"study.name={STUDY}"),
)
ENOUGH = 0.9  # of the seeds


class Audited(NamedTuple):
    """What the doctor says of one model."""

    fault: str  # that it was given; `none` for a sound one
    kind: str  # of model
    report: Report

    @property
    def as_it_should_be(self) -> bool:
        """Whether its fault is named, or nothing is where there is none."""
        faults = self.report.of_grade(FAULT)
        return not faults if self.fault == NOTHING else self.fault in faults


def of_the_lab(seeds: int, folder: Path) -> Iterator[Audited]:
    """Trains runs of every fault in a folder and audits them; those that diverge are audited, too."""
    axes = (f"fault={','.join(NAMES)}", f"seed={','.join(map(str, range(seeds)))}")
    line = [sys.executable, "-m", "vae_lab", "train", "-m", *SETTINGS, *axes]
    environment = ENVIRONMENT | {"PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(folder / "state")}
    subprocess.run(line, cwd=folder, env=environment, check=False, stdout=subprocess.DEVNULL)
    store = reader(f"sqlite:///{folder / 'mlflow.db'}")
    for run in load_study(store, STUDY).runs:
        yield Audited(run.params["fault"], "lab", audited_run(store, run))


def of_plain_torch(seeds: int) -> Iterator[Audited]:
    """Trains a VAE without the lab with every fault and audits it."""
    images = digits(root=None)
    for fault in NAMES:
        for seed in range(seeds):
            yield Audited(fault, "plain torch", plain_report(fault, seed, images))


def cell(audited: list[Audited]) -> str:
    """Returns how many are as they should be, and the other faults that were named."""
    others = Counter(name for one in audited for name in one.report.of_grade(FAULT) if name != one.fault)
    beside = ", ".join(f"{name} {count}" for name, count in others.most_common())
    return (
        f"{sum(one.as_it_should_be for one in audited)} of {len(audited)}{f' ({beside})' if beside else ''}"
    )


def print_table(everything: list[Audited]) -> bool:
    """Prints a row a fault; returns whether the doctor is wrong too often."""
    wrong = False
    print("| fault | runs of the lab | plain torch |\n| --- | --- | --- |")
    for fault in NAMES:
        cells = []
        for kind in ("lab", "plain torch"):
            same = [audited for audited in everything if (audited.fault, audited.kind) == (fault, kind)]
            share = sum(audited.as_it_should_be for audited in same) / max(len(same), 1)
            wrong |= share < (1.0 if fault == NOTHING else ENOUGH)
            cells.append(cell(same))
        print(f"| {' | '.join([f'`{fault}`', *cells])} |")
    return wrong


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Returns the command line's options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.injected_faults",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--folder", type=Path, help="keeps the lab's runs; those that are there are taken")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Prints the table; returns 1 where the doctor is wrong too often, else 0."""
    chosen = parse(arguments)
    torch.set_num_threads(1)  # of products this small two threads wait for one another
    with tempfile.TemporaryDirectory(prefix="vae_lab_doctor_") as own:
        everything = [*of_the_lab(chosen.seeds, chosen.folder or Path(own)), *of_plain_torch(chosen.seeds)]
    return int(print_table(everything))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
