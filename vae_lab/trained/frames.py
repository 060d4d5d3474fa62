"""A study's runs, and their curves over epochs, as tables of pandas."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pandas import DataFrame, Index, MultiIndex, to_datetime

from vae_lab.errors import UserError, quoted
from vae_lab.metrics import CATALOGUE
from vae_lab.studies.comparison import varied_keys
from vae_lab.studies.plan import Plan
from vae_lab.studies.study import load_study
from vae_lab.tracking import FINGERPRINT, KIND, RUN, STUDY, StoredRun, reader
from vae_lab.trained.study_table import StudyTable

OF_STEPS = ("train/step_loss",)  # a value a step, not an epoch
CURVES = [
    key
    for key, metric in CATALOGUE.items()
    if key.startswith(("train/", "test/")) and not metric.needs and key not in OF_STEPS
]
WORDS = {"null": None, "True": True, "False": False}  # values that a store holds as texts


def runs(study: str | None = None, *, uri: str | None = None) -> DataFrame:
    """Returns a table with a row a run; `vae_lab.runs` says more."""
    store = reader(uri)
    if study is None:
        return _table(store.tagged(KIND, RUN)[::-1], ())
    loaded = load_study(store, _checked_name(study))
    return StudyTable.of(_table(loaded.runs, _varied(loaded.plan)), loaded)


def curves(study: str, *, uri: str | None = None) -> DataFrame:
    """Returns a table with a row a run and epoch; `vae_lab.curves` says more."""
    store = reader(uri)
    loaded = load_study(store, _checked_name(study))
    # Of several attempts at a run the finished one counts.
    last = {_result(run): run for run in sorted(loaded.runs, key=lambda run: run.status == "FINISHED")}
    attempts = [run for run in loaded.runs if last[_result(run)] is run]
    points = store.points([run.run_id for run in attempts], CURVES)
    columns = [key for key in CURVES if any(key in metrics for metrics in points.values())]
    rows, places = [], []
    for run in attempts:
        metrics = points.get(run.run_id, {})
        said = [_value(run.params.get(key, "")) for key in _varied(loaded.plan)]
        for epoch in sorted({step for values in metrics.values() for step in values}):
            places.append((run.name, epoch))
            rows.append([*said, *(metrics.get(key, {}).get(epoch) for key in columns)])
    index = MultiIndex.from_tuples(places, names=["run", "epoch"]) if places else None
    return DataFrame(rows, index=index, columns=[*_varied(loaded.plan), *columns])


def _result(run: StoredRun) -> tuple[str, str]:
    """Returns what several attempts at a run share, and no other run of the study."""
    return run.tags.get(FINGERPRINT, run.run_id), run.name


def _checked_name(study: object) -> str:
    if not isinstance(study, str):
        raise UserError(f"study={quoted(study)}: must be a study's name, or the id of a parent run.")
    return study


def _varied(plan: Plan) -> list[str]:
    """Returns the parameters that tell the runs of a study apart."""
    return list(dict.fromkeys([*varied_keys(plan), *plan.replicate]))


def _table(stored: Sequence[StoredRun], first: Iterable[str]) -> DataFrame:
    """Returns a row a run: the parameters `first`, then metrics, other parameters, and what it is."""
    metrics = {key for run in stored for key in run.metrics}
    known = [key for key in CATALOGUE if key in metrics]
    shown = [*known, *sorted(metrics - {*known})]
    params = {key: None for run in stored for key in run.params}
    order = [*(key for key in first if key in params), *(key for key in params if key not in {*first})]
    head = len([key for key in first if key in params])

    def column(key: str) -> list[object]:
        return [_value(run.params.get(key, "null")) for run in stored]

    table: dict[str, Sequence[object]] = {key: column(key) for key in order[:head]}
    table |= {key: [run.metrics.get(key) for run in stored] for key in shown}
    table |= {key: column(key) for key in order[head:]}
    table |= {
        "study": [run.tags.get(STUDY) for run in stored],
        "status": [run.status for run in stored],
        "started": list(to_datetime([run.started for run in stored], unit="ms", utc=True)),
        "run_id": [run.run_id for run in stored],
    }
    return DataFrame(table, index=Index([run.name for run in stored], name="run"))


def _value(text: str) -> object:
    """Returns a parameter's value as what it is: a number, a truth value, None, else the text.

    Examples:
        >>> [_value(text) for text in ("15", "0.001", "True", "null", "relu")]
        [15, 0.001, True, None, 'relu']
    """
    if text in WORDS:
        return WORDS[text]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
