"""What the MLflow UI shows of a study: saved views of columns and charts, colours, and links to them.

MLflow keeps a saved view as an experiment tag and opens it with `viewStateShareKey` in the address; the form
below is the one that MLflow 3.15 to 3.17 write themselves.
"""

from __future__ import annotations

import base64
import colorsys
import json
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode

from vae_lab.studies.comparison import POINT, Comparison, Study, comparisons, key_name, topic
from vae_lab.tracking import KIND, NOTE, RUN, StoredRun, member_tag

if TYPE_CHECKING:  # only named: whoever reads an SQLite file goes without MLflow
    from vae_lab.tracking import Recorder, Store

NAME = "vae-lab.localhost"  # browsers lead every name below localhost to this machine
PORT = 5000
VIEW_TAG, COLOUR_TAG = "mlflow.sharedViewState.", "mlflow.runColor"
TAG_LIMIT = 20_000  # characters of an experiment tag
COLUMNS = ("test/loss", "test/reconstruction", "test/kl", "test/active_units", "train/last_minibatch_loss")
PARTS = ("test/reconstruction", "test/kl", "test/active_units")
TRAINING = (
    *("train/loss", "train/reconstruction", "train/kl", "train/last_minibatch_loss", "train/step_loss"),
    *("train/images_per_second", "train/seconds", "train/total_seconds", "train/learning_rate"),
    "test/negative_elbo",
)
IMAGES = ("images/samples", "images/reconstructions", "images/class_grid")
HUES = (0.58, 0.06, 0.36, 0.80, 0.50, 0.95)  # one a family of runs: blue, orange, green, violet, teal, pink
CHARACTER = 8  # pixels, about
EVERY_RUN = 100  # more than any chart should hold


class View(NamedTuple):
    """A question about a study, as a page of the UI."""

    key: str  # in the address
    title: str
    axis: str  # the parameter on the horizontal axis
    where: str  # MLflow's filter of the runs


def address(port: int = PORT) -> str:
    """Where `vae-lab ui` is opened.

    The name leads to this machine like `localhost`, but keeps the UI from unfolding its assistant over a
    quarter of the page, as it does there at every first visit.
    """
    return f"http://{NAME}:{port}"


def page(experiment_id: str, view: View, mode: str = "CHART") -> str:
    """The part of the address behind the server's, for the charts (CHART) or the table (TABLE) of a view."""
    query = {"workflowType": "machine_learning", "compareRunsMode": mode, "viewStateShareKey": view.key}
    return f"#/experiments/{experiment_id}/runs?{urlencode(query)}"


def run_page(record: StoredRun, below: str = "") -> str:
    """The part of the address behind the server's of a run, or of a page below it."""
    return f"#/experiments/{record.experiment_id}/runs/{record.run_id}{below}?workflowType=machine_learning"


def study_views(study: Study) -> list[View]:
    """One view for each table of a study, then one of all of its runs."""
    found = []
    mine = f"tags.\"{KIND}\" = '{RUN}' AND tags.\"{member_tag(study.parent.run_id)}\" = '1'"
    tables = [each for each in comparisons(study) if each.by[-1] != POINT]  # MLflow knows no such parameter
    for number, table in enumerate(tables, start=1):
        axis = table.by[-1]
        others = {key: value for key, value in study.plan.base.items() if key != axis}
        fixed = "".join(f" AND params.\"{key}\" = '{value}'" for key, value in others.items())
        found.append(View(_key(study, axis), f"{number} What {topic(axis)} does", axis, mine + fixed))
    title = f"{len(tables) + 1} All runs, best first"
    axis = tables[0].by[-1] if tables else next(iter(study.plan.base), "model")
    return [*found, View(_key(study, "all"), title, axis, mine)]


def _key(study: Study, name: str) -> str:
    return "-".join("".join(sign if sign.isalnum() else " " for sign in f"{study.plan.name} {name}").split())


def write_views(store: Store, recorder: Recorder, study: Study) -> None:
    """Stores the views of a study, colours its runs and links the views from the experiment's description."""
    finished = [run for run in study.runs if run.status == "FINISHED"]
    views = study_views(study)
    for view in views:
        state = _state(view, study, finished)
        _write_view(store, recorder.experiment_id, view, state)
    for run_id, colour in colours(comparisons(study)).items():
        store.ask(partial(store.client.set_tag, run_id, COLOUR_TAG, colour))
    note = _experiment_note(study, views)
    store.ask(lambda: store.client.set_experiment_tag(recorder.experiment_id, NOTE, note))


