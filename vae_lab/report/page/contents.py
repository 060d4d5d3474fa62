"""What the page of a study says, read from the store and not yet set in HTML or Markdown."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from vae_lab.errors import LabError
from vae_lab.files import DamagedError
from vae_lab.report import pictures, tables, views
from vae_lab.report.analyses import Analysis, analyses
from vae_lab.report.lines import DRAWN, LINES, abridged, configuration, drawn_lines, lines, spread_out
from vae_lab.report.page import panels, setup
from vae_lab.report.page.panels import Panel
from vae_lab.report.pictures import Picture
from vae_lab.report.tables import Table
from vae_lab.report.verdicts import brief_table
from vae_lab.studies.claims import Explanation, Verdict, explanation_summary, explanations
from vae_lab.studies.comparison import Comparison, comparisons, groups_by_family, key_name
from vae_lab.studies.names import owner_of, whose
from vae_lab.studies.status import states_in_words
from vae_lab.studies.study import Study
from vae_lab.tracking import (
    CLASS_FILE,
    COMMAND,
    INTERPOLATION_FILE,
    STRIP_FILE,
    Reader,
    StoredRun,
    sqlite_file,
    store_name,
)
from vae_lab.tracking.records import checksum_tag

log = logging.getLogger(__name__)


ROWS = 500  # of a table, and of the list of runs
PICTURED = 24  # configurations
FETCHED_AT_ONCE = 4  # pictures


class Image(NamedTuple):
    """The picture of one configuration."""

    label: str
    run: str  # its name
    picture: Picture | str  # or why it is left out


class Strip(NamedTuple):
    """Pictures that stand side by side, under a heading."""

    heading: str
    images: list[Image]


class Answer(NamedTuple):
    """The held-out loss along the values of a key, each as one text: `2 → 3`, `104.56 → 113.29`."""

    family: str
    key: str
    values: str
    losses: str


class Link(NamedTuple):
    """An address with what it leads to."""

    text: str
    address: str
    detail: str = ""


class Contents(NamedTuple):
    """Everything on the page of a study."""

    name: str
    question: str
    state: str
    started: str
    owner: str  # who gave the study's command, where that is not clear
    abridged: str  # that it does not show every configuration, if it does not
    answers: list[Answer]
    verdicts: Table | None
    claims: list[tuple[str, str]]  # id and text
    explanations: list[Explanation]
    surviving: str  # which of them survives, in a sentence
    tables: list[Table]
    analyses: list[Analysis]
    curves: list[Panel]
    latent: list[Panel]
    planes: list[Panel]  # of rate and distortion
    samples: list[Strip]
    interpolations: list[Image]
    classes: list[Image]
    shared: list[tuple[str, list[tuple[str, str]]]]  # group of the config: keys and values
    varied: Table
    environment: list[tuple[str, list[str]]]  # fact, and its value or values
    command: str
    commands: list[tuple[str, str]]  # run and its command
    links: list[Link]
    runs: list[Link]
    server: bool  # whether the links need no `vae-lab ui`


def gather(store: Reader, study: Study, judged: Sequence[Verdict] = ()) -> Contents:
    """Returns the contents of a study's page; without verdicts its claims stand there unjudged."""
    plan, parent = study.plan, study.parent
    compared = comparisons(study)
    configurations = _first_runs(compared)
    first = spread_out(configurations, PICTURED)
    server = sqlite_file(store.uri) is None
    base = f"{store_name(store.uri) if server else views.ui_address()}/"
    explained = explanations(judged)
    return Contents(
        name=plan.name,
        question=plan.question or "",
        state=states_in_words(study),
        started=time.strftime("%Y-%m-%d %H:%M", time.localtime(parent.started / 1000)),
        owner=owner_of(parent) if server or whose(parent, store.uri) else "",
        abridged=_what_is_left_out(compared, len(configurations)),
        answers=_answers(compared),
        verdicts=brief_table(judged) if judged else None,
        claims=[(str(c["id"]), str(c["text"])) for c in plan.claims if {"id", "text"} <= c.keys()],
        explanations=explained,
        surviving=explanation_summary(explained),
        tables=_tables(study),
        analyses=analyses(store, study),
        curves=panels.loss_panels(store, compared),
        latent=panels.latent_panels(compared),
        planes=panels.rate_distortion_panels(compared),
        samples=_samples(store, compared),
        interpolations=_images(store, first, INTERPOLATION_FILE, "figures/interpolation.png"),
        classes=_images(store, first, CLASS_FILE, "figures/class_grid.png"),
        shared=setup.shared(study),
        varied=setup.varied(study),
        environment=setup.environment(study),
        command=parent.tags.get(COMMAND, ""),
        commands=[(run.name, setup.command(run)) for run in first if setup.command(run)],
        links=_study_links(study, base),
        runs=_run_links(study, base),
        server=server,
    )


