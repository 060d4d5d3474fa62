"""`vae-lab report`: a study as one page."""

from __future__ import annotations

import click

from vae_lab.cli.options import page_file, uri_option
from vae_lab.cli.terminal.messages import echo


@click.command
@click.argument("study")
@click.option("--out", "--output", metavar="FILE.html", help="Where it goes. [default: ./STUDY.html]")
@click.option(
    "--links/--no-links",
    default=True,
    help="Whether it links to the runs in your MLflow, and names the owner on a server.",
)
@uri_option
def report(study: str, out: str | None, links: bool, uri: str | None) -> None:
    """Write STUDY as one page: verdicts, tables, curves, samples, setup and how to do it again.

    The page is one HTML file that needs nothing else, for screen, phone and print, with its words and tables
    as Markdown beside it. Both take the place of an earlier page of the lab's, and of nothing else. The store
    is only read: the page on the study's parent run is that of the end of its multirun, or of
    `vae-lab evaluate`.

    \b
    Examples:
      vae-lab report reference
      vae-lab report reference --no-links --out docs/reference.html     a page to be published
    """
    from vae_lab.report.page import rendering
    from vae_lab.report.page.contents import gather
    from vae_lab.studies.claims import verdicts_of
    from vae_lab.studies.study import load_study
    from vae_lab.tracking import reader

    store = reader(uri)
    loaded = load_study(store, study)
    file = page_file(out or f"{rendering.file_name(loaded.plan.name)}.html")
    contents = gather(store, loaded, verdicts_of(loaded))
    if not links:
        contents = contents._replace(links=[], runs=[], owner="")
    for written in rendering.write(contents, file):
        echo(f"{written.absolute()}  {written.stat().st_size / 1e6:.2f} MB")
