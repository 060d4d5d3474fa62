import math
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from mlflow.entities import Metric, Param, RunTag

from vae_lab import tracking
from vae_lab.errors import LabError, UserError
from vae_lab.jobs.runs.measuring import target_named
from vae_lab.tracking import KIND, RUN, SWEEP, Store, member_tag
from vae_lab.tracking.reading import reader
from vae_lab.tracking.tables import COLUMNS, Tables
from vae_lab.trained.reference import chosen_run

STATUSES = ("FINISHED", "FAILED", "KILLED", "RUNNING")
RUNS = 1000


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a multirun of a thousand runs: four by MLflow's client, the others their copies."""
    folder = tmp_path_factory.mktemp("many")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        store = Store.open(create=True)
        parent = store.start("lab", "many", kind=SWEEP).run_id
        odd = {"nan": math.nan, "up": math.inf, "down": -math.inf, "tiny": 5e-324}
        for number, status in enumerate(STATUSES):
            experiment = store.experiment(f"lab {number % 2}").experiment_id
            run = store.client.create_run(
                experiment, tags={KIND: RUN, member_tag(parent): "1"}, run_name=f"a 'run' {number}"
            ).info.run_id
            store.client.log_batch(
                run,
                metrics=[Metric(f"odd/{key}", value, 1, 1) for key, value in odd.items()]
                + [Metric("test/loss", 100.0 + number - step, step, step) for step in range(3)],
                params=[Param("model.layers", str(number)), Param("empty", ""), Param("sign", "é|<b>'\"")],
                tags=[RunTag("mlflow.note.content", "two\nlines")],
            )
            if status != "RUNNING":
                store.client.set_terminated(run, status)
            copies(folder / "mlflow.db", run, RUNS // len(STATUSES) - 1)
        yield folder


def copies(file: Path, run: str, count: int) -> None:
    """Runs like `run`, of which every seventh began in the same millisecond."""
    with sqlite3.connect(file) as connection:
        for number in range(count):
            name = f"{number:08x}{run[8:]}"
            for table, columns in (
                (
                    "runs",
                    "name, status, start_time + :later, lifecycle_stage, user_id, experiment_id",
                ),
                ("params", "key, value"),
                ("tags", "key, value"),
                ("latest_metrics", "key, value, timestamp, step, is_nan"),
            ):
                into = columns.replace(" + :later", "")
                connection.execute(
                    f"INSERT INTO {table} (run_uuid, {into}) SELECT :name, {columns} FROM {table} "
                    "WHERE run_uuid = :run",
                    {"name": name, "run": run, "later": 1000 * (number % 7)},
                )
    connection.close()


def opened() -> Tables:
    tables = reader()
    assert isinstance(tables, Tables)
    return tables


def test_a_thousand_runs_are_read_alike_from_the_tables_and_by_mlflows_client(
    many: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(many)
    tables, store = opened(), Store.open()
    (parent,) = tables.tagged(KIND, SWEEP)
    members, expected = tables.members(parent.run_id), store.members(parent.run_id)
    assert len(members) == RUNS
    assert repr(members) == repr(expected)  # nan is unlike itself
    assert {run.status for run in members} == set(STATUSES)
    assert len({run.experiment_id for run in members}) == 2
    assert math.isnan(members[0].metrics["odd/nan"])
    assert repr(tables.tagged(KIND, RUN)) == repr(store.tagged(KIND, RUN))
    assert tables.tagged(KIND, "nothing") == []


def test_runs_of_any_of_several_tags_are_read_at_once(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(many)
    store, name = Store.open(), "mlflow.runName"
    wanted = ["a 'run' 0", "a 'run' 2", "x' OR '1'='1"]
    assert [store.tagged(name, odd) for odd in ("x' OR '1'='1", "'\"", "")] == [[], [], []]
    expected = {run.run_id for value in wanted for run in store.tagged(name, value)}
    assert {run.run_id for run in store.any_tagged(name, wanted)} == expected
    assert len(expected) == RUNS / 2
    monkeypatch.setattr(Tables, "lacks", lambda self: ["runs.name"])  # then MLflow's client is asked
    assert {run.run_id for run in store.any_tagged(name, wanted)} == expected
    many_values = [*wanted, *map(str, range(30))]
    assert {run.run_id for run in store.any_tagged(name, many_values)} == expected


def test_members_can_be_those_that_are_running_and_go_without_their_metrics(
    many: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(many)
    tables, store = opened(), Store.open()
    (parent,) = tables.tagged(KIND, SWEEP)
    running = tables.members(parent.run_id, running=True, measured=False)
    assert [run.run_id for run in running] == [
        run.run_id for run in store.members(parent.run_id) if run.status == "RUNNING"
    ]
    assert [run.run_id for run in store.members(parent.run_id, running=True)] == [
        run.run_id for run in running
    ]
    assert {len(run.metrics) for run in running} == {0}
    assert running[0].tags[KIND] == RUN
    assert running[0].params["model.layers"] == "3"


def test_deleted_runs_and_experiments_are_not_read(folder: Path) -> None:
    store = Store.open(create=True)
    active, deleted = (store.start("lab", name, kind=RUN) for name in ("active", "deleted"))
    store.start("closed", "of a deleted experiment", kind=RUN)
    store.client.delete_run(deleted.run_id)
    store.client.delete_experiment(store.experiment("closed").experiment_id)
    assert [run.run_id for run in opened().tagged(KIND, RUN)] == [active.run_id]
    assert opened().tagged(KIND, RUN) == store.tagged(KIND, RUN)


@pytest.mark.parametrize("what", ["run", "experiment"])
def test_a_deleted_run_is_named_as_deleted_by_every_reader(folder: Path, what: str) -> None:
    store = Store.open(create=True)
    run_id = store.start("lab", "deleted", kind=RUN).run_id
    if what == "run":
        store.client.delete_run(run_id)
    else:
        store.client.delete_experiment(store.experiment("lab").experiment_id)
    for reads in (store.record, opened().record, partial(chosen_run, opened()), partial(target_named, store)):
        with pytest.raises(UserError, match=rf"^{run_id}: was deleted in .*mlflow\.db; restore it"):
            reads(run_id)
    assert store.record(run_id, deleted=True).name == "deleted"


def test_the_columns_that_are_looked_for_are_all_that_reading_takes(many: Path, folder: Path) -> None:
    with sqlite3.connect(folder / "mlflow.db") as connection:
        connection.execute("ATTACH ? AS whole", (str(many / "mlflow.db"),))
        for table, columns in COLUMNS.items():
            connection.execute(f"CREATE TABLE {table} AS SELECT {', '.join(columns)} FROM whole.{table}")
    connection.close()
    (parent,) = opened().tagged(KIND, SWEEP)
    first, *_ = members = opened().members(parent.run_id, running=True)
    assert opened().any_tagged(KIND, [SWEEP]) == [parent]
    assert opened().record(parent.run_id) == parent
    assert opened().experiments()[first.experiment_id] == "lab 1"
    assert opened().history(members[-1].run_id, "test/loss") == []  # the copies have none
    measured = next(run.run_id for run in members if opened().history(run.run_id, "test/loss"))
    assert opened().points([measured], ["test/loss"])[measured]["test/loss"] == {0: 103, 1: 102, 2: 101}
    with pytest.raises(LabError, match="has no artifact"):
        opened().download(first.run_id, "model/model.pt")


def test_a_value_that_looks_like_sql_is_only_a_value(folder: Path) -> None:
    store = Store.open(create=True)
    odd = "x' OR '1'='1"
    run = store.start("lab", "a", kind=RUN, tags={odd: odd})
    store.start("lab", "b", kind=RUN)
    assert [match.run_id for match in opened().tagged(odd, odd)] == [run.run_id]


def test_artifacts_are_found_where_the_client_finds_them(folder: Path) -> None:
    store = Store.open(create=True)
    run = store.start("lab", "a", kind=RUN)
    with run.artifacts() as scratch:
        (scratch / "a note.txt").write_text("kept")
    file = opened().download(run.run_id, "a note.txt")
    assert file == store.download(run.run_id, "a note.txt")
    with pytest.raises(LabError, match=r"has no artifact model/model\.pt"):
        opened().download(run.run_id, "model/model.pt")


def test_the_history_of_a_metric_is_that_of_the_client(folder: Path) -> None:
    store = Store.open(create=True)
    run = store.start("lab", "a", kind=RUN)
    for step, value in ((2, 3.0), (10, math.nan), (1, 5.0)):
        run.log({"test/loss": value, "test/kl": 1.0}, step)
    history = opened().history(run.run_id, "test/loss")
    assert history == pytest.approx(store.history(run.run_id, "test/loss"), nan_ok=True)
    assert history[:2] == [5.0, 3.0]
    assert opened().history(run.run_id, "no/such") == []


def test_a_store_that_cannot_be_read_is_named(folder: Path) -> None:
    with pytest.raises(UserError, match=r"no runs are kept here yet\. Start with: vae-lab train"):
        reader()
    (folder / "mlflow.db").write_text("no database, but long enough to be taken for one at first sight")
    with pytest.raises(LabError, match=r"mlflow\.db: the store cannot be read: file is not a database"):
        reader()


def test_a_store_whose_writer_was_killed_in_a_commit_is_read_as_before_it(many: Path, folder: Path) -> None:
    file = Path(shutil.copy(many / "mlflow.db", folder))
    before = reader().tagged(KIND, RUN)
    killed = (
        "import os, sqlite3, sys; database = sqlite3.connect(sys.argv[1]); "
        "database.execute('PRAGMA cache_size = 5'); "  # pages that do not fit are written before the commit
        "database.execute(\"UPDATE runs SET name = 'half'\"); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", killed, str(file)]).returncode == 9
    assert file.with_name("mlflow.db-journal").stat().st_size
    assert reader().tagged(KIND, RUN) == before


def test_reading_an_sqlite_store_imports_neither_mlflow_nor_pandas(many: Path) -> None:
    program = (
        "import sys; from vae_lab.tracking import KIND, RUN, reader\n"
        f"assert len(reader().tagged(KIND, RUN)) == {RUNS}\n"
        "print(*{'mlflow', 'pandas', 'torch', 'sqlalchemy'} & {*sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=many, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


def test_what_is_imported_late_is_there_by_name_and_nothing_else() -> None:
    assert tracking.Store is Store
    with pytest.raises(AttributeError, match="nothing"):
        tracking.nothing  # noqa: B018
