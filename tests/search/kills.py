"""A search killed at every call between ask and tell, and gone on with: `make search-kills`."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from tests.faults import kept
from tests.faults.children import Home, Zygote
from tests.faults.injected import AFTER, BEFORE, Fault

COMMAND = (
    *("train", "-m", "hydra/sweeper=search", "data=digits", "model.hidden_size=8", "train.device=cpu"),
    *("train.epochs=4", "search.eta=2", "search.trials=5", "search.epochs=11", "evaluation.pictures=false"),
    *("model.latent_size=range(2,9)", "optimizer.lr=1e-3,1e-2,1e30", "study.name=killed"),
    "hydra.launcher.workers=1",
)
FAILS = "1 of 5 runs failed:"  # the second trial diverges, at that rate
FRESH = """
import optuna
from vae_lab.tracking import Store
Store.open("sqlite:///mlflow.db", create=True)
optuna.storages.RDBStorage("sqlite:///mlflow.searches.db")
"""
CALLS = (
    *(f"vae_lab.jobs.search.trials.Trials.{name}" for name in ("add", "report", "complete", "stop", "fail")),
    *(f"vae_lab.jobs.search.engine.Search.{name}" for name in ("next", "told", "stop", "failed")),
    *(f"vae_lab.jobs.runs.run.Run.{name}" for name in ("start_or_resume", "reach", "close", "stop", "fail")),
)
TRIALS = """
    SELECT number, state,
        (SELECT group_concat(param_name || '=' || param_value)
            FROM trial_params WHERE trial_params.trial_id = trials.trial_id),
        (SELECT group_concat(key || '=' || value_json)
            FROM trial_user_attributes WHERE trial_user_attributes.trial_id = trials.trial_id)
    FROM trials ORDER BY number
"""


class Ended(NamedTuple):
    """What a search came to."""

    trials: list[tuple[int, str, str, str]]  # number, state, values of the settings, values on the rungs
    runs: dict[str, tuple[str, str, str]]  # by name: status, epoch at which it was stopped, losses


def ended(home: Home) -> Ended:
    """Returns what lies in a home's storage and store.

    Raises:
        AssertionError: A run is there twice, or one is running.
    """
    with closing(sqlite3.connect(home.database.with_suffix(".searches.db"))) as storage:
        trials = storage.execute(TRIALS).fetchall()
    runs = [run for run in kept.read(home.database) if run.kind == "run"]
    names = Counter(run.name for run in runs)
    assert set(names.values()) == {1}, names
    assert "RUNNING" not in {state for _, state, *_ in trials} | {run.status for run in runs}
    return Ended(
        [
            (number, state, str(params), ",".join(sorted(str(said).split(","))))
            for number, state, params, said in trials
        ],
        {
            run.name: (
                run.status,
                run.tags.get("vae_lab.stopped", ""),
                json.dumps([(step, value) for step, value, _ in run.metrics.get("test/loss", [])]),
            )
            for run in runs
        },
    )


class Trial(NamedTuple):
    """What kills are tried on."""

    zygote: Zygote
    whole: Home  # in which the search was not disturbed
    fresh: Home  # a store and a storage without runs, which take seconds to make

    @classmethod
    def in_folder(cls, zygote: Zygote, folder: Path) -> Trial:
        """Returns one below a folder, where the undisturbed search has been run."""
        whole, fresh = (Home(zygote, folder / name, folder / "cache") for name in ("whole", "fresh"))
        assert fresh.start("-c", FRESH).code() == 0
        copy_stores(fresh, whole)
        undisturbed = whole.start(*COMMAND)
        assert (undisturbed.code(), FAILS in undisturbed.err) == (1, True), undisturbed.err
        return cls(zygote, whole, fresh)


def copy_stores(fresh: Home, home: Home) -> None:
    """Gives a home the store and the storage of another."""
    for file in (fresh.database, fresh.database.with_suffix(".searches.db")):
        shutil.copy(file, home.work / file.name)


def lost(trial: Trial, folder: Path, fault: Fault) -> str | None:
    """Returns what was lost by a kill; an empty text for nothing, None if the call is never made."""
    home, whole = Home(trial.zygote, folder, trial.whole.cache), ended(trial.whole)
    copy_stores(trial.fresh, home)
    try:
        code = home.start(*COMMAND, faults=[fault]).code()
        if code != -9:
            return None
        again = home.start(*COMMAND)
        # It fails by what fails in it; the trial may have failed before.
        if again.code() != int(FAILS in again.err):
            return f"exit code {again.code()}: {again.err[-300:]}"
        return "" if (now := ended(home)) == whole else f"{now}\ninstead of {whole}"
    except AssertionError as error:
        return str(error)
    finally:
        home.remove()


def every_call(zygote: Zygote, folder: Path, targets: Sequence[str] = CALLS) -> Iterator[tuple[Fault, str]]:
    """Yields every kill with what was lost by it."""
    trial = Trial.in_folder(zygote, folder)
    for target in targets:
        for call in range(1, 100):
            for moment in (BEFORE, AFTER):
                fault = Fault(target, call, moment)
                said = lost(trial, folder / f"{target}{call}{moment}", fault)
                if said is None:
                    break
                yield fault, said
            else:
                continue
            break


def main(targets: Sequence[str]) -> int:
    """Prints what was lost, and how many kills lost something; returns the exit code.

    Args:
        targets: Functions to be killed at; none for all.
    """
    begin, kills, hurt = time.monotonic(), Counter[str](), 0
    with tempfile.TemporaryDirectory(prefix="vae_lab_kills_") as name, Zygote(Path(name)) as zygote:
        for fault, said in every_call(zygote, Path(name), targets or CALLS):
            kills[fault.target] += 1
            hurt += bool(said)
            print(f"{fault.moment} call {fault.call} of {fault.target}: {said or 'nothing lost'}", flush=True)
    for target, count in kills.items():
        print(f"{count:4} kills at {target}")
    minutes = (time.monotonic() - begin) / 60
    print(f"{sum(kills.values())} kills, {hurt} lost something, in {minutes:.0f} minutes")
    return min(hurt, 1)
