"""`vae-lab explore`: trained models in one HTML file that decodes in the browser."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vae_lab.cli.options import page_file, trust_option, uri_option
from vae_lab.cli.terminal.messages import echo

if TYPE_CHECKING:
    from vae_lab.tracking import Reader
    from vae_lab.trained.explorer.choice import Choice


@click.command
@click.argument("name", metavar="STUDY_OR_RUN")
@click.option(
    "--models", multiple=True, metavar="RUN,RUN,...", help="Names or ids of one to four runs, side by side."
)
@click.option("--out", default="explorer.html", metavar="FILE.html", show_default=True, help="Where it goes.")
@click.option("--open/--no-open", "opened", default=None, help="Open it; by default if a window can be.")
@trust_option
@uri_option
def explore(
    name: str,
    models: tuple[str, ...],
    out: str,
    opened: bool | None,
    trusted: tuple[str, ...],
    uri: str | None,
) -> None:
    """Write a page on which models decode in the browser: sliders, maps, your own drawings.

    STUDY_OR_RUN is a study's name, for its newest multirun, the id of a parent run, or a run by whatever name
    `vae_lab.load` knows it. Of a study up to four models stand side by side: without --models first those at
    the ends of what it varies, then those between. The page is one file that needs no server, no network and
    no library, and can be mailed. It is kept on the parent run, too, or on the run, and linked from there and
    from the study's page.

    \b
    Examples:
      vae-lab explore reference
      vae-lab explore reference --models "vae L3 Z15 s0,cvae L3 Z15 s0" --out both.html
      vae-lab explore reference:best --no-open
    """
    from vae_lab.tracking import reader
    from vae_lab.trained.explorer.choice import chosen_runs

    file = page_file(out)
    store = reader(uri)
    choice = chosen_runs(store, name, models)
    text = _written(store, choice, file, trusted)
    _say_others(choice)
    _keep(store.uri, choice, text)
    if opened or (opened is None and _has_window()):
        import webbrowser

        webbrowser.open(file.absolute().as_uri())


def _written(store: Reader, choice: Choice, file: Path, trusted: Collection[str]) -> str:
    """Writes the page of the chosen runs to a file, says so, and returns it."""
    from vae_lab.report.page.rendering import replace_own
    from vae_lab.trained.explorer.contents import gather
    from vae_lab.trained.explorer.page import html
    from vae_lab.trained.loading import model_of

    contents = gather([model_of(store, run, trust=trusted) for run in choice.runs], choice.study)
    text = html(contents)
    replace_own({file: text}, "--out")
    for remark in contents.remarks:
        echo(f"Without images: {remark}.")
    names = ", ".join(run.name for run in choice.runs)
    echo(f"{file.absolute()}  {file.stat().st_size / 1e6:.1f} MB: {names}")
    return text


def _say_others(choice: Choice) -> None:
    if choice.study is None:
        return
    others = [run for run in choice.study.runs if run.status == "FINISHED" and run not in choice.runs]
    if others:
        first = others[0].run_id if "," in others[0].name else others[0].name
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        echo(f'Others side by side: --models "{first},...", of {others[0].name}{more}.')


def _keep(uri: str, choice: Choice, text: str) -> None:
    """Keeps the page in the store, if it can be written, and says where."""
    from vae_lab.report.views import ui_address
    from vae_lab.tracking import Store, is_server, store_name
    from vae_lab.trained.explorer.keeping import keep

    store = Store.open(uri)
    if reason := store.refuses_writes():
        echo(f"Not kept in {store_name(uri)}, which can only be read: {reason}.")
        return
    address = keep(store, choice, text)
    where = store_name(uri) if is_server(uri) else ui_address()
    echo(f"Kept with the runs: {where}/{address}" + ("" if is_server(uri) else "  (vae-lab ui)"))


def _has_window() -> bool:
    """Whether a browser would open a window of its own; on a server it would be one for terminals."""
    on_screen = sys.platform in ("win32", "darwin") or {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys()
    return bool(on_screen) and sys.stdout.isatty()
