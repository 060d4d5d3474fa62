"""A store of many runs, to measure the commands that read: two real runs, and copies of their rows.

    python -m benchmarks.many_runs FOLDER [--runs 1000]

The copies differ in parameters, metrics and curves, and lie in MLflow's own tables as its client would have
written them, in seconds instead of an hour. Then, in FOLDER: vae-lab compare many
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

from benchmarks.processes import FailedError, vae_lab
from vae_lab.files import checksum
from vae_lab.studies.plan import PLAN_FILE
from vae_lab.tracking.records import checksum_tag

STUDY = "many"
LAYERS, SIZES = (1, 2, 3, 4, 5), tuple(range(5, 55, 5))  # with two models 100 configurations
STEPS = 469  # values of the longest curve: one epoch of MNIST
QUALITY = ("recognizable_share", "classifier_score", "frechet_distance", "precision", "recall", "sharpness")
EPOCH = ("data=digits", "train.epochs=1", "evaluation.pictures=false")


def make(folder: Path, runs: int) -> str:
    """Writes `folder`/mlflow.db with a study of that many runs; returns the study's name."""
    used = vae_lab("train", "-m", *EPOCH, "model=vae,cvae", "seed=0", f"study.name={STUDY}", folder=folder)
    if used.code:
        raise FailedError(f"vae-lab train gave exit code {used.code}:\n{used.printed}")
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection, connection:
        parent, artifacts = connection.execute(
            "SELECT run_uuid, artifact_uri FROM runs JOIN tags USING (run_uuid) "
            "WHERE key = 'vae_lab.kind' AND tags.value = 'sweep'"
        ).fetchone()
        models = dict(connection.execute("SELECT value, run_uuid FROM params WHERE key = 'model'"))
        points = itertools.product(range(runs), SIZES, LAYERS, models)
        for number, (seed, size, layers, model) in enumerate(itertools.islice(points, runs)):
            _copy(connection, models[model], f"{number:032x}", seed, layers, size)
        # The two real runs were only a pattern.
        for run in models.values():
            connection.execute(
                "DELETE FROM tags WHERE run_uuid = ? AND key = ?", (run, f"vae_lab.sweep.{parent}")
            )
    file = Path(unquote(urlsplit(artifacts).path)) / PLAN_FILE
    _replan(file, list(models), runs)
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection, connection:
        connection.execute(
            "UPDATE tags SET value = ? WHERE run_uuid = ? AND key = ?",
            (checksum(file), parent, checksum_tag(PLAN_FILE)),
        )
    return STUDY


def _replan(file: Path, models: list[str], runs: int) -> None:
    plan = json.loads(file.read_text())
    keys = {"model": models, "model.layers": LAYERS, "model.latent_size": SIZES}
    plan["cross"] = {key: [str(value) for value in values] for key, values in keys.items()}
    seeds = -(-runs // (len(models) * len(LAYERS) * len(SIZES)))
    plan["runs"] = []  # the copies have no fingerprints of their own
    plan["replicate"] = {"seed": [str(seed) for seed in range(seeds)]}
    file.write_text(json.dumps(plan))


def _copy(connection: sqlite3.Connection, pattern: str, run: str, seed: int, layers: int, size: int) -> None:
    generator = random.Random(run)
    effect = 2.0 * layers + (size - 25) ** 2 / 100
    for table in ("runs", "params", "tags", "latest_metrics", "metrics"):
        names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})") if row[1] != "run_uuid"]
        listed = ", ".join(f'"{name}"' for name in names)
        connection.execute(
            f"INSERT INTO {table} (run_uuid, {listed}) SELECT ?, {listed} FROM {table} WHERE run_uuid = ?",
            (run, pattern),
        )
    for key, value in (("seed", seed), ("model.layers", layers), ("model.latent_size", size)):
        connection.execute(
            "UPDATE params SET value = ? WHERE run_uuid = ? AND key = ?", (str(value), run, key)
        )
    connection.execute(
        "UPDATE latest_metrics SET value = value + ? WHERE run_uuid = ? AND key LIKE '%loss'",
        (effect + generator.gauss(0, 0.3), run),
    )
    measures = [(f"eval/{key}", generator.random(), 1, 1, 0, run) for key in QUALITY]
    measures += [(f"test/kl_dimension/{i:02d}", generator.random(), 1, 1, 0, run) for i in range(15)]
    connection.executemany("INSERT INTO latest_metrics VALUES (?, ?, ?, ?, ?, ?)", measures)
    curve = [("train/curve", generator.random(), 1, run, step, 0) for step in range(STEPS)]
    connection.executemany("INSERT INTO metrics VALUES (?, ?, ?, ?, ?, ?)", curve)


def main() -> None:
    """Makes the store."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, default=1000)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    print(f"In {arguments.folder}: vae-lab compare {make(arguments.folder.absolute(), arguments.runs)}")


if __name__ == "__main__":
    main()