def answer(comparison: Comparison) -> str:
    """One line of what the last key did: `vae: held-out loss 104.56, 113.29 for layers 2, 3`."""
    families: dict[str, list[tuple[str, float]]] = {}
    for group in comparison.groups:
        values = group.values("test/loss")
        if values:
            family = " ".join(group.keys[key] for key in comparison.by[:-1])
            families.setdefault(family, []).append((group.keys[comparison.by[-1]], sum(values) / len(values)))
    parts = []
    for family, found in families.items():
        losses = ", ".join(f"{loss:.2f}" for _, loss in found)
        keys = ", ".join(value for value, _ in found)
        lead = f"{family}: " if family else ""
        parts.append(f"{lead}held-out loss {losses} for {key_name(comparison.by[-1])} {keys}")
    return "; ".join(parts)


def links(study: Study) -> str:
    """Markdown links to the views of a study and to its full tables."""
    experiment_id = study.parent.experiment_id
    named = [f"[{view.title[2:]}]({page(experiment_id, view)})" for view in study_views(study)]
    tables = run_page(study.parent, "/artifacts/tables/ablations.md")
    sheet = run_page(study.parent, "/artifacts/figures/contact_sheet.png")
    return " · ".join([*named, f"[full tables]({tables})", f"[samples]({sheet})"])


def _experiment_note(study: Study, views: Sequence[View]) -> str:
    # The UI shows the first line and folds the rest.
    answers = ". ".join(filter(None, map(answer, comparisons(study))))
    return f"{study.plan.name}: {links(study)}\n\n{answers}."


def colours(tables: Iterable[Comparison]) -> dict[str, str]:
    """Run id to colour: a hue for each family (such as a model), darker along its runs."""
    families: dict[tuple[str, ...], list[str]] = {}
    for table in tables:
        for group in table.groups:
            family = tuple(group.keys.get(key, "") for key in table.within)
            known = families.setdefault(family, [])
            known += [run.run_id for run in group.finished if run.run_id not in known]
    found = {}
    for number, runs in enumerate(families.values()):
        hue = HUES[number % len(HUES)]
        for place, run_id in enumerate(runs):
            lightness = 0.72 - 0.44 * place / max(len(runs) - 1, 1)
            red, green, blue = (round(255 * part) for part in colorsys.hls_to_rgb(hue, lightness, 0.75))
            found[run_id] = f"#{red:02x}{green:02x}{blue:02x}"
    return found


def _write_view(store: Store, experiment_id: str, view: View, state: Mapping[str, Any]) -> None:
    packed = base64.b64encode(zlib.compress(json.dumps(state, separators=(",", ":")).encode(), 9)).decode()
    now = int(time.time() * 1000)
    value = json.dumps({"name": view.title, "createdAt": now, "updatedAt": now, "state": f"deflate;{packed}"})
    if len(value) <= TAG_LIMIT:  # a study of hundreds of keys goes without; its tables are on the parent run
        store.ask(lambda: store.client.set_experiment_tag(experiment_id, VIEW_TAG + view.key, value))


def _column(kind: str, name: str) -> str:
    return f"{kind}.`{name}`"


