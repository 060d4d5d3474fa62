"""One run, unless one of the same result has finished."""

from __future__ import annotations

import time

from omegaconf import DictConfig

from vae_lab import config
from vae_lab.errors import LabError
from vae_lab.runs import progress
from vae_lab.runs.jobs import run
from vae_lab.runs.measuring import add, wants_measures
from vae_lab.runs.parts import prepare
from vae_lab.runs.run import check_alone
from vae_lab.tracking import Store, StoredRun


def run_once(composed: DictConfig, overrides: tuple[str, ...] = ()) -> str:
    """Trains and records one configuration, or takes what is there; gives the id of its MLflow run.

    Raises:
        UserError: the config is not valid here; nothing has been written.
        LabError: the run failed; its record says so.
    """
    settings = config.checked(composed)
    if settings.reuse == "never" or settings.tracking.parent_run_id is not None:
        return run(settings, overrides)
    check_alone(settings)
    fingerprint = prepare(settings).fingerprint
    store = Store.open(settings.tracking.uri, create=True)
    there = store.finished(fingerprint)
    if there is None:
        return run(settings, overrides)
    progress.console.print(_told(there), soft_wrap=True, markup=False)
    if wants_measures(settings):
        measured = add(store, there, there.name, settings)
        if measured == "failed":
            raise LabError(f"{there.name}: is there, but could not be measured.")
    return there.run_id


def _told(record: StoredRun) -> str:
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(record.started / 1000))
    loss = record.metrics.get("test/loss")
    result = "" if loss is None else f", held-out loss {loss:.2f} nats per image"
    return (
        f"{record.name} is there already: trained {when}{result}, run {record.run_id}.\n"
        "reuse=never trains it again; vae-lab ui shows it."
    )
