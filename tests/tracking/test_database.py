"""An empty store is copied from one that MLflow has made before, and is what MLflow would have made."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import mlflow.store.tracking.sqlalchemy_store as mlflow_stores
import pytest
from mlflow import MlflowClient

from vae_lab.files import cache_folder
from vae_lab.tracking.database import create_database, open_database


@pytest.fixture
def fresh(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of a user who has never made a store."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    return folder


def contents(file: Path) -> list[str]:
    """All tables and all that is in them, but for times and places."""
    with open_database(file) as connection:
        connection.execute("SELECT 1")
        dump = "\n".join(connection.iterdump())
        ((location, created),) = connection.execute(
            "SELECT artifact_location, creation_time FROM experiments"
        )
    return sorted(dump.replace(location, "PLACE").replace(str(created), "TIME").splitlines())


def test_the_first_store_and_the_next_are_what_mlflow_makes(fresh: Path) -> None:
    theirs = fresh / "theirs.db"
    mlflow_stores.SqlAlchemyStore(f"sqlite:///{theirs}", (fresh / "theirs").as_uri()).engine.dispose()
    for name in ("first", "next"):
        (fresh / name).mkdir()
        file = fresh / name / "mlflow.db"
        create_database(file, "artifacts")
        assert contents(file) == contents(theirs)
        client = MlflowClient(f"sqlite:///{file}")
        (experiment,) = client.search_experiments()
        assert experiment.artifact_location == (fresh / name / "artifacts" / "0").as_uri()
        assert abs((experiment.creation_time or 0) / 1000 - time.time()) < 60
        assert [path.name for path in file.parent.iterdir()] == ["mlflow.db"], "nothing else is left"


def test_a_second_store_takes_no_migrations(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create_database(fresh / "first.db", "artifacts")
    monkeypatch.setattr(mlflow_stores, "SqlAlchemyStore", None)
    create_database(fresh / "next.db", "artifacts")
    assert contents(fresh / "next.db") == contents(fresh / "first.db")


def test_a_damaged_copy_is_made_anew(fresh: Path) -> None:
    create_database(fresh / "first.db", "artifacts")
    (template,) = cache_folder("stores").iterdir()
    sealed = template.read_bytes()
    template.write_bytes(sealed[:-1000])
    create_database(fresh / "next.db", "artifacts")
    assert contents(fresh / "next.db") == contents(fresh / "first.db")
    assert len(template.read_bytes()) == len(sealed)


def test_without_a_cache_every_store_is_made_by_mlflow(fresh: Path) -> None:
    (fresh / "cache").write_text("no folder")
    create_database(fresh / "first.db", "artifacts")
    assert MlflowClient(f"sqlite:///{fresh / 'first.db'}").search_experiments()


def test_who_has_made_tables_meanwhile_keeps_them(fresh: Path) -> None:
    file = fresh / "mlflow.db"
    with sqlite3.connect(file) as other:
        other.execute("CREATE TABLE theirs (x)")
    create_database(file, "artifacts")
    with open_database(file) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]


def test_what_a_killed_process_left_is_taken_away(fresh: Path) -> None:
    (fresh / "own").mkdir()
    for rest in ("", "-journal"):
        (fresh / "own" / f".mlflow.db.new{rest}").write_bytes(b"half of it")
    create_database(fresh / "own" / "mlflow.db", "artifacts")
    assert [path.name for path in (fresh / "own").iterdir()] == ["mlflow.db"]
    assert MlflowClient(f"sqlite:///{fresh / 'own' / 'mlflow.db'}").search_experiments()