def _tables(study: Study) -> list[Table]:
    both = [*tables.study_tables(study), *tables.importance_tables(study)]
    return [table.abridged(ROWS) for table in both]


def _run_links(study: Study, base: str) -> list[Link]:
    some = spread_out(study.runs, ROWS)
    return [Link(run.name, base + views.run_page(run), run.status.lower()) for run in some]


def _study_links(study: Study, base: str) -> list[Link]:
    experiment = study.parent.experiment_id
    links = [Link(view.title[2:], base + views.page(experiment, view)) for view in views.study_views(study)]
    if address := views.explorer_page(study.parent):
        links.append(Link("The explorer, which decodes images of its models in the browser", base + address))
    return [*links, Link("The parent run", base + views.run_page(study.parent))]


def _first_runs(compared: Sequence[Comparison]) -> list[StoredRun]:
    """The first finished run of every configuration, family by family in the order of the tables."""
    rows = [group for family in groups_by_family(compared).values() for group in family]
    return list({run.run_id: run for group in rows for run in group.finished[:1]}.values())


def _what_is_left_out(compared: Sequence[Comparison], count: int) -> str:
    """Returns that charts and pictures are of some configurations only, where they are."""
    every = [*lines(compared)]
    if len(every) <= LINES and count <= PICTURED and all(len(line.groups) <= DRAWN for line in every):
        return ""
    return (
        f"The study has {count:,} configurations. Charts and pictures show some of them, the first, the last "
        f"and others evenly between, and tables and lists at most {ROWS} rows."
    )


def _answers(compared: Sequence[Comparison]) -> list[Answer]:
    answers = []
    for line in spread_out([*lines(compared)], LINES):
        if losses := line.losses:
            texts = [f"{loss:.2f}" for loss in losses.values()]
            values, means = (" → ".join(abridged(part)) for part in ([*losses], texts))
            answers.append(Answer(line.family, key_name(line.key), values, means))
    return answers


def _samples(store: Reader, compared: Sequence[Comparison]) -> list[Strip]:
    shown = drawn_lines(compared)
    runs = {run.run_id: run for line in shown for group in line.groups for run in group.finished[:1]}
    strip_of = dict(
        zip(runs, _pictures(store, [*runs.values()], STRIP_FILE, shown=pictures.folded), strict=True)
    )
    strips = []
    for line in shown:
        images = []
        for group in line.groups:
            for run in group.finished[:1]:
                images += _image(f"{key_name(line.key)} {group.keys[line.key]}", run, strip_of[run.run_id])
        if images:
            strips.append(Strip(line.title, images))
    return strips


def _images(store: Reader, runs: Sequence[StoredRun], *paths: str) -> list[Image]:
    """The first of these artifacts that each run has."""
    images = []
    for run, shown in zip(runs, _pictures(store, runs, *paths), strict=True):
        images += _image(configuration(run), run, shown)
    return images


def _pictures(
    store: Reader, runs: Sequence[StoredRun], *paths: str, shown: Callable[[Picture], Picture] = np.asarray
) -> list[Picture | str]:
    """Returns what `picture` does of each run; several are fetched at once, as a server takes its time."""
    with ThreadPoolExecutor(FETCHED_AT_ONCE) as threads:
        return [*threads.map(lambda run: picture(store, run, *paths, shown=shown), runs)]


def _image(label: str, run: StoredRun, shown: Picture | str) -> list[Image]:
    """An image on the page, which says so where it is left out; none where there is nothing to be shown."""
    if isinstance(shown, str) and shown:
        log.warning(f"Left out: {run.name}: {shown}")
    return [] if isinstance(shown, str) and not shown else [Image(label, run.name, shown)]


def picture(
    store: Reader, run: StoredRun, *paths: str, shown: Callable[[Picture], Picture] = np.asarray
) -> Picture | str:
    """Returns the first of these pictures that a finished run has, or why it cannot be shown.

    Args:
        store: Where the run is kept.
        run: The run.
        paths: Of artifacts.
        shown: What is made of the picture.

    Returns:
        The picture; else the reason, empty if the run has none of them.
    """
    for path in paths if run.status == "FINISHED" else ():
        try:
            return shown(pictures.load_picture(store.download(run.run_id, path)))
        except DamagedError as error:
            return f"{path} {str(error).partition(': ')[2]}"  # without its folder: pages are published
        except LabError:  # made by another tool or an older lab
            if checksum_tag(path) in run.tags:
                return f"{path} was recorded and is not there any more"
    return ""