def _state(view: View, study: Study, finished: Sequence[StoredRun]) -> dict[str, Any]:
    plan = study.plan
    keys = list(dict.fromkeys(["model", *plan.cross, *plan.one_at_a_time, *plan.base, *plan.replicate]))
    last_epoch = max((int(run.params.get("train.epochs", 1)) for run in finished), default=1)
    widths = {
        _column("attributes", "Run Name"): 60
        + CHARACTER * max((len(run.name) for run in finished), default=20)
    }
    widths["runDateAndNestInfo"] = 110
    columns = [_column("params", key) for key in keys] + [_column("metrics", metric) for metric in COLUMNS]
    widths |= {column: 30 + CHARACTER * (len(column) - 9) for column in columns}
    all_of_them = view.key.endswith("all")
    return {
        "searchFilter": view.where,
        # Sorted by anything but time, children stand beside their parent instead of folded below it.
        "orderByKey": _column("metrics", "test/loss") if all_of_them else "tags.`mlflow.runName`",
        "orderByAsc": True,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
        "selectedColumns": columns,
        "columnOrder": list(widths),
        "columnWidths": widths,
        "groupBy": None,
        "groupsExpanded": {},
        "useGroupedValuesInCharts": True,
        "runsHiddenMode": "SHOW_ALL",
        "runListHidden": False,
        "viewMaximized": False,
        "isAccordionReordered": True,
        "hideEmptyCharts": True,
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
        "compareRunSections": [
            _section("loss", f"1 Held-out loss by {topic(view.axis)}", columns=2, height=300),
            _section("images", "2 Samples of every run, last epoch", columns=1, height=640),
            _section("parts", "3 Parts of the loss", columns=3, height=300),
            _section("training", "4 Training", columns=3, height=300, display=False),
        ],
        "compareRunCharts": _charts(
            view, [key for key in keys if key not in study.plan.replicate], finished, last_epoch
        ),
    }


def _charts(
    view: View, keys: Sequence[str], finished: Sequence[StoredRun], last_epoch: int
) -> list[dict[str, Any]]:
    horizontal, loss = {"key": view.axis, "type": "PARAM"}, {"key": "test/loss", "type": "METRIC"}
    return [
        _card("SCATTER", "scatter", "loss", xaxis=horizontal, yaxis=loss),
        _line("test/loss", "loss", x=(0.8, last_epoch + 0.3), y=_loss_range(finished)),
        _card("BAR", "bar", "loss", metricKey="test/loss", selectedMetricKeys=["test/loss"]),
        _card(
            "PARALLEL",
            "parallel",
            "loss",
            selectedParams=list(keys),
            selectedMetrics=["test/loss"],
            showAllRuns=True,
        ),
        _card("IMAGE", "grid", "images", imageKeys=list(IMAGES[:1]), step=last_epoch, showRunParams=False),
        *[_line(metric, "parts") for metric in PARTS],
        *[_line(metric, "training") for metric in TRAINING],
        # The UI adds a card of its own, its slider at the untrained model, for each key that has none.
        *[
            _card("IMAGE", f"hidden-{key}", "images", imageKeys=[key], step=last_epoch, deleted=True)
            for key in IMAGES
        ],
    ]


def _loss_range(finished: Sequence[StoredRun]) -> tuple[float, float] | None:
    """From below the best final loss to above the worst, so that the first epochs do not flatten the rest."""
    losses = [run.metrics["test/loss"] for run in finished if "test/loss" in run.metrics]
    if not losses:
        return None
    spread = max(losses) - min(losses) or 0.05 * abs(losses[0])
    return min(losses) - 0.2 * spread, max(losses) + spread


def _section(key: str, name: str, columns: int, height: int, display: bool = True) -> dict[str, Any]:
    return {
        "uuid": key,
        "name": name,
        "display": display,
        "columns": columns,
        "cardHeight": height,
        "isReordered": True,
        "deleted": False,
        "isGenerated": False,
    }


def _card(kind: str, key: str, section: str, **options: Any) -> dict[str, Any]:
    return {
        "type": kind,
        "uuid": key,
        "metricSectionId": section,
        "isGenerated": False,
        "deleted": False,
        "runsCountToCompare": EVERY_RUN,
        **options,
    }


def _line(
    metric: str, section: str, x: tuple[float, float] | None = None, y: tuple[float, float] | None = None
) -> dict[str, Any]:
    limits = {
        f"{name}{end}": value
        for name, pair in (("x", x), ("y", y))
        if pair
        for end, value in zip(("Min", "Max"), pair, strict=True)
    }
    return _card(
        "LINE",
        f"line-{metric}",
        section,
        metricKey=metric,
        selectedMetricKeys=[metric],
        range=limits,
        xAxisKey="step",
        selectedXAxisMetricKey="",
        scaleType="linear",
        xAxisScaleType="linear",
        yAxisKey="metric",
        yAxisExpressions=[],
        lineSmoothness=0,
        ignoreOutliers=False,
        useGlobalXaxisKey=not x,
        useGlobalLineSmoothing=True,
    )
