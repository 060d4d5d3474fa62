"""A store that others wrote, or damaged: what it says is shown, steers nothing, and ends in no traceback."""

from __future__ import annotations

import ast
import csv
import io
import json
import os
import shutil
import sqlite3
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from matplotlib.text import Text
from PIL import Image

from tests.conftest import trained
from tests.house import PACKAGE, modules
from tests.misuse.conftest import TINY, Lab
from vae_lab import files, tracking
from vae_lab.report.conclusion import study_figures
from vae_lab.report.drawing import standalone_figure
from vae_lab.studies.plan import PLAN_FILE
from vae_lab.studies.study import load_study
from vae_lab.tracking import Store
from vae_lab.tracking.records import checksum_tag
from vae_lab.tracking.tables import Tables

FEIGNED = "feigned line"
HOSTILE = f"x\x1b[2J\x1b]52;c;aGk=\x07\x9b31m\u202e\u200b\\[/x] [/red]\r# y\x00```\n{FEIGNED}"
COMMANDS = (
    *(["status"], ["status", "mine", "--all"], ["compare"], ["verdict", "mine"], ["report", "mine"]),
    *(["compare", "mine", "--format", form] for form in ("terminal", "markdown", "csv", "latex", "html")),
    *(["verdict", "mine", "--format", form] for form in ("markdown", "html")),
    *(["compare", "mine", "--metric", "nothing"], ["compare", "nothing"]),
    *(["compare", "mine", "--contrast", "seed=0,1"], ["compare", "mine", "--importance"]),
)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store of a multirun of two finished runs, `mine`."""
    return trained(tmp_path_factory.mktemp("original"), "-m", *TINY, "seed=0,1", "study.name=mine")


class Foreign:
    """A copy of the store, to be changed as whoever writes to it can."""

    def __init__(self, folder: Path, original: Path) -> None:
        shutil.copytree(original, folder)
        self.folder, self.uri = folder, f"sqlite:///{folder / 'mlflow.db'}"
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
            change = f"UPDATE {table} SET {column} = replace({column}, ?, ?)"
            self.change(change, str(original), str(folder))

    def change(self, statement: str, *values: object) -> None:
        connection = sqlite3.connect(self.folder / "mlflow.db")
        with connection:
            connection.execute(statement, values)
        connection.close()

    def tag(self, key: str, value: object) -> None:
        self.change(
            "INSERT OR REPLACE INTO tags(key, value, run_uuid) SELECT ?, ?, run_uuid FROM runs", key, value
        )

    def parameter(self, key: str, value: object) -> None:
        self.change("DELETE FROM params WHERE key = ?", key)
        self.change("INSERT INTO params(key, value, run_uuid) SELECT ?, ?, run_uuid FROM runs", key, value)

    def name(self, value: object) -> None:
        self.change("UPDATE runs SET name = ?", value)
        self.tag("mlflow.runName", value)

    def metric(self, key: str, value: object) -> None:
        self.change("UPDATE metrics SET value = ? WHERE key = ?", value, key)
        self.change("DELETE FROM latest_metrics WHERE key = ?", key)
        self.change(
            "INSERT INTO latest_metrics(key, value, timestamp, run_uuid, step, is_nan) "
            "SELECT ?, ?, 0, run_uuid, 1, 0 FROM runs",
            *(key, value),
        )

    def artifact(self, path: str) -> list[Path]:
        return sorted(file for file in self.folder.rglob(Path(path).name) if file.as_posix().endswith(path))

    def seal(self, path: str) -> None:
        """Makes the checksums of an artifact those of what it is now."""
        for file in self.artifact(path):
            run_id = file.relative_to(self.folder).parts[1]
            self.change(
                "UPDATE tags SET value = ? WHERE key = ? AND run_uuid = ?",
                *(files.checksum(file), checksum_tag(path), run_id),
            )

    def plan(self, **changes: Any) -> None:
        (file,) = self.artifact(PLAN_FILE)
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))
        self.seal(PLAN_FILE)


@pytest.fixture
def foreign(original: Path, tmp_path_factory: pytest.TempPathFactory) -> Foreign:
    return Foreign(tmp_path_factory.mktemp("foreign") / "store", original)


def steering(text: str) -> list[str]:
    """The signs of a text that a terminal would act on or that nobody sees."""
    return [
        sign
        for sign in text
        if not (sign.isprintable() or sign == "\n" or unicodedata.category(sign) == "Zs")
    ]


def hostile_claim(name: str) -> dict[str, str]:
    claim = {"id": name, "text": HOSTILE, "metric": "test/loss", "expect": "increasing"}
    return claim | {"along": "seed", "explanation": HOSTILE}


def test_no_text_of_a_store_steers_the_terminal_or_feigns_a_line(
    foreign: Foreign, command: Lab, folder: Path
) -> None:
    foreign.name(HOSTILE)
    for key in ("vae_lab.command", "vae_lab.data", "vae_lab.device", "vae_lab.error"):
        foreign.tag(key, HOSTILE)
    foreign.tag("vae_lab.environment", json.dumps({HOSTILE: HOSTILE}))
    foreign.change("UPDATE params SET value = ? WHERE key IN ('model.layers', 'model')", HOSTILE)
    foreign.change("UPDATE runs SET status = 'FAILED' WHERE run_uuid = (SELECT min(run_uuid) FROM runs)")
    landmark = {"source": HOSTILE, "metric": "test/loss", "value": 1.0, "epochs": 1}
    reference = {"source": HOSTILE, "note": HOSTILE, "metric": "test/loss", "landmarks": [landmark]}
    claims = [hostile_claim("A"), hostile_claim("B")]
    foreign.plan(question=HOSTILE, name=HOSTILE, claims=claims, reference=reference)
    for line in [*COMMANDS, ["evaluate", "mine", "evaluation.samples=0"]]:
        _, out, err = command(*line, "--uri", foreign.uri)
        assert steering(out + err) == [], line
        assert FEIGNED not in (out + err).splitlines(), line
    for file in (*folder.glob("*.html"), *folder.glob("*.md")):
        assert steering(file.read_text()) == []


def test_a_claim_that_cannot_be_read_is_one_line(foreign: Foreign, command: Lab) -> None:
    foreign.plan(claims=[hostile_claim(HOSTILE)])
    code, _, err = command("verdict", "mine", "--uri", foreign.uri)
    assert code == 2
    assert len(err.splitlines()) == 1
    assert steering(err) == []


SHAPES: dict[str, Callable[[Foreign], None]] = {
    "epochs, a word": lambda store: store.change("UPDATE params SET value = 'x' WHERE key = 'train.epochs'"),
    "epochs, 6000 digits": lambda store: store.change(
        "UPDATE params SET value = ? WHERE key = 'train.epochs'", "9" * 6000
    ),
    "loss, huge": lambda store: store.metric("test/loss", 1e308),
    "loss, infinite": lambda store: store.metric("test/loss", 9e999),
    "loss, a word": lambda store: store.metric("test/loss", "x"),
    "dimension, superscript": lambda store: store.metric("test/kl_dimension/²", 1.0),
    "dimension, 5000 digits": lambda store: store.metric(f"test/kl_dimension/{'9' * 5000}", 1.0),
    "name, none": lambda store: store.change("UPDATE runs SET name = NULL"),
    "name, bytes": lambda store: store.name(b"\xff\x00"),
    "name, long": lambda store: store.name("x" * 100_000),
    "start, none": lambda store: store.change("UPDATE runs SET start_time = NULL"),
    "start, beyond dates": lambda store: store.change("UPDATE runs SET start_time = 9223372036854775807"),
    "status, none": lambda store: store.change("UPDATE runs SET status = NULL"),
    "tag, bytes": lambda store: store.tag("vae_lab.command", b"\xff\x00"),
    "heartbeat, deep": lambda store: store.tag("vae_lab.heartbeat", "[" * 100_000),
    "heartbeat, huge": lambda store: store.tag(
        "vae_lab.heartbeat", f'{{"at": {"9" * 4000}, "epoch": 1e400}}'
    ),
    "environment, deep": lambda store: store.tag("vae_lab.environment", '{"a":' * 50_000),
    "plan, lone surrogates": lambda store: store.plan(name="\ud800", question="\udfff"),
    "plan, a Cyrillic key": lambda store: store.plan(cross={"m\u043edel": ["vae", "cvae"]}),
    "plan, a long key": lambda store: store.plan(cross={"m" * 100_000: ["1"]}),
    "plan, 10,000 values": lambda store: store.plan(replicate={"seed": [str(i) for i in range(10_000)]}),
    "plan, a question of megabytes": lambda store: store.plan(question="x" * 5_000_000),
    "plan, claims without numbers": lambda store: store.plan(
        claims=[
            {"id": "A", "text": "x", "metric": "test/loss", "expect": "increasing", "level": float("nan")}
        ]
    ),
    "plan, odd reference": lambda store: store.plan(
        reference={
            "source": "=1",
            "metric": "test/loss",
            "values": [{"epochs": [float("nan")]}],
            "at": [10**30],
        }
    ),
    "place, a web address": lambda store: store.change(
        "UPDATE runs SET artifact_uri = 'http://127.0.0.1:9/x'"
    ),
    "place, empty": lambda store: store.change("UPDATE runs SET artifact_uri = ''"),
    "place, none": lambda store: store.change("UPDATE runs SET artifact_uri = NULL"),
    "place, a null byte": lambda store: store.change("UPDATE runs SET artifact_uri = ?", "file:///tmp/\0x"),
    "place, no address": lambda store: store.change("UPDATE runs SET artifact_uri = 'file://[::1/x'"),
}


@pytest.mark.parametrize("case", SHAPES)
def test_a_store_of_any_form_is_shown_or_refused_in_one_line(
    foreign: Foreign, command: Lab, folder: Path, case: str
) -> None:
    SHAPES[case](foreign)
    for line in (["status", "mine"], ["compare", "mine"], ["report", "mine"]):
        code, _, err = command(*line, "--uri", foreign.uri)
        assert code in (0, 1, 2)
        assert len(err.splitlines()) == (code != 0), err
        assert len(err) < 2000


@pytest.mark.parametrize("kind", ["device", "pipe", "folder"])
def test_an_artifact_that_is_no_file_is_not_waited_for(foreign: Foreign, command: Lab, kind: str) -> None:
    (plan,) = foreign.artifact(PLAN_FILE)
    plan.unlink()
    {"device": lambda: plan.symlink_to("/dev/zero"), "pipe": lambda: os.mkfifo(plan), "folder": plan.mkdir}[
        kind
    ]()
    code, _, err = command("compare", "mine", "--uri", foreign.uri)
    assert code == 1
    assert PLAN_FILE in err


def test_no_text_in_a_csv_is_a_formula_and_every_number_stays_one(foreign: Foreign, command: Lab) -> None:
    for formula in ("=1+1", "+cmd|x", "-x", "@SUM(A1)", "\t=1", "\r=1", "＝1"):
        foreign.change("UPDATE params SET value = ? WHERE key = 'model'", formula)
        line = ("compare", "mine", "--by", "model", "--metric", "test/loss", "--format", "csv")
        _, out, _ = command(*line, "--uri", foreign.uri)
        heading, row = csv.reader(io.StringIO(out))
        assert not row[0].startswith(("=", "+", "-", "@", "\t", "\r", "＝"))
        assert float(row[heading.index("held-out loss (nats/image)")]) > 0
    foreign.change("UPDATE params SET value = '-2' WHERE key = 'model'")
    assert "\n-2," in command(*line, "--uri", foreign.uri)[1]


@pytest.fixture
def ghostscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a program leaves behind that Pillow starts for an EPS."""
    (tmp_path / "bin").mkdir()
    program, trace = tmp_path / "bin" / "gs", tmp_path / "started"
    program.write_text(f"#!/bin/sh\ntouch {trace}\n")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return trace


