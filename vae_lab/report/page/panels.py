"""The charts of a study's page, each with its caption."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

from vae_lab import metrics
from vae_lab.metrics import ANNEALED_DISTORTION, ANNEALED_RATE
from vae_lab.report.charts.latent_use import LatentUse, latent_use
from vae_lab.report.charts.loss_curves import LossCurves, study_losses
from vae_lab.report.charts.rate_distortion import MOST_DRAWN, RateDistortion, rate_distortion
from vae_lab.report.drawing import Drawing
from vae_lab.report.lines import abridged, configuration, drawn_lines, value_text
from vae_lab.studies.comparison import Comparison, Group, key_name, param_values
from vae_lab.tracking import Reader, StoredRun

CARRIED = 0.95  # of the KL, in the caption of where it lies


class Panel(NamedTuple):
    """A chart with its caption, for readers who do not see it too."""

    title: str
    chart: Drawing
    caption: str


def loss_panels(store: Reader, comparisons: Sequence[Comparison]) -> list[Panel]:
    """One chart a line of configurations: their losses over the epochs."""
    shown = drawn_lines(comparisons)
    finished = dict.fromkeys(run.run_id for line in shown for group in line.groups for run in group.finished)
    logged = store.points(finished, ("test/loss", "train/loss"))

    def curves(group: Group, metric: str) -> list[list[float]]:
        of_runs = (logged.get(run.run_id, {}).get(metric, {}) for run in group.finished)
        return [[values[step] for step in sorted(values)] for values in of_runs if values]

    panels = []
    for line in shown:
        name = key_name(line.key)
        series = [
            LossCurves(group.keys[line.key], curves(group, "test/loss"), curves(group, "train/loss"))
            for group in line.groups
        ]
        ends = [(row.label, [curve[-1] for curve in row.held_out]) for row in series if row.held_out]
        if ends:
            means = [f"{sum(values) / len(values):.1f} for {label}" for label, values in ends]
            losses = ", ".join(abridged(means))
            caption = f"Held-out loss at the end, by {name}: {losses} (nats per image)."
            chart = study_losses(f"{line.comparison} {line.family}", name, series)
            panels.append(Panel(line.title, chart, caption))
    return panels


def latent_panels(comparisons: Sequence[Comparison]) -> list[Panel]:
    """Where the KL lies, for the runs whose KL of every latent dimension was measured."""
    panels = []
    for line in drawn_lines(comparisons):
        name = key_name(line.key)
        measured = {
            group.keys[line.key]: [
                metrics.series(run.metrics, metrics.KL_DIMENSION) for run in group.finished
            ]
            for group in line.groups
        }
        series = [
            LatentUse(label, [kl for kl in runs if kl]) for label, runs in measured.items() if any(runs)
        ]
        if series:
            share = f"{CARRIED * 100:.0f} %"
            carried = ", ".join(abridged([*map(_carried, series)]))
            caption = f"Dimensions that carry {share} of the KL, by {name}: {carried}."
            chart = latent_use(f"latent {line.comparison} {line.family}", name, series)
            panels.append(Panel(line.title, chart, caption))
    return panels


def _carried(use: LatentUse) -> str:
    size = min(map(len, use.kl))
    means = [sum(values) / len(values) for values in zip(*use.kl, strict=False)]
    if sum(means) < 1e-6:
        return f"none of {size} for {use.label}"
    needed = sum(partial < CARRIED * sum(means) for partial in accumulate(means)) + 1
    return f"{min(needed, size)} of {size} for {use.label}"


def rate_distortion_panels(comparisons: Sequence[Comparison]) -> list[Panel]:
    """All finished runs by rate and distortion, as far as measured: a chart for each kind of distortion."""
    keys = metrics.CATALOGUE["test/reconstruction"].column_keys
    kinds: dict[tuple[str, ...], dict[str, RateDistortion]] = {}
    for comparison in comparisons:
        for group in comparison.groups:
            family = " ".join(value_text(key, group.keys[key]) for key in comparison.within) or "runs"
            for run in group.finished:
                if {"test/kl", "test/reconstruction"} <= run.metrics.keys():
                    points = kinds.setdefault(param_values(run, keys), {})
                    points.setdefault(run.run_id, _point(run, family))
    varied = [place for place in range(len(keys)) if len({kind[place] for kind in kinds}) > 1]
    panels = []
    for kind, points in kinds.items():
        title = ", ".join(value_text(keys[place], kind[place]) for place in varied)
        panels.append(_rate_distortion_panel(title or "all runs", [*points.values()]))
    return panels


def _point(run: StoredRun, family: str) -> RateDistortion:
    label = configuration(run).removeprefix(f"{run.params.get('model', '')} ")
    rate, distortion = run.metrics["test/kl"], run.metrics["test/reconstruction"]
    return RateDistortion(family, label, rate, distortion, _decoder_curve(run.metrics))


def _rate_distortion_panel(title: str, runs: Sequence[RateDistortion]) -> Panel:
    what = (
        "One point a run, on held-out images; runs that differ by seed are tied to their mean."
        if len(runs) <= MOST_DRAWN
        else "One point a configuration, the mean of its runs on held-out images."
    )
    if any(run.curve for run in runs):
        what += (
            " A dashed line is what a decoder allows, whatever encodes for it: rates and distortions of "
            "annealed chains from its prior to its posteriors, on the images that have chains."
        )
    return Panel(title, rate_distortion(f"rate-distortion {title}", runs), what)


def _decoder_curve(measured: Mapping[str, float]) -> tuple[tuple[float, float], ...]:
    """Returns the rates and distortions that a run's chains have measured; none if it has no chains."""
    rates, distortions = (
        [measured[key] for key in sorted(measured) if key.startswith(f"{name}/")]
        for name in (ANNEALED_RATE, ANNEALED_DISTORTION)
    )
    return tuple(zip(rates, distortions, strict=False))
