"""What the page of a study says, read from the store and not yet set in HTML or Markdown."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from vae_lab.errors import LabError
from vae_lab.report import pictures, tables, views
from vae_lab.report.analyses import Analysis, analyses
from vae_lab.report.page import panels, setup
from vae_lab.report.page.panels import Panel, configuration, families
from vae_lab.report.pictures import Picture
from vae_lab.report.tables import Table
from vae_lab.report.verdicts import brief_table
from vae_lab.studies.claims import Explanation, Verdict, explanations, surviving
from vae_lab.studies.comparison import Comparison, Study, comparisons, key_name, topic
from vae_lab.tracking import CLASS_FILE, COMMAND, INTERPOLATION_FILE, STRIP_FILE, StoredRun, sqlite_file

if TYPE_CHECKING:  # only named: whoever reads an SQLite file goes without MLflow
    from vae_lab.tracking import Store


class Image(NamedTuple):
    """The picture of one configuration."""

    label: str
    run: str  # its name
    picture: Picture


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
    answers: list[Answer]
    verdicts: Table | None
    claims: list[tuple[str, str]]  # id and text
    explanations: list[Explanation]
    surviving: str  # which of them survives, in a sentence
    tables: list[Table]
    analyses: list[Analysis]
    curves: list[Panel]
    latent: list[Panel]
    plane: Panel | None
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


def gather(store: Store, study: Study, judged: Sequence[Verdict] = ()) -> Contents:
    """The contents of a study's page; without verdicts its claims stand there unjudged."""
    plan, parent = study.plan, study.parent
    found = comparisons(study)
    finished = [run for run in study.runs if run.status == "FINISHED"]
    first = _first_of_each(found)
    server = sqlite_file(store.uri) is None
    base = f"{store.uri.rstrip('/') if server else views.address()}/"
    failed = len(study.runs) - len(finished)
    explained = explanations(judged)
    return Contents(
        name=plan.name,
        question=plan.question or "",
        state=f"{len(finished)} of {len(study.runs)} runs finished" + (f", {failed} did not" * bool(failed)),
        started=time.strftime("%Y-%m-%d %H:%M", time.localtime(parent.started / 1000)),
        answers=[answer for comparison in found for answer in _answers(comparison)],
        verdicts=brief_table(judged) if judged else None,
        claims=[
            (str(each["id"]), str(each["text"])) for each in plan.claims if {"id", "text"} <= each.keys()
        ],
        explanations=explained,
        surviving=surviving(explained),
        tables=[*tables.study_tables(study), *tables.importance_tables(study)],
        analyses=analyses(store, study, svg=True),
        curves=panels.loss_curves(store, found),
        latent=panels.latent_use(found),
        plane=panels.plane(found),
        samples=_samples(store, found),
        interpolations=_images(store, first, INTERPOLATION_FILE, "figures/interpolation.png"),
        classes=_images(store, first, CLASS_FILE, "figures/class_grid.png"),
        shared=setup.shared(study),
        varied=setup.varied(study),
        environment=setup.environment(study),
        command=parent.tags.get(COMMAND, ""),
        commands=[(run.name, setup.command(run)) for run in first if setup.command(run)],
        links=[
            Link(view.title[2:], base + views.page(parent.experiment_id, view))
            for view in views.study_views(study)
        ]
        + [Link("The parent run", base + views.run_page(parent))],
        runs=[Link(run.name, base + views.run_page(run), run.status.lower()) for run in study.runs],
        server=server,
    )


def _first_of_each(found: Sequence[Comparison]) -> list[StoredRun]:
    """The first finished run of every configuration, family by family in the order of the tables."""
    families: dict[tuple[str, ...], dict[str, StoredRun]] = {}
    for comparison in found:
        for group in comparison.groups:
            family = families.setdefault(tuple(group.keys.get(key, "") for key in comparison.within), {})
            family.update({run.run_id: run for run in group.finished[:1]})
    return [run for family in families.values() for run in family.values()]


def _answers(comparison: Comparison) -> list[Answer]:
    last = comparison.by[-1]
    answers = []
    for family, groups in families(comparison):
        known = [(group.keys[last], group.values("test/loss")) for group in groups]
        losses = [(value, statistics.fmean(each)) for value, each in known if each]
        if losses:
            values = " → ".join(value for value, _ in losses)
            answers.append(
                Answer(family, key_name(last), values, " → ".join(f"{loss:.2f}" for _, loss in losses))
            )
    return answers


def _samples(store: Store, found: Sequence[Comparison]) -> list[Strip]:
    strips = []
    for comparison in found:
        last = comparison.by[-1]
        for family, groups in families(comparison):
            images = []
            for group in groups:
                strip = picture(store, group.finished[0], STRIP_FILE) if group.finished else None
                if strip is not None:
                    label = f"{key_name(last)} {group.keys[last]}"
                    images.append(Image(label, group.finished[0].name, pictures.folded(strip)))
            if images:
                strips.append(Strip(" · ".join(filter(None, [family, topic(last)])), images))
    return strips


def _images(store: Store, runs: Sequence[StoredRun], *paths: str) -> list[Image]:
    """The first of these artifacts that each run has."""
    found = [
        (run, next((made for path in paths if (made := picture(store, run, path)) is not None), None))
        for run in runs
    ]
    return [Image(configuration(run), run.name, image) for run, image in found if image is not None]


def picture(store: Store, run: StoredRun, path: str) -> Picture | None:
    """A picture among the artifacts of a finished run, if it has it."""
    if run.status != "FINISHED":
        return None
    try:
        return pictures.load_picture(store.download(run.run_id, path))
    except LabError:  # made by another tool or an older lab, or its artifacts were deleted
        return None
