"""What the page of a study says, read from the store and not yet set in HTML or Markdown."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from vae_lab import charts, figures, tables, verdict_tables, views
from vae_lab.claims import Explanation, Verdict, explanations, surviving
from vae_lab.comparison import Comparison, Group, Study, comparisons, key_name, topic
from vae_lab.errors import LabError
from vae_lab.figures import Picture
from vae_lab.report import setup
from vae_lab.report.analyses import Analysis, analyses
from vae_lab.tables import Table
from vae_lab.tracking import (
    CLASS_FILE,
    COMMAND,
    INTERPOLATION_FILE,
    STRIP_FILE,
    Record,
    sqlite_file,
)

if TYPE_CHECKING:  # only named: whoever reads an SQLite file goes without MLflow
    from vae_lab.tracking import Store


class Panel(NamedTuple):
    """A chart with its caption, for readers who do not see it too."""

    title: str
    svg: str
    caption: str


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
        verdicts=verdict_tables.brief_table(judged) if judged else None,
        claims=[
            (str(each["id"]), str(each["text"])) for each in plan.claims if {"id", "text"} <= each.keys()
        ],
        explanations=explained,
        surviving=surviving(explained),
        tables=[*tables.study_tables(study), *tables.importance_tables(study)],
        analyses=analyses(store, study, svg=True),
        curves=_curves(store, found),
        plane=_plane(found),
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


def _first_of_each(found: Sequence[Comparison]) -> list[Record]:
    """The first finished run of every configuration, family by family in the order of the tables."""
    families: dict[tuple[str, ...], dict[str, Record]] = {}
    for comparison in found:
        for group in comparison.groups:
            family = families.setdefault(tuple(group.keys.get(key, "") for key in comparison.within), {})
            family.update({run.run_id: run for run in group.finished[:1]})
    return [run for family in families.values() for run in family.values()]


def _families(comparison: Comparison) -> Iterator[tuple[str, list[Group]]]:
    """Groups that differ in the last key only, under what they share."""
    families: dict[str, list[Group]] = {}
    for group in comparison.groups:
        shared = [_value(key, group.keys[key]) for key in comparison.by[:-1]]
        families.setdefault(" · ".join(shared), []).append(group)
    yield from families.items()


def _value(key: str, value: str) -> str:
    return value.upper() if key == "model" and value in ("vae", "cvae") else f"{key_name(key)} {value}"


def _answers(comparison: Comparison) -> list[Answer]:
    last = comparison.by[-1]
    answers = []
    for family, groups in _families(comparison):
        known = [(group.keys[last], group.values("test/loss")) for group in groups]
        losses = [(value, statistics.fmean(each)) for value, each in known if each]
        if losses:
            values = " → ".join(value for value, _ in losses)
            answers.append(
                Answer(family, key_name(last), values, " → ".join(f"{loss:.2f}" for _, loss in losses))
            )
    return answers


def _curves(store: Store, found: Sequence[Comparison]) -> list[Panel]:
    panels = []
    histories: dict[tuple[str, str], list[float]] = {}

    def history(run: Record, metric: str) -> list[float]:
        if (run.run_id, metric) not in histories:
            histories[run.run_id, metric] = store.history(run.run_id, metric)
        return histories[run.run_id, metric]

    for comparison in found:
        last = comparison.by[-1]
        for family, groups in _families(comparison):
            series = [
                charts.Curves(
                    group.keys[last],
                    *(
                        [values for run in group.finished if (values := history(run, metric))]
                        for metric in ("test/loss", "train/loss")
                    ),
                )
                for group in groups
            ]
            if not any(each.held_out for each in series):
                continue
            title = " · ".join(filter(None, [family, topic(last)]))
            ends = ", ".join(
                f"{sum(curve[-1] for curve in each.held_out) / len(each.held_out):.1f} for {each.label}"
                for each in series
                if each.held_out
            )
            caption = f"Held-out loss at the end, by {key_name(last)}: {ends} (nats per image)."
            svg = charts.loss_curves(f"{comparison.title} {family}", key_name(last), series)
            panels.append(Panel(title, svg, caption))
    return panels


def _plane(found: Sequence[Comparison]) -> Panel | None:
    points: dict[str, charts.Point] = {}
    for comparison in found:
        for group in comparison.groups:
            family = " ".join(_value(key, group.keys[key]) for key in comparison.within) or "runs"
            for run in group.finished:
                if {"test/kl", "test/reconstruction"} <= run.metrics.keys():
                    label = configuration(run).removeprefix(f"{run.params.get('model', '')} ")
                    place = run.metrics["test/kl"], run.metrics["test/reconstruction"]
                    points.setdefault(run.run_id, charts.Point(family, label, *place))
    if not points:
        return None
    svg = charts.rate_distortion("rate-distortion", list(points.values()))
    return Panel("Rate and distortion", svg, "")


def configuration(run: Record) -> str:
    """The run's name without its seed, which the lab writes last."""
    return re.sub(r" s\d+$", "", run.name)


def _samples(store: Store, found: Sequence[Comparison]) -> list[Strip]:
    strips = []
    for comparison in found:
        last = comparison.by[-1]
        for family, groups in _families(comparison):
            images = []
            for group in groups:
                strip = picture(store, group.finished[0], STRIP_FILE) if group.finished else None
                if strip is not None:
                    label = f"{key_name(last)} {group.keys[last]}"
                    images.append(Image(label, group.finished[0].name, figures.folded(strip)))
            if images:
                strips.append(Strip(" · ".join(filter(None, [family, topic(last)])), images))
    return strips


def _images(store: Store, runs: Sequence[Record], *paths: str) -> list[Image]:
    """The first of these artifacts that each run has."""
    found = [
        (run, next((made for path in paths if (made := picture(store, run, path)) is not None), None))
        for run in runs
    ]
    return [Image(configuration(run), run.name, image) for run, image in found if image is not None]


def picture(store: Store, run: Record, path: str) -> Picture | None:
    """A picture among the artifacts of a finished run, if it has it."""
    if run.status != "FINISHED":
        return None
    try:
        return figures.load_picture(store.download(run.run_id, path))
    except LabError:  # made by another tool or an older lab, or its artifacts were deleted
        return None
