"""The charts of a study's page, each with its caption."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from vae_lab import metrics
from vae_lab.report import charts
from vae_lab.studies.comparison import Comparison, Group, key_name, topic
from vae_lab.tracking import StoredRun

if TYPE_CHECKING:  # only named: whoever reads an SQLite file goes without MLflow
    from vae_lab.tracking import Store

CARRIED = 0.95  # of the KL, in the caption of where it lies


class Panel(NamedTuple):
    """A chart with its caption, for readers who do not see it too."""

    title: str
    svg: str
    caption: str


def families(comparison: Comparison) -> Iterator[tuple[str, list[Group]]]:
    """Groups that differ in the last key only, under what they share."""
    families: dict[str, list[Group]] = {}
    for group in comparison.groups:
        shared = [value_text(key, group.keys[key]) for key in comparison.by[:-1]]
        families.setdefault(" · ".join(shared), []).append(group)
    yield from families.items()


def value_text(key: str, value: str) -> str:
    """What a family of runs shares, in words."""
    return value.upper() if key == "model" and value in ("vae", "cvae") else f"{key_name(key)} {value}"


def loss_curves(store: Store, found: Sequence[Comparison]) -> list[Panel]:
    """One chart for each family of configurations: their losses over the epochs."""
    panels = []
    histories: dict[tuple[str, str], list[float]] = {}

    def history(run: StoredRun, metric: str) -> list[float]:
        if (run.run_id, metric) not in histories:
            histories[run.run_id, metric] = store.history(run.run_id, metric)
        return histories[run.run_id, metric]

    for comparison in found:
        last = comparison.by[-1]
        for family, groups in families(comparison):
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


def latent_use(found: Sequence[Comparison]) -> list[Panel]:
    """Where the KL lies, for the runs whose KL of every latent dimension was measured."""
    panels = []
    for comparison in found:
        last = comparison.by[-1]
        for family, groups in families(comparison):
            series = [
                charts.Latent(
                    group.keys[last],
                    [
                        kl
                        for run in group.finished
                        if (kl := metrics.series(run.metrics, metrics.KL_DIMENSION))
                    ],
                )
                for group in groups
            ]
            series = [each for each in series if each.kl]
            if not series:
                continue
            title = " · ".join(filter(None, [family, topic(last)]))
            told = ", ".join(_carried(each) for each in series)
            share = f"{CARRIED * 100:.0f} %"
            caption = f"Dimensions that carry {share} of the KL, by {key_name(last)}: {told}."
            svg = charts.latent_use(f"latent {comparison.title} {family}", key_name(last), series)
            panels.append(Panel(title, svg, caption))
    return panels


def _carried(each: charts.Latent) -> str:
    size = min(map(len, each.kl))
    means = [sum(values) / len(values) for values in zip(*each.kl, strict=False)]
    if sum(means) < 1e-6:
        return f"none of {size} for {each.label}"
    needed = sum(partial < CARRIED * sum(means) for partial in accumulate(means)) + 1
    return f"{min(needed, size)} of {size} for {each.label}"


def plane(found: Sequence[Comparison]) -> Panel | None:
    """All finished runs by rate and distortion, if any was measured."""
    points: dict[str, charts.Point] = {}
    for comparison in found:
        for group in comparison.groups:
            family = " ".join(value_text(key, group.keys[key]) for key in comparison.within) or "runs"
            for run in group.finished:
                if {"test/kl", "test/reconstruction"} <= run.metrics.keys():
                    label = configuration(run).removeprefix(f"{run.params.get('model', '')} ")
                    place = run.metrics["test/kl"], run.metrics["test/reconstruction"]
                    points.setdefault(run.run_id, charts.Point(family, label, *place))
    if not points:
        return None
    svg = charts.rate_distortion("rate-distortion", list(points.values()))
    return Panel("Rate and distortion", svg, "")


def configuration(run: StoredRun) -> str:
    """The run's name without its seed, which the lab writes last."""
    return re.sub(r" s\d+$", "", run.name)