def drawn(image: Image.Image, form: str = "PNG") -> bytes:
    content = io.BytesIO()
    image.save(content, form)
    return content.getvalue()


PICTURES = {
    "EPS": drawn(Image.new("L", (30, 30)), "EPS"),
    "GIF": drawn(Image.new("L", (31, 3)), "GIF"),
    "a bomb": drawn(Image.new("1", (9_000, 9_000))),
    "an odd strip": drawn(Image.new("L", (178, 8))),
    "one pixel wide": drawn(Image.new("L", (1, 50_000))),
    "cut off": drawn(Image.new("L", (179, 8)))[:-25],
}


@pytest.mark.parametrize("case", PICTURES)
def test_a_picture_that_cannot_be_shown_is_left_out_with_its_reason(
    foreign: Foreign,
    command: Lab,
    folder: Path,
    ghostscript: Path,
    caplog: pytest.LogCaptureFixture,
    case: str,
) -> None:
    for file in foreign.artifact(tracking.STRIP_FILE):
        file.write_bytes(PICTURES[case])
    foreign.seal(tracking.STRIP_FILE)
    assert command("report", "mine", "--uri", foreign.uri)[0] == 0
    assert "Left out: samples_strip.png is no " in (folder / "mine.html").read_text()
    assert caplog.messages[0].startswith("Left out: vae L3 Z15 s0: samples_strip.png is no ")
    assert len(caplog.messages[0].splitlines()) == 1
    store = Store.open(foreign.uri)
    sheet, *_ = study_figures(store, load_study(store, "mine"))
    with standalone_figure(sheet) as figure:
        texts = [text.get_text() for text in figure.findobj(Text) if isinstance(text, Text)]
    shown = any(text.startswith("no samples: samples_strip.png is no PNG") for text in texts)
    assert shown != (case in ("an odd strip", "one pixel wide")), "the sheet does not fold it"
    assert not ghostscript.exists()


