r"""Searches replayed on recorded grids, whose runs have all been trained: what is found, for how many epochs.

    python -m benchmarks.search [GRID ...] [--seeds 20] [--share 0.25] [--sampler NAME] [--pruner NAME]

A grid is a file of `benchmarks/grids`: a row a configuration, with its held-out loss after every epoch. The
search is the lab's own, with two workers that take equally long for an epoch; only the training is read off.
Beside it stands a random search of as many epochs. Ends with 1 if the forecast misses its bar: every search
within 0.1 nats of the best, and better than random ones on average. `--record STORE STUDY` writes the grid
that a multirun has trained in that store:

    vae-lab train -m data=digits train.epochs=27 train.batch_size=64 model.hidden_size=128 \\
        evaluation.pictures=false model.layers=1,2,3 model.latent_size=2,4,8,16 \\
        optimizer.lr=1e-4,3e-4,1e-3,3e-3,1e-2,3e-2 study.name=digits tracking.uri=sqlite:///grid.db
    python -m benchmarks.search --record sqlite:///grid.db digits
"""

from __future__ import annotations

import argparse
import csv
import heapq
import math
import random
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import vae_lab
from vae_lab.jobs.search.engine import Order, Rules, Search
from vae_lab.jobs.search.space import Dimension, Space

GRIDS = Path(__file__).parent / "grids"
WORKERS = 2
NEAR = 0.1  # nats from the best of the grid
OWN = "forecast"  # the lab's own sampler and pruner, which the bar is for


class Grid(NamedTuple):
    """A recorded grid: what varied, and the held-out loss of each point after every epoch."""

    keys: list[str]
    curves: dict[tuple[float, ...], list[float]]

    @property
    def epochs(self) -> int:
        """Of one run."""
        return len(next(iter(self.curves.values())))

    @property
    def best(self) -> float:
        """The lowest loss at full length."""
        return min(curve[-1] for curve in self.curves.values())


class Found(NamedTuple):
    """What a search came to."""

    loss: float
    epochs: int
    trials: int


def read(file: Path) -> Grid:
    """Returns the grid of a file."""
    with file.open(encoding="utf-8", newline="") as stream:
        head, *rows = csv.reader(stream)
    keys = [key for key in head if not key.isdigit()]
    numbers = [[float(cell) for cell in row] for row in rows]
    return Grid(keys, {tuple(row[: len(keys)]): row[len(keys) :] for row in numbers})


def replay(grid: Grid, rules: Rules) -> Found:
    """Returns what a search finds on a grid, whose workers advance one epoch in the same time."""
    values = [sorted({point[place] for point in grid.curves}) for place in range(len(grid.keys))]
    space = Space(tuple(Dimension(key, tuple(axis)) for key, axis in zip(grid.keys, values, strict=True)))
    search = Search(space, rules)
    under_way: list[tuple[int, int, Order]] = []  # when it is done, number, what
    now, done, best = 0, dict[int, int](), math.inf
    while True:
        while len(under_way) < WORKERS and (order := search.next()) is not None:
            end = now + order.until - done.get(order.number, 0)
            heapq.heappush(under_way, (end, order.number, order))
        if not under_way:
            return Found(best, search.ladder.spent, len(search.points))
        now, number, order = heapq.heappop(under_way)
        done[number] = order.until
        curve = grid.curves[tuple(float(order.values[key]) for key in grid.keys)]  # type: ignore[arg-type]
        search.told(number, [curve[order.until - 1]])
        if order.until == grid.epochs:
            best = min(best, curve[-1])


def at_random(grid: Grid, epochs: int, seed: int) -> float:
    """Returns the best loss of so many whole runs drawn without replacement."""
    runs = random.Random(seed).sample([*grid.curves], epochs // grid.epochs)
    return min(grid.curves[point][-1] for point in runs)


def record(uri: str, study: str) -> Path:
    """Writes the held-out losses of a study's runs as a grid, and returns its file."""
    curves = vae_lab.curves(study, uri=uri)
    keys = [key for key in curves.columns if "/" not in key and curves[key].nunique() > 1]
    table = (
        curves.reset_index(level="epoch")
        .set_index([*keys, "epoch"])["test/loss"]
        .unstack("epoch")
        .sort_index()
    )
    file = GRIDS / f"{study}.csv"
    table.round(3).to_csv(file)
    return file


def main(arguments: Sequence[str]) -> int:
    """Prints a line a grid: regrets of the search and of a random one; returns 1 below the bar."""
    chosen, missed = parsed(arguments), []
    if chosen.record:
        print(record(*chosen.record))
        return 0
    for file in chosen.grids:
        grid = read(file)
        whole = grid.epochs * len(grid.curves)
        rules = Rules(
            length=grid.epochs,
            trials=len(grid.curves),
            epochs=int(chosen.share * whole),
            sampler=chosen.sampler,
            pruner=chosen.pruner,
        )
        results = [replay(grid, rules._replace(seed=seed)) for seed in range(chosen.seeds)]
        chance = [at_random(grid, result.epochs, seed) for seed, result in enumerate(results)]
        regrets = [result.loss - grid.best for result in results]
        if max(regrets) > NEAR or statistics.mean(regrets) >= statistics.mean(chance) - grid.best:
            missed.append(file.stem)
        print(
            f"{file.stem}, {len(grid.curves)} configurations x {grid.epochs} epochs; {chosen.sampler}, "
            f"{chosen.pruner}, {chosen.seeds} seeds\n"
            f"  search {said(regrets)},\n"
            f"         for at most {max(result.epochs for result in results) / whole:.1%} of the epochs, "
            f"{statistics.mean(result.trials for result in results):.0f} configurations tried\n"
            f"  random {said([loss - grid.best for loss in chance])}",
            flush=True,
        )
    if missed and (chosen.sampler, chosen.pruner) == (OWN, OWN):
        print(f"Below the bar: {', '.join(missed)}.")
        return 1
    return 0


def said(regrets: Sequence[float]) -> str:
    """Returns how far from the best of the grid searches ended.

    >>> said([0.0, 0.3])
    'within 0.1 nats of the best: 1 of 2; at most 0.300 away, on average 0.150'
    """
    near = sum(regret <= NEAR for regret in regrets)
    return (
        f"within {NEAR} nats of the best: {near} of {len(regrets)}; at most {max(regrets):.3f} away, "
        f"on average {statistics.mean(regrets):.3f}"
    )


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """Returns what the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("grids", nargs="*", type=Path, default=sorted(GRIDS.glob("*.csv")))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--share", type=float, default=0.25, help="of the grid's epochs")
    parser.add_argument("--sampler", default=OWN)
    parser.add_argument("--pruner", default=OWN)
    parser.add_argument("--record", nargs=2, metavar=("STORE", "STUDY"))
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
