"""What a store has kept of runs, read past the lab and MLflow, and held against what it should have."""

from __future__ import annotations

import csv
import hashlib
import io
import math
import re
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

import torch
from PIL import Image

CLOCKS = ("train/seconds", "train/total_seconds", "train/images_per_second")  # metrics of the time it took
RELATIVE = 1e-5  # between values that need not be equal to the last bit
# Tags that name a time, a process, a commit or the id of a run; of these only the number must be equal.
NAMING = re.compile(
    r"vae_lab\.(start|process|heartbeat|uncommitted_changes|sweep\..+|checksum\.config\.yaml)"
    r"|mlflow\.(parentRunId|source\.git\..+)"
)
ROUNDED = re.compile(r"vae_lab\.(checksum\..+|stack)")  # such tags of a run that may be rounded otherwise
HALF = ".artifact.uploading."  # begins the name of a file that MLflow is still copying
TIMED = ("report.html", "report.md")  # files that hold times


@dataclass
class Kept:
    """One run: all that should be equal for two runs of one command."""

    run_id: str
    name: str
    kind: str
    status: str
    params: dict[str, str]
    tags: dict[str, str]
    inputs: int
    metrics: dict[str, list[tuple[int, float, int]]]  # step, value and time of every point, by step and time
    latest: dict[str, float]
    weights: dict[str, torch.Tensor] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)  # a digest of the pixels or the text of each
    pictures: Counter[str] = field(default_factory=Counter)  # over epochs: how many of each name


def _opened(database: Path) -> sqlite3.Connection:
    """A connection that may write: it may have to roll back what a killed process left half done."""
    return sqlite3.connect(f"file:{database}?mode=rw", uri=True, timeout=30)


def read(database: Path, artifacts: Path | None = None) -> list[Kept]:
    """Every run of a store that is an SQLite file.

    Args:
        database: the file.
        artifacts: where a server keeps artifacts, if it is a server's file.
    """
    found = []
    with closing(_opened(database)) as store:
        runs = store.execute(
            "SELECT run_uuid, name, status, artifact_uri FROM runs WHERE lifecycle_stage = 'active'"
        ).fetchall()
        for run_id, name, status, uri in runs:

            def pairs(table: str, run_id: str = run_id) -> dict[str, str]:
                return dict(store.execute(f"SELECT key, value FROM {table} WHERE run_uuid = ?", (run_id,)))

            tags = pairs("tags")
            metrics: dict[str, list[tuple[int, float, int]]] = {}
            for key, step, value, nan, at in store.execute(
                "SELECT key, step, value, is_nan, timestamp FROM metrics WHERE run_uuid = ? "
                "ORDER BY key, step, timestamp",
                (run_id,),
            ):
                metrics.setdefault(key, []).append((step, math.nan if nan else value, at))
            (inputs,) = store.execute(
                "SELECT COUNT(*) FROM inputs WHERE destination_id = ?", (run_id,)
            ).fetchone()
            run = Kept(
                run_id=run_id,
                name=name,
                kind=tags.get("vae_lab.kind", ""),
                status=status,
                params=pairs("params"),
                tags=tags,
                inputs=inputs,
                metrics=metrics,
                latest={key: float(value) for key, value in pairs("latest_metrics").items()},
            )
            _read_files(run, _folder(uri, artifacts), served=artifacts is not None)
            found.append(run)
    return found


def epochs(database: Path) -> int:
    """How many epochs the runs of a store have together."""
    try:
        with closing(_opened(database)) as store:
            query = "SELECT COUNT(DISTINCT run_uuid || ' ' || step) FROM metrics WHERE key = 'train/loss'"
            return int(store.execute(query).fetchone()[0])
    except sqlite3.Error:
        return 0


def locked(database: Path) -> bool:
    """Whether somebody holds the file so that nobody can read it, or write to it."""
    with closing(sqlite3.connect(database, timeout=0.1)) as store:
        try:
            store.execute("BEGIN EXCLUSIVE")  # a reader that stands still holds writers up, too
            store.execute("ROLLBACK")
        except sqlite3.OperationalError:
            return True
    return False


def statuses(database: Path) -> dict[str, str]:
    """The status of every run by its id."""
    with closing(_opened(database)) as store:
        return dict(store.execute("SELECT run_uuid, status FROM runs WHERE lifecycle_stage = 'active'"))


def unsound(database: Path) -> str:
    """What SQLite says is wrong with the file; empty if nothing is."""
    with closing(_opened(database)) as store:
        said = str(store.execute("PRAGMA integrity_check").fetchone()[0])
    return "" if said == "ok" else said


def differences(expected: list[Kept], found: list[Kept], *, exact: bool = True) -> list[str]:
    """What is lost, doubled or otherwise, run by run; empty if nothing is.

    Args:
        expected: the runs of a command that nobody disturbed.
        found: those of the command whose survival is in question.
        exact: to the last bit, else within a relative 1e-5, without looking at pixels.
    """
    told = []
    there: dict[tuple[str, str], list[Kept]] = {}
    for run in found:
        there.setdefault((run.kind, run.name), []).append(run)
    for run in expected:
        same = there.pop((run.kind, run.name), [])
        if len(same) != 1:
            told.append(f"{run.name}: there {len(same)} times: {[each.status for each in same]}")
            continue
        told += [f"{run.name}: {each}" for each in _between(run, same[0], exact)]
    return told + [f"{name}: nobody asked for this run" for _, name in there]


