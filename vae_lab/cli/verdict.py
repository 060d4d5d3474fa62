"""`vae-lab verdict`: what a study's runs say to its claims."""

from __future__ import annotations

import click

from vae_lab.report import tables
from vae_lab.report.verdicts import print_verdicts, record_verdicts
from vae_lab.studies.claims import judge_study
from vae_lab.studies.comparison import load_study
from vae_lab.tracking import Recorder, Store


def verdict(study: str, form: str, sequential: bool, uri: str | None) -> None:
    """Judges the claims of `study`, keeps the verdicts on its parent run and prints them."""
    store = Store.open(uri)
    found = load_study(store, study)
    verdicts = judge_study(found, sequential=sequential)
    table = record_verdicts(Recorder(store, found.parent.run_id, found.parent.experiment_id), verdicts)
    if form == "terminal":
        print_verdicts(verdicts, tables.console())
    else:
        click.echo(tables.FORMATS[form](table), nl=False)
