"""Databases that another MLflow made, or something else: readers read, and nobody upgrades them unasked."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command as alembic
from mlflow.store.db.utils import _get_alembic_config
from mlflow.store.tracking.dbmodels.initial_models import Base
from sqlalchemy import create_engine

import vae_lab
from tests.conftest import trained
from tests.misuse.conftest import TINY, Lab, command
from vae_lab.tracking import KIND, PROCESS, RUN, Store, process_end, reader, resolve_address, tables
from vae_lab.tracking.processes import this_process
from vae_lab.tracking.schema import LOOK_SECONDS
from vae_lab.tracking.spool import Record, Spool
from vae_lab.tracking.tables import Tables

__all__ = ["command"]  # a fixture
MLFLOW_2_9 = "acf3f17fdcc7"  # Alembic's name of its tables


def tables_of(revision: str, file: Path) -> None:
    """Makes the tables that an older MLflow made, by MLflow's own steps."""
    engine = create_engine(f"sqlite:///{file}")
    Base.metadata.create_all(engine)
    config = _get_alembic_config(str(engine.url))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        alembic.upgrade(config, revision)
    engine.dispose()


def revision(file: Path) -> str:
    with closing(sqlite3.connect(file)) as connection:
        (name,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return str(name)


def columns(connection: sqlite3.Connection, schema: str, table: str) -> list[str]:
    return [row[1] for row in connection.execute(f"PRAGMA {schema}.table_info({table})")]


def copied(file: Path, older: Path) -> None:
    """Copies what a store holds into the tables of an older one."""
    with closing(sqlite3.connect(older)) as connection:
        connection.execute("ATTACH ? AS new", (str(file),))
        for table in (
            "experiments",
            "experiment_tags",
            "runs",
            "params",
            "tags",
            "metrics",
            "latest_metrics",
        ):
            wanted, there = columns(connection, "main", table), columns(connection, "new", table)
            names = ", ".join(name for name in wanted if name in there)
            connection.execute(f"INSERT INTO main.{table} ({names}) SELECT {names} FROM new.{table}")
        connection.commit()


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a multirun of two runs in a database as MLflow 2.9 made it."""
    folder = trained(tmp_path_factory.mktemp("older"), "-m", *TINY, "seed=0,1", "study.name=mine")
    file = folder / "mlflow.db"
    file.rename(folder / "newer.db")
    tables_of(MLFLOW_2_9, file)
    copied(folder / "newer.db", file)
    (folder / "newer.db").unlink()
    return folder


@pytest.fixture
def in_older(older: Path, command: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """The command in that folder, whose database has the same bytes afterwards."""
    monkeypatch.chdir(older)
    before = hashlib.sha256((older / "mlflow.db").read_bytes()).hexdigest()
    yield command
    assert hashlib.sha256((older / "mlflow.db").read_bytes()).hexdigest() == before
    assert not list(older.glob("mlflow.db-*"))


@pytest.mark.parametrize(
    "line",
    ["compare", "compare mine", "compare mine --metric test/loss", "verdict mine", "status", "status mine"],
)
def test_reading_reads_whoever_made_the_tables(in_older: Lab, line: str) -> None:
    code, out, err = in_older(*line.split())
    if line == "verdict mine":  # which declares no claims
        assert code == 2
        assert "upgrade" not in err
    else:
        assert code == 0, err
        assert "mine" in out


def test_report_and_load_read_them_too(in_older: Lab, tmp_path: Path) -> None:
    code, _, err = in_older("report", "mine", "--output", str(tmp_path / "mine.html"))
    assert code == 0, err
    run = reader().tagged(KIND, RUN)[0]
    assert vae_lab.load(run.run_id).latent_size == 15


@pytest.mark.parametrize(
    "line",
    [["train", *TINY], ["train", "-m", *TINY, "seed=0,1"], ["evaluate", "mine"], ["ui"]],
    ids=lambda line: line[0],
)
def test_what_writes_says_that_it_would_upgrade_them_and_how(
    in_older: Lab, older: Path, line: list[str]
) -> None:
    code, _, err = in_older(*line)
    assert code == 2, err
    assert len(err.splitlines()) == 1
    assert err.startswith(f"vae-lab: {older / 'mlflow.db'}: an older MLflow made its tables")
    assert "copy the file, then: mlflow db upgrade sqlite:///" in err


def test_a_study_whose_process_is_gone_is_shown_though_it_cannot_be_marked(
    older: Path, folder: Path, command: Lab
) -> None:
    copy = Path(shutil.copy(older / "mlflow.db", folder))
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute("UPDATE runs SET status = 'RUNNING'")
        gone = json.dumps(json.loads(this_process()) | {"born": 1})
        connection.execute("DELETE FROM tags WHERE key = ?", (PROCESS,))
        connection.execute("INSERT INTO tags SELECT ?, ?, run_uuid FROM runs", (PROCESS, gone))
        connection.commit()
    before = copy.read_bytes()
    code, _, err = command("status", "--uri", f"sqlite:///{copy}")
    assert code == 0
    assert "shown as interrupted, and not marked: " in err
    store = reader()
    reasons = {process_end(run, store.uri).partition(" ended ")[2] for run in store.tagged(KIND, RUN)}
    assert reasons == {"without closing it"}
    assert copy.read_bytes() == before


def test_what_waits_for_an_older_store_is_not_delivered_to_it(
    older: Path, folder: Path, command: Lab
) -> None:
    spool = Spool.open(resolve_address(None), "1" * 32)
    spool.append(Record(at=1, tags={"mood": "good"}))
    spool.close()
    Path(shutil.copy(older / "mlflow.db", folder))
    code, out, _ = command("sync")
    assert code == 1
    assert "1 record wait: the store cannot be opened: " in out
    assert "an older MLflow made its tables" in out
    assert revision(folder / "mlflow.db") == MLFLOW_2_9


def test_the_line_that_the_message_names_upgrades_them(older: Path, folder: Path, command: Lab) -> None:
    place = folder / "a folder, it's odd"
    place.mkdir()
    shutil.copy(older / "mlflow.db", place)
    uri = f"sqlite:///{place / 'mlflow.db'}"
    code, _, err = command("train", *TINY, f'tracking.uri="{uri}"')
    assert code == 2
    line = err.rpartition(" then: ")[2].strip()
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run(["sh", "-c", line], check=True, capture_output=True, env=environment)
    assert {run.name for run in Store.open(uri).tagged(KIND, RUN)} == {"vae L3 Z15 s0", "vae L3 Z15 s1"}


def test_a_newer_mlflows_tables_are_read_and_not_written(
    folder: Path, database: Path, command: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copy(database, folder / "mlflow.db")
    Store.open().start("lab", "a", kind=RUN).finish("FINISHED")
    with closing(sqlite3.connect("mlflow.db")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'of_next_year'")
        connection.execute("ALTER TABLE runs ADD COLUMN mood TEXT")
        connection.commit()
    assert [run.name for run in reader().tagged(KIND, RUN)] == ["a"]
    code, _, err = command("train", *TINY)
    assert code == 2
    assert "a newer MLflow than " in err
    assert err.endswith("(revision of_next_year). Install it: pip install --upgrade mlflow\n")


def test_a_database_of_something_else_is_left_alone(folder: Path, command: Lab) -> None:
    with closing(sqlite3.connect("mlflow.db")) as connection:
        connection.execute("CREATE TABLE invoices (total REAL)")
    before = (folder / "mlflow.db").read_bytes()
    for line in (["compare"], ["train", *TINY], ["evaluate", "mine"], ["ui"]):
        code, _, err = command(*line)
        assert code == 2
        assert "this is a database of something else, with the tables invoices" in err
    assert (folder / "mlflow.db").read_bytes() == before


def test_tables_that_lack_what_is_asked_for_are_read_by_mlflows_client_which_is_said(
    folder: Path, database: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copy(database, folder / "mlflow.db")
    Store.open().start("lab", "a", kind=RUN).finish("FINISHED")
    assert isinstance(reader(), Tables)
    monkeypatch.setitem(tables.COLUMNS, "runs", ("run_uuid", "mood"))
    store = reader()
    assert isinstance(store, Store)
    assert [run.name for run in store.tagged(KIND, RUN)] == ["a"]
    assert "mlflow.db: has no runs.mood: it is read by MLflow's client, which takes longer." in caplog.text


def test_a_store_whose_tables_are_being_upgraded_is_waited_for(folder: Path, database: Path) -> None:
    """By another program, such as a notebook or an MLflow server."""
    file, begun = Path(shutil.copy(database, folder)), threading.Event()
    newest = revision(file)
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (MLFLOW_2_9,))
        connection.commit()

    def upgrade() -> None:
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("UPDATE alembic_version SET version_num = ?", (newest,))
            begun.set()
            time.sleep(3 * LOOK_SECONDS)
            connection.commit()

    upgrading = threading.Thread(target=upgrade)
    upgrading.start()
    begun.wait()
    Store.open()
    upgrading.join()
