"""Where a search keeps its trials: databases that are away, are others', or are at work for another."""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory

import optuna
import pytest

from benchmarks.cluster import postgres
from tests.search.conftest import LINE, SHORT, runs, storage
from vae_lab.jobs.search.storage import closed_at_last, held, opened
from vae_lab.jobs.search.trials import Trials
from vae_lab.studies.study import load_study
from vae_lab.tracking import Store

Lab = Callable[..., tuple[int, str, str]]


def test_a_database_that_is_away_is_named_in_one_line(folder: Path, lab: Lab) -> None:
    code, out, err = lab(*SHORT, "search.storage=postgresql://127.0.0.1:9/trials")
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].startswith(
        "vae-lab: search.storage=postgresql://127.0.0.1:9/trials: cannot be used now: connection refused. "
    )
    assert "Traceback" not in err
    assert not [*folder.iterdir()]


def test_a_driver_that_is_not_there_is_named_in_one_line(folder: Path, lab: Lab) -> None:
    code, _, err = lab(*SHORT, "search.storage=postgresql+psycopg2://127.0.0.1:9/trials")
    assert code == 2
    assert err.splitlines()[-1].endswith("cannot be opened: No module named 'psycopg2'")


def test_a_database_with_mlflows_tables_gets_none_of_optunas(folder: Path, lab: Lab, database: Path) -> None:
    shutil.copy(database, folder / "others.db")
    code, _, err = lab(*SHORT, "search.storage=sqlite:///others.db")
    assert code == 2
    assert "others.db: is a database of MLflow's" in err
    with closing(sqlite3.connect(folder / "others.db")) as tables:
        assert not tables.execute("SELECT name FROM sqlite_master WHERE name = 'trials'").fetchall()


def test_a_second_command_at_once_is_refused_in_one_line(again: Path, lab: Lab) -> None:
    with held(f"sqlite:///{again}/mlflow.searches.db", storage(again).study_name):
        code, out, err = lab(*LINE, "search.trials=10")
    assert (code, out) == (2, "")
    assert err.startswith("vae-lab: hunt: another process is at work on this search.")
    assert len(err.splitlines()) == 1


@pytest.fixture
def postgresql(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of an empty database in PostgreSQL."""
    if postgres.programs() is None:
        pytest.skip("no PostgreSQL is installed here")
    with ExitStack() as stack:
        home = stack.enter_context(TemporaryDirectory(prefix="vae_lab_"))  # that its own user may enter
        server = stack.enter_context(postgres.running(Path(home, "server"), "trials"))
        monkeypatch.setenv("PGPASSWORD", server.password)
        yield server.address("trials")


def test_a_second_machine_on_one_database_is_refused_in_one_line(
    folder: Path, lab: Lab, postgresql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = [*SHORT, "study.name=short", f"search.storage={postgresql}"]
    code, _, err = lab(*line)
    assert code == 0, err
    with closed_at_last(opened(postgresql)) as trials:
        (search,) = trials.get_all_studies()
    with held(postgresql, search.study_name):
        monkeypatch.setenv("XDG_STATE_HOME", str(folder / "of another machine"))
        code, out, err = lab(*line)
    assert (code, out) == (2, "")
    assert err.startswith("vae-lab: short: another process is at work on this search.")
    assert len(err.splitlines()) == 1
    code, _, err = lab(*line)
    assert code == 0, err


def test_a_storage_that_goes_away_leaves_no_run_running(
    folder: Path, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise optuna.exceptions.StorageInternalError("away")

    with monkeypatch.context() as patch:
        patch.setattr(Trials, "report", away)
        code, _, err = lab(*SHORT, "train.epochs=2", "search.epochs=2", "search.eta=2")
    assert code == 1
    assert "mlflow.searches.db: cannot be used now: away. Once it can, the same command goes on." in err
    assert "Traceback" not in err
    assert [run.status for run in runs(folder)] == ["KILLED"]


def test_a_storage_elsewhere_is_in_no_record_and_experiments_do_not_share_trials(
    folder: Path, lab: Lab
) -> None:
    code, out, err = lab(*SHORT, f"search.storage=sqlite:///{folder}/elsewhere.db", "study.name=short")
    assert code == 0, out + err
    assert (folder / "elsewhere.db").exists()
    store = Store.open(f"sqlite:///{folder}/mlflow.db")
    parent = load_study(store, "short").parent
    for run in (parent, *runs(folder)):
        assert "elsewhere" not in repr(run)
    assert "elsewhere" not in store.download(parent.run_id, "report.html").read_text()
    assert "search." not in runs(folder)[0].tags["vae_lab.command"]  # what a single run does not read
    line = [f"search.storage=sqlite:///{folder}/elsewhere.db", "study.name=short"]
    code, _, err = lab(*SHORT, *line, "tracking.experiment=another")
    assert code == 0, err
    searches = optuna.get_all_study_summaries(f"sqlite:///{folder}/elsewhere.db")
    assert [search.n_trials for search in searches] == [1, 1]  # one of each experiment
    assert len(runs(folder)) == 1  # which has the same result