def _between(one: Kept, other: Kept, exact: bool) -> list[str]:
    told = []
    if other.status != "FINISHED":
        told.append(f"status {other.status}")
    if one.params != other.params:
        told.append(f"params {sorted(one.params.items() ^ other.params.items())}")
    told += _tags(one, other, exact)
    if one.inputs != other.inputs:
        told.append(f"{other.inputs} inputs in place of {one.inputs}")
    told += _metrics(one, other, exact)
    if one.weights.keys() != other.weights.keys():
        told.append("other weights")
    for name in one.weights.keys() & other.weights.keys():
        mine, theirs = one.weights[name], other.weights[name]
        close = mine.shape == theirs.shape and torch.allclose(mine, theirs, rtol=RELATIVE, atol=1e-6)
        if not (torch.equal(mine, theirs) if exact else close):
            told.append(f"weights {name} differ")
    if one.pictures != other.pictures:
        told.append(f"pictures {dict((one.pictures - other.pictures) + (other.pictures - one.pictures))}")
    if one.files.keys() != other.files.keys():
        told.append(f"files {sorted(one.files.keys() ^ other.files.keys())}")
    if exact:
        shared = one.files.keys() & other.files.keys()
        told += [f"{name} differs" for name in sorted(shared) if one.files[name] != other.files[name]]
    return told


def _tags(one: Kept, other: Kept, exact: bool) -> list[str]:
    def names(key: str) -> bool:
        return bool(NAMING.fullmatch(key)) or (not exact and bool(ROUNDED.fullmatch(key)))

    def settled(run: Kept) -> dict[str, str]:
        hidden = ["vae_lab.attempt"]  # a run that was resumed has it
        hidden += ["mlflow.note.content"] if run.kind == "sweep" else []  # it holds times
        return {key: value for key, value in run.tags.items() if not names(key) and key not in hidden}

    def naming(run: Kept) -> Counter[str]:
        return Counter(".".join(key.split(".")[:2]) for key in run.tags if names(key))

    differing = sorted(settled(one).items() ^ settled(other).items())
    told = [f"tags {differing}"] if differing else []
    return told if naming(one) == naming(other) else [*told, f"tags {naming(one)} {naming(other)}"]


def _metrics(one: Kept, other: Kept, exact: bool) -> list[str]:
    told = []
    for key in sorted(one.metrics.keys() | other.metrics.keys()):
        mine, theirs = one.metrics.get(key, []), other.metrics.get(key, [])
        steps = [step for step, _, _ in theirs]
        if len(set(steps)) < len(steps):
            twice = [step for step, times in Counter(steps).items() if times > 1]
            told.append(f"{key} has steps twice: {twice[:5]}")
        elif steps != [step for step, _, _ in mine]:
            missing = {step for step, _, _ in mine} ^ set(steps)
            told.append(f"{key} has other steps: {sorted(missing)[:5]}")
        elif key not in CLOCKS and not all(
            _same(a[1], b[1], exact) for a, b in zip(mine, theirs, strict=True)
        ):
            told.append(f"{key} has other values")
        times = [at for _, _, at in theirs]
        if times != sorted(times):
            told.append(f"{key}: a later step has an earlier time")
        if theirs and key in other.latest and not _same(theirs[-1][1], other.latest[key], exact=True):
            told.append(f"{key}: the last value is not the last point's")
    return told


def _same(one: float, other: float, exact: bool) -> bool:
    if math.isnan(one) or math.isnan(other):
        return math.isnan(one) and math.isnan(other)
    return one == other if exact else math.isclose(one, other, rel_tol=RELATIVE, abs_tol=1e-6)


def _folder(uri: str, artifacts: Path | None) -> Path:
    path = unquote(urlsplit(uri).path)
    return artifacts / path.lstrip("/") if artifacts is not None else Path(path)


def _read_files(run: Kept, folder: Path, *, served: bool) -> None:
    for file in sorted(each for each in folder.rglob("*") if each.is_file()):
        name = file.relative_to(folder).as_posix()
        if served and file.name.startswith(HALF):
            continue  # a server that was killed leaves it on its own disk, where no client can remove it
        if name.startswith("images/"):
            before, _, after = name.partition("+timestamp+")
            name = before + ("+compressed" if "+compressed" in after else "") + file.suffix
            run.pictures[name] += 1
        if name == "model/model.pt":
            stored = torch.load(file, map_location="cpu", weights_only=True)
            run.weights = stored.pop("weights")
            run.files[name] = str(stored)
        else:
            run.files[name] = _digest(file, name)


def _digest(file: Path, name: str) -> str:
    if name.endswith(TIMED) or (name.startswith("tables/") and file.suffix != ".csv"):
        return "there"
    try:
        if file.suffix in (".png", ".webp"):
            with Image.open(file) as picture:
                return hashlib.sha256(repr(picture.size).encode() + picture.tobytes()).hexdigest()
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        return f"cannot be read: {error}"
    if file.suffix == ".csv":
        return _without_times(text)
    return re.sub(r"(parent_run_id|uri): .*", r"\1", text)


def _without_times(table: str) -> str:
    """A table without its columns of seconds."""
    kept = []
    hidden: set[int] = set()
    for row in csv.reader(io.StringIO(table)):
        if any("seconds" in cell for cell in row):
            hidden = {place for place, cell in enumerate(row) if "seconds" in cell}
        kept.append(" ".join(cell for place, cell in enumerate(row) if place not in hidden))
    return "\n".join(kept)


def left_behind(state: Path) -> list[str]:
    """What the lab's state folder still holds that no unfinished run needs."""
    files = [file.relative_to(state).as_posix() for file in state.rglob("*") if file.is_file()]
    meant = re.compile(r"(/address|/starting|lock)$")
    return [f"left behind: {name}" for name in sorted(files) if not meant.search(name)]
