"""What the MLflow UI shows of a study: saved views of columns and charts, colours, and links to them.

MLflow keeps a saved view as an experiment tag and opens it with `viewStateShareKey` in the address; the view
itself is `templates/view.json.jinja`.
"""

from __future__ import annotations

import base64
import colorsys
import json
import time
import zlib
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, urlencode

from vae_lab.metrics import CATALOGUE
from vae_lab.report.lines import abridged, lines
from vae_lab.report.tables.formats import markdown_text
from vae_lab.report.template import filled
from vae_lab.studies.comparison import (
    Comparison,
    comparisons,
    groups_by_family,
    key_name,
    param_values,
    topic,
)
from vae_lab.studies.names import owner_of
from vae_lab.studies.study import POINT, Study, has_params
from vae_lab.tracking import EXPLORER_FILE, KIND, NOTE, RUN, StoredRun, member_tag, whole_number
from vae_lab.tracking.records import checksum_tag

if TYPE_CHECKING:  # only named: whoever reads an SQLite file goes without MLflow
    from vae_lab.tracking import Recorder, Store

NAME = "vae-lab.localhost"  # browsers lead every name below localhost to this machine
PORT = 5000
VIEW_TAG, COLOUR_TAG = "mlflow.sharedViewState.", "mlflow.runColor"
TAG_LIMIT = 20_000  # characters of an experiment tag
COLUMNS = ("test/loss", "test/reconstruction", "test/kl", "test/active_units", "train/last_minibatch_loss")
HUES = (0.58, 0.06, 0.36, 0.80, 0.50, 0.95)  # one a family of runs: blue, orange, green, violet, teal, pink
CHARACTER = 8  # pixels, about
EVERY_RUN = 100  # that the UI loads at once, and a chart holds


class View(NamedTuple):
    """A question about a study, as a page of the UI."""

    key: str  # in the address
    title: str
    axis: str  # the parameter on the horizontal axis
    where: str  # MLflow's filter of the runs
    order: str = "tags.`mlflow.runName`"  # anything but time, which would fold children below their parent


def ui_address(port: int = PORT) -> str:
    """Where `vae-lab ui` is opened.

    The name leads to this machine like `localhost`, but keeps the UI from unfolding its assistant over a
    quarter of the page, as it does there at every first visit.

    Examples:
        >>> ui_address(5001)
        'http://vae-lab.localhost:5001'
    """
    return f"http://{NAME}:{port}"


def page(experiment_id: str, view: View, mode: str = "CHART") -> str:
    """The part of the address behind the server's, for the charts (CHART) or the table (TABLE) of a view."""
    query = {"workflowType": "machine_learning", "compareRunsMode": mode, "viewStateShareKey": view.key}
    return f"#/experiments/{quote(experiment_id, safe='')}/runs?{urlencode(query)}"


def run_page(record: StoredRun, below: str = "") -> str:
    """The part of the address behind the server's of a run, or of a page below it."""
    experiment_id, run_id = quote(record.experiment_id, safe=""), quote(record.run_id, safe="")
    return f"#/experiments/{experiment_id}/runs/{run_id}{below}?workflowType=machine_learning"


def study_views(study: Study) -> list[View]:
    """One view for each table of a study, then one of all of its runs."""
    members = f"tags.\"{KIND}\" = '{RUN}' AND tags.\"{member_tag(study.parent.run_id)}\" = '1'"
    # MLflow knows no parameter that names a point.
    axes = [table.by[-1] for table in comparisons(study) if table.by[-1] != POINT]
    views = []
    for number, axis in enumerate(axes, start=1):
        others = {key: value for key, value in study.plan.base.items() if key != axis}
        fixed = "".join(f" AND params.\"{key}\" = '{value}'" for key, value in others.items())
        title, count = f"{number} What {topic(axis)} does", sum(has_params(run, others) for run in study.runs)
        view = View(_key(study, axis), title, axis, members + fixed)
        views.append(view if count <= EVERY_RUN else _replicate_by_replicate(view, study, count))
    axis = axes[0] if axes else next(iter(study.plan.base), "model")
    title = f"{len(axes) + 1} {_title_of_all(study.runs)}"
    return [*views, View(_key(study, "all"), title, axis, members, "metrics.`test/loss`")]


def _title_of_all(runs: Sequence[StoredRun]) -> str:
    """Says of runs in the order of their losses that the best are the first, if their losses compare."""
    loss = CATALOGUE["test/loss"]
    comparable = len({param_values(run, (*loss.column_keys, *loss.comparison_keys)) for run in runs}) < 2
    title, first = ("All runs, best first", "best") if comparable else ("All runs by held-out loss", "first")
    return title if len(runs) <= EVERY_RUN else f"{title}: the {first} {EVERY_RUN} of {len(runs):,}"


def _replicate_by_replicate(view: View, study: Study, count: int) -> View:
    """Returns a view of more runs than the UI loads, which begins with the first of every configuration."""
    key = study.plan.pairs_by
    title = f"{view.title}, {key_name(key)} by {key_name(key)}: the first {EVERY_RUN} of {count:,} runs"
    return view._replace(title=title, order=f"params.`{key}`")


def _key(study: Study, name: str) -> str:
    words = f"{study.plan.name} {name} {owner_of(study.parent)}"
    return "-".join("".join(sign if sign.isalnum() else " " for sign in words).split())


