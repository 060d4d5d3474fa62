"""A store of many runs, to measure the commands that read: two real runs, and copies of their rows.

    python -m benchmarks.many_runs FOLDER [--runs 1000] [--seeds 10]

The copies differ in parameters, metrics and curves, and lie in MLflow's own tables as its client would have
written them, in seconds instead of an hour; the study plans them all, and its claims are of the kinds of the
reference study's. Then, in FOLDER: vae-lab compare many
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import random
import sqlite3
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from benchmarks.processes import FailedError, vae_lab
from vae_lab.files import checksum
from vae_lab.studies.plan import PLAN_FILE
from vae_lab.tracking.records import checksum_tag

STUDY = "many"
LAYERS, MODELS = (1, 2, 3, 4, 5), ("cvae", "vae")
STEPS = 469  # values of the longest curve: one epoch of MNIST
QUALITY = ("recognizable_share", "classifier_score", "frechet_distance", "precision", "recall", "sharpness")
EPOCH = ("data=digits", "train.epochs=1", "evaluation.pictures=false")
CLAIMS = (
    {"metric": "test/loss", "expect": "increasing", "along": "model.layers", "within": {"model": "vae"}},
    {"metric": "test/loss", "expect": "increasing", "along": "model.layers", "within": {"model": "cvae"}},
    {"metric": "eval/sharpness", "expect": "increasing", "along": "model.layers", "within": {"model": "vae"}},
    {
        "metric": "test/loss",
        "expect": "best_inside",
        "along": "model.latent_size",
        "within": {"model": "vae"},
    },
    {
        "metric": "test/loss",
        "expect": "same_trend",
        "along": "model.layers",
        "of": {"model": "cvae"},
        "as": {"model": "vae"},
    },
)


class Copy(NamedTuple):
    """One run of the study that is written."""

    model: str
    layers: int
    size: int
    seed: int

    @property
    def name(self) -> str:
        """As the lab names a run."""
        return f"{self.model} L{self.layers} Z{self.size} s{self.seed}"

    @property
    def digest(self) -> str:
        """Stands for the fingerprint, and is the last part of the run's id."""
        return hashlib.sha256(self.name.encode()).hexdigest()[:12]


def copies(runs: int, seeds: int) -> list[Copy]:
    """Returns as many runs, of `seeds` seeds a configuration, and latent sizes as many as that takes."""
    configurations = -(-runs // seeds)
    sizes = range(5, 5 + -(-configurations // (len(LAYERS) * len(MODELS))))
    points = itertools.product(MODELS, LAYERS, sizes, range(seeds))
    return [Copy(*point) for point in itertools.islice(points, runs)]


def make(folder: Path, runs: int, seeds: int = 10) -> str:
    """Writes `folder`/mlflow.db with a study of that many runs; returns the study's name."""
    used = vae_lab("train", "-m", *EPOCH, "model=vae,cvae", "seed=0", f"study.name={STUDY}", folder=folder)
    if used.code:
        raise FailedError(f"vae-lab train gave exit code {used.code}:\n{used.printed}")
    planned = copies(runs, seeds)
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection, connection:
        parent, artifacts = connection.execute(
            "SELECT run_uuid, artifact_uri FROM runs JOIN tags USING (run_uuid) "
            "WHERE key = 'vae_lab.kind' AND tags.value = 'sweep'"
        ).fetchone()
        models = dict(connection.execute("SELECT value, run_uuid FROM params WHERE key = 'model'"))
        for copy in planned:
            _copy(connection, models[copy.model], copy)
        # The two real runs were only a pattern.
        for run in models.values():
            connection.execute(
                "DELETE FROM tags WHERE run_uuid = ? AND key = ?", (run, f"vae_lab.sweep.{parent}")
            )
        file = Path(unquote(urlsplit(artifacts).path)) / PLAN_FILE
        _replan(file, planned)
        connection.execute(
            "UPDATE tags SET value = ? WHERE run_uuid = ? AND key = ?",
            (checksum(file), parent, checksum_tag(PLAN_FILE)),
        )
    return STUDY


def _replan(file: Path, planned: Sequence[Copy]) -> None:
    plan = json.loads(file.read_text())
    keys = {"model": "model", "model.layers": "layers", "model.latent_size": "size"}
    values = {
        key: dict.fromkeys(str(getattr(copy, field)) for copy in planned) for key, field in keys.items()
    }
    plan["cross"] = {key: list(texts) for key, texts in values.items()}
    plan["replicate"] = {"seed": list(dict.fromkeys(str(copy.seed) for copy in planned))}
    plan["runs"] = [(copy.digest, copy.name) for copy in planned]
    plan["claims"] = [
        {"id": f"C{i}", "text": "As in the reference study.", **claim} for i, claim in enumerate(CLAIMS)
    ]
    file.write_text(json.dumps(plan))


def _copy(connection: sqlite3.Connection, pattern: str, copy: Copy) -> None:
    run = copy.digest.rjust(32, "0")
    generator = random.Random(run)
    effect = 2.0 * copy.layers + (copy.size - 25) ** 2 / 100
    for table in ("runs", "params", "tags", "latest_metrics", "metrics"):
        names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})") if row[1] != "run_uuid"]
        listed = ", ".join(f'"{name}"' for name in names)
        connection.execute(
            f"INSERT INTO {table} (run_uuid, {listed}) SELECT ?, {listed} FROM {table} WHERE run_uuid = ?",
            (run, pattern),
        )
    settings = {"seed": copy.seed, "model.layers": copy.layers, "model.latent_size": copy.size}
    tags = {"vae_lab.fingerprint": copy.digest, "mlflow.runName": copy.name}
    for table, changed in (("params", settings), ("tags", tags)):
        for key, value in changed.items():
            connection.execute(
                f"UPDATE {table} SET value = ? WHERE run_uuid = ? AND key = ?", (str(value), run, key)
            )
    connection.execute("UPDATE runs SET name = ? WHERE run_uuid = ?", (copy.name, run))
    connection.execute(
        "UPDATE latest_metrics SET value = value + ? WHERE run_uuid = ? AND key LIKE '%loss'",
        (effect + generator.gauss(0, 0.3), run),
    )
    measures = [(f"eval/{key}", generator.random(), 1, 1, 0, run) for key in QUALITY]
    measures += [(f"test/kl_dimension/{i:02d}", generator.random(), 1, 1, 0, run) for i in range(15)]
    connection.executemany("INSERT INTO latest_metrics VALUES (?, ?, ?, ?, ?, ?)", measures)
    curve = [("train/curve", generator.random(), 1, run, step, 0) for step in range(STEPS)]
    connection.executemany("INSERT INTO metrics VALUES (?, ?, ?, ?, ?, ?)", curve)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Returns the command line's options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.many_runs", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=10)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> None:
    """Makes the store."""
    chosen = parse(arguments)
    chosen.folder.mkdir(parents=True, exist_ok=True)
    study = make(chosen.folder.absolute(), chosen.runs, chosen.seeds)
    print(f"In {chosen.folder}: vae-lab compare {study}")


if __name__ == "__main__":
    main(sys.argv[1:])