def test_every_artifact_that_is_read_back_has_a_checksum(
    foreign: Foreign, command: Lab, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    asked: set[tuple[str, str]] = set()
    for reader in (Store, Tables):
        download = reader.download

        def noted(self: Any, run_id: str, path: str, download: Any = download) -> Path:
            asked.add((run_id, path))
            return Path(download(self, run_id, path))

        monkeypatch.setattr(reader, "download", noted)
    assert command("report", "mine", "--uri", foreign.uri)[0] == 0
    measures = ("evaluation.posterior_draws=1", "evaluation.samples=0", "evaluation.importance_samples=0")
    assert command("evaluate", "mine", "--uri", foreign.uri, *measures)[0] == 0
    runs = {run.run_id: run for run in Store.open(foreign.uri).records()}
    there = {(run_id, path) for run_id, path in asked if foreign.artifact(f"{run_id}/artifacts/{path}")}
    assert {path for _, path in there} >= {"config.yaml", "model/model.pt", PLAN_FILE, tracking.STRIP_FILE}
    assert {(run_id, path) for run_id, path in there if checksum_tag(path) not in runs[run_id].tags} == set()


def test_a_picture_that_was_changed_is_left_out(foreign: Foreign, command: Lab, folder: Path) -> None:
    for file in foreign.artifact(tracking.INTERPOLATION_FILE):
        file.write_bytes(PICTURES["an odd strip"])
    assert command("report", "mine", "--uri", foreign.uri)[0] == 0
    damaged = (
        "Left out: grids/interpolation.png is damaged: its checksum is not the one that the run recorded."
    )
    assert damaged in (folder / "mine.html").read_text()
    for file in foreign.artifact(tracking.INTERPOLATION_FILE):
        file.unlink()
    assert command("report", "mine", "--uri", foreign.uri)[0] == 0
    gone = "Left out: grids/interpolation.png was recorded and is not there any more"
    assert gone in (folder / "mine.html").read_text(), "no figure without a checksum takes its place"


def test_a_model_that_is_small_only_as_a_file_is_not_read(foreign: Foreign, command: Lab) -> None:
    for file in foreign.artifact("model/model.pt"):
        with zipfile.ZipFile(file) as stored:
            entries = {entry.filename: stored.read(entry) for entry in stored.infolist()}
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as compressed:
            for name, content in entries.items():
                compressed.writestr(name, content)
    foreign.seal("model/model.pt")
    measures = ("evaluation.posterior_draws=1", "evaluation.samples=0", "evaluation.importance_samples=0")
    code, _, err = command("evaluate", "mine", "--uri", foreign.uri, *measures)
    assert code == 1
    assert "model.pt: is compressed, as no model of the lab's is" in err


def test_a_deleted_run_is_missing_wherever_runs_are_counted(
    foreign: Foreign, command: Lab, folder: Path
) -> None:
    store = Store.open(foreign.uri)
    (run,) = (run for run in store.records() if run.name == "vae L3 Z15 s1")
    store.client.delete_run(run.run_id)
    for line in (["status"], ["status", "mine"], ["compare", "mine"]):
        assert "1 of 2 runs finished, 1 missing" in command(*line, "--uri", foreign.uri)[1]
    assert command("report", "mine", "--uri", foreign.uri)[0] == 0
    for page in ("mine.html", "mine.md"):
        assert "1 of 2 runs finished, 1 missing" in (folder / page).read_text()


UNFINISHED = {
    "optimizer": {"optimizer.x._target_": "os.system", "optimizer.x._args_": "['touch pwned']"},
    "schedule": {
        "scheduler._target_": "torch.optim.lr_scheduler.ExponentialLR",
        "scheduler.gamma._target_": "os.system",
        "scheduler.gamma._args_": "['touch pwned']",
    },
    "metric": {"evaluation.metrics": "[evil.number]"},
    "device": {"train.device": "cuda:99"},
    "model": {"model._target_": "evil.Model"},
    "loss": {"objective._target_": "evil.Loss"},
    "likelihood": {"objective.likelihood": "evil.Likelihood"},
    "loader": {"data._target_": "evil.load"},
}
EXAMINED = ("optimizer", "schedule", "metric", "device")  # by the first weights, as far as those tell


@pytest.mark.parametrize("case", UNFINISHED)
def test_the_parameters_of_a_run_that_did_not_finish_are_data_and_nothing_else(
    foreign: Foreign, command: Lab, folder: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    (folder / "evil.py").write_text("import pathlib\npathlib.Path('pwned').touch()\nnumber = None\n")
    monkeypatch.syspath_prepend(str(folder))
    foreign.change("UPDATE runs SET status = 'FAILED'")
    for key, value in UNFINISHED[case].items():
        foreign.parameter(key, value)
    run = next(run for run in Store.open(foreign.uri).records() if run.name == "vae L3 Z15 s1")
    code, _, err = command("doctor", run.run_id, "--uri", foreign.uri, "--device", "cpu")
    assert code == (0 if case in EXAMINED else 2), err
    assert not (folder / "pwned").exists()


def test_all_that_is_printed_goes_through_two_doors() -> None:
    doors = {"click.echo": "cli/terminal/messages.py", "Console": "report/terminal.py"}
    for file, tree in modules(PACKAGE):
        place = file.relative_to(PACKAGE).as_posix()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                assert node.module != "rich.markup", f"{place}: texts are no markup"
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert doors.get(called, place) == place, f"{place}:{node.lineno}"
                if called == "print":
                    assert all(isinstance(word, ast.Constant) for word in node.args), f"{place}:{node.lineno}"
