"""`vae-lab report`: a study as one page, beside the reader and on its parent run."""

from __future__ import annotations

from pathlib import Path

import click

from vae_lab.errors import UserError
from vae_lab.report.page import rendering
from vae_lab.report.page.contents import gather
from vae_lab.studies.claims import judge_study
from vae_lab.studies.comparison import load_study
from vae_lab.tracking import Recorder, Store


def report(study: str, output: str | None, links: bool, uri: str | None) -> None:
    """Writes the page of `study`, in HTML and Markdown, and prints where it is.

    The page on the parent run has links to MLflow in any case; without `links` the file's has none.
    """
    store = Store.open(uri)
    found = load_study(store, study)
    file = Path(output) if output else Path(f"{rendering.file_name(found.plan.name)}.html")
    if file.suffix not in (".html", ".htm"):
        raise UserError(f"--output {file}: the page is HTML. Valid: a name that ends in .html.")
    if not file.parent.is_dir():
        raise UserError(f"--output {file}: there is no folder {file.parent}.")
    verdicts = judge_study(found) if found.plan.claims else []
    contents = gather(store, found, verdicts)
    shown = contents if links else contents._replace(links=[], runs=[])
    for written in rendering.write(shown, file):
        click.echo(f"{written.absolute()}  {written.stat().st_size / 1e6:.2f} MB")
    recorder = Recorder(store, found.parent.run_id, found.parent.experiment_id)
    with recorder.artifacts() as folder:
        rendering.write(contents, folder / rendering.ARTIFACT)
    click.echo(f"{store.place(found.parent.run_id, rendering.ARTIFACT)}  on the parent run")
