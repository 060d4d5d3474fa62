"""Keeps an explorer in the store: an artifact of the study's parent run, or of the run, linked there."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from vae_lab.report import views
from vae_lab.report.conclusion import tell_again
from vae_lab.tracking import EXPLORER_FILE, NOTE, StoredRun
from vae_lab.tracking.records import checksum_tag
from vae_lab.trained.explorer.choice import Choice

if TYPE_CHECKING:  # only named: whoever reads an SQLite file goes without MLflow
    from vae_lab.tracking import Store


def kept_on(choice: Choice) -> StoredRun:
    """Returns the run that keeps the page: the parent of the study, else the first of the runs."""
    return choice.runs[0] if choice.study is None else choice.study.parent


def keep(store: Store, choice: Choice, text: str) -> str:
    """Keeps a page in the store and links it: from the description, and from the study's page.

    Returns:
        The part of the page's address behind the server's.

    Raises:
        LabError: The store can only be read, or does not answer.
    """
    run = kept_on(choice)
    recorder = store.recorder(run)
    with recorder.artifacts(sealed=[EXPLORER_FILE]) as folder:
        (folder / EXPLORER_FILE).write_text(text, encoding="utf-8")
    address = views.explorer_page(replace(run, tags={**run.tags, checksum_tag(EXPLORER_FILE): "kept"}))
    note = run.tags.get(NOTE, "")
    if choice.study is not None:
        tell_again(store, recorder)
    elif address not in note:
        recorder.tag({NOTE: f"{note}\n\n[Explorer]({address}): the model decodes in the browser.".lstrip()})
    return address
