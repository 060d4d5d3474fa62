"""`vae-lab verdict`: a study's claims, judged by its runs."""

from __future__ import annotations

import click

from vae_lab.cli.options import format_option, uri_option
from vae_lab.cli.terminal.messages import echo


@click.command
@click.argument("study")
@format_option
@click.option("--sequential", is_flag=True, help="Seeds were added until the verdicts were clear.")
@uri_option
def verdict(study: str, form: str, sequential: bool, uri: str | None) -> None:
    """Judge the claims of STUDY: supported, refuted, negligible or undecided, with effect and interval.

    Runs of one architecture are paired by seed, others compared as samples.
    Nothing is written: the end of a multirun and `vae-lab evaluate`
    keep the verdicts of their time on the study's parent run.
    A study whose number of seeds was chosen while looking at its verdicts needs --sequential.

    \b
    Examples:
      vae-lab verdict reference
      vae-lab verdict reference --format markdown > verdicts.md
    """
    from vae_lab.report import tables
    from vae_lab.report.terminal import output
    from vae_lab.report.verdicts import print_verdicts, verdict_table
    from vae_lab.studies.claims import judge_study
    from vae_lab.studies.study import load_study
    from vae_lab.tracking import reader

    verdicts = judge_study(load_study(reader(uri), study), sequential=sequential)
    if form == "terminal":
        print_verdicts(verdicts, output())
    else:
        echo(tables.FORMATS[form](verdict_table(verdicts)), nl=False)