def write_views(store: Store, recorder: Recorder, study: Study) -> None:
    """Stores the views of a study, colours its runs and links the views from the experiment's description."""
    set_tag = partial(store.client.set_experiment_tag, recorder.experiment_id)
    for view in study_views(study):
        value = _tag_value(view, study)
        # A study of hundreds of keys goes without; its tables are on the parent run.
        if len(value) <= TAG_LIMIT:
            store.ask(partial(set_tag, VIEW_TAG + view.key, value))
    coloured = {run.run_id: run.tags.get(COLOUR_TAG) for run in study.runs}
    for run_id, colour in colours(comparisons(study)).items():
        if coloured.get(run_id) != colour:
            store.ask(partial(store.client.set_tag, run_id, COLOUR_TAG, colour, synchronous=True))
    # The UI shows the first line and folds the rest.
    answers = ". ".join(filter(None, map(answer, comparisons(study))))
    note = f"{study.plan.name}: {links(study)}\n\n{answers}."
    store.ask(partial(set_tag, NOTE, note))


def answer(comparison: Comparison) -> str:
    """One line of what the last key did: `vae: held-out loss 104.56, 113.29 for layers 2, 3`."""
    answers = []
    for line in lines([comparison]):
        if losses := line.losses:
            family = " ".join(line.shared.values())
            texts = [f"{loss:.2f}" for loss in losses.values()]
            values, means = (", ".join(abridged(part)) for part in ([*losses], texts))
            lead = f"{family}: " if family else ""
            answers.append(f"{lead}held-out loss {means} for {key_name(line.key)} {values}")
    return "; ".join(answers)


def links(study: Study) -> str:
    """Markdown links to the views of a study and to its full tables."""
    experiment_id = study.parent.experiment_id
    named = [f"[{markdown_text(view.title[2:])}]({page(experiment_id, view)})" for view in study_views(study)]
    tables = run_page(study.parent, "/artifacts/tables/ablations.md")
    sheet = run_page(study.parent, "/artifacts/figures/contact_sheet.png")
    explorer = [f"[explorer]({address})"] if (address := explorer_page(study.parent)) else []
    return " · ".join([*named, f"[full tables]({tables})", f"[samples]({sheet})", *explorer])


def explorer_page(run: StoredRun) -> str:
    """The part of the address behind the server's of a run's explorer; empty if it has none."""
    has_one = checksum_tag(EXPLORER_FILE) in run.tags
    return run_page(run, f"/artifacts/{EXPLORER_FILE}") if has_one else ""


def colours(tables: Iterable[Comparison]) -> dict[str, str]:
    """Run id to colour: a hue for each family (such as a model), darker along its runs."""
    shades = {}
    for number, groups in enumerate(groups_by_family(tables).values()):
        runs = dict.fromkeys(run.run_id for group in groups for run in group.finished)
        for i, run_id in enumerate(runs):
            lightness = 0.72 - 0.44 * i / max(len(runs) - 1, 1)
            channels = colorsys.hls_to_rgb(HUES[number % len(HUES)], lightness, 0.75)
            shades[run_id] = "#" + "".join(f"{round(255 * channel):02x}" for channel in channels)
    return shades


def _tag_value(view: View, study: Study) -> str:
    """The text in which MLflow keeps a view: its state deflated."""
    state = json.dumps(view_state(view, study), separators=(",", ":"))
    packed = base64.b64encode(zlib.compress(state.encode(), 9)).decode()
    now = int(time.time() * 1000)
    return json.dumps({"name": view.title, "createdAt": now, "updatedAt": now, "state": f"deflate;{packed}"})


def view_state(view: View, study: Study) -> dict[str, Any]:
    """The columns, the order and the charts of a view."""
    plan = study.plan
    finished = [run for run in study.runs if run.status == "FINISHED"]
    keys = list(dict.fromkeys(["model", *plan.cross, *plan.one_at_a_time, *plan.base, *plan.replicate]))
    last_epoch = max((whole_number(run.params.get("train.epochs", "")) or 1 for run in finished), default=1)
    metrics = [*COLUMNS, *(own.key for own in plan.own_metrics)]
    columns = [f"params.`{key}`" for key in keys] + [f"metrics.`{metric}`" for metric in metrics]
    longest = max((len(run.name) for run in finished), default=20)
    widths = {"attributes.`Run Name`": 60 + CHARACTER * longest, "runDateAndNestInfo": 110}
    widths |= {column: 30 + CHARACTER * (len(column) - 9) for column in columns}
    state: dict[str, Any] = json.loads(
        filled(
            "view.json.jinja",
            view=view,
            topic=topic(view.axis),
            order=view.order,
            columns=columns,
            widths=widths,
            varied=[key for key in keys if key not in plan.replicate],
            last_epoch=last_epoch,
            loss_range={"xMin": 0.8, "xMax": last_epoch + 0.3} | _loss_range(finished),
            every_run=EVERY_RUN,
        )
    )
    return state


def _loss_range(finished: Iterable[StoredRun]) -> dict[str, float]:
    """From below the best final loss to above the worst, so that the first epochs do not flatten the rest."""
    losses = [run.metrics["test/loss"] for run in finished if "test/loss" in run.metrics]
    if not losses:
        return {}
    spread = max(losses) - min(losses) or 0.05 * abs(losses[0])
    return {"yMin": min(losses) - 0.2 * spread, "yMax": max(losses) + spread}
