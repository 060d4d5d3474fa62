"""`vae-lab doctor`: an audit of a run by the lab's own formulas."""

from __future__ import annotations

import sys

import click

from vae_lab.cli.options import device_option, run_argument, trust_option, uri_option
from vae_lab.cli.terminal.messages import echo
from vae_lab.errors import LabError

FAULT_FOUND = 3  # exit code: 1 is for a command that failed, 2 for a mistake in it


@click.command
@run_argument
@click.option(
    "--format",
    "form",
    type=click.Choice(["terminal", "json"]),
    default="terminal",
    show_default=True,
    help="What findings are written as.",
)
@device_option
@trust_option
@uri_option
def doctor(run: str, form: str, trusted: tuple[str, ...], device: str, uri: str | None) -> None:
    """Audit RUN: name known faults, each with what was seen, what is sound, and a remedy.

    RUN is a run's id or name, reference:best or reference:NAME for a run of the study `reference`, or a
    study's name for all its runs. A run's model is asked for posteriors, draws and images, its loss for what
    it does with made-up ones, and its record is held against the same by the lab's formulas. A finding is a
    note, a warning or a fault; docs/doctor.md explains each.

    Ends with 0 if there is no fault, 3 if there is one, 1 if a run cannot be examined, 2 for a mistake.
    Any torch VAE is audited in Python: vae_lab.doctor(module, images).

    \b
    Examples:
      vae-lab doctor 8c1f0a2b5d7e4f6a9b3c2d1e0f9a8b7c
      vae-lab doctor "vae L3 Z15 s0"
      vae-lab doctor reference:best
      vae-lab doctor reference --format json > findings.json
    """
    import json

    from vae_lab.report.terminal import output
    from vae_lab.tracking import reader
    from vae_lab.trained.doctor.findings import FAULT
    from vae_lab.trained.doctor.printed import show_all
    from vae_lab.trained.doctor.stored import audited_runs, runs_named

    store = reader(uri)
    runs = runs_named(store, run)
    audited = audited_runs(store, runs, device=device, trusted=trusted)
    if form == "json":
        reports = list(audited)
        echo(json.dumps([report.as_dict() for report in reports], indent=2, ensure_ascii=False))
    else:
        reports = show_all(audited, len(runs), output())
    if any(report.worst == FAULT for report in reports):
        sys.exit(FAULT_FOUND)
    sys.exit(LabError.exit_code if any(report.failure for report in reports) else 0)
