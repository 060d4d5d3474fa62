"""Seconds an epoch of the report's base model: the machine's limit, this lab, and loops written by hand.

    python -m benchmarks.epoch [--repeats 5] [--output benchmarks/results]

The contenders take turns, so that a drift of the machine's speed meets all of them; ratios are of medians.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
from pathlib import Path

import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from benchmarks.contenders import BATCH, CONTENDERS, HIDDEN, LATENT, LAYERS, load, matrix_work, sgemm_peak


def measure(repeats: int, console: Console) -> dict[str, list[float]]:
    """Seconds an epoch of every contender and of the floor, in each of `repeats` rounds after a first."""
    data = load()
    running = {name: start(data) for name, start in CONTENDERS.items()}
    seconds: dict[str, list[float]] = {name: [] for name in ("floor", *running)}
    work = matrix_work(len(data.train))
    for round_ in range(repeats + 1):
        found = {"floor": work / sgemm_peak(), **{name: next(epochs) for name, epochs in running.items()}}
        shown = ", ".join(f"{name} {value:.1f} s" for name, value in found.items())
        console.print(f"{'warm-up' if round_ == 0 else f'round {round_} of {repeats}'}: {shown}")
        if round_:
            for name, value in found.items():
                seconds[name].append(value)
    return seconds


def table(seconds: dict[str, list[float]]) -> Table:
    """Median, spread and ratios."""
    shown = Table(title=f"Seconds an epoch: 784-{HIDDEN}x{LAYERS}-{LATENT}, batch {BATCH}, Adam, float32")
    for heading in ("", "median", "least", "most", "of the floor's speed", "times the DataLoader loop"):
        shown.add_column(heading, justify="right" if heading else "left")
    floor, plain = (statistics.median(seconds[name]) for name in ("floor", "DataLoader loop"))
    for name, values in seconds.items():
        middle = statistics.median(values)
        row = [f"{middle:.2f}", f"{min(values):.2f}", f"{max(values):.2f}", f"{floor / middle:.2f}"]
        shown.add_row(name, *row, f"{plain / middle:.2f}")
    return shown


def plot(seconds: dict[str, list[float]]) -> Figure:
    """A bar a contender, a dot a round."""
    figure = Figure(figsize=(7, 0.6 * len(seconds) + 1), layout="constrained", dpi=150)
    axes = figure.add_subplot()
    names = list(seconds)[::-1]
    axes.barh(names, [statistics.median(seconds[name]) for name in names], color="#0072b2", alpha=0.6)
    for place, name in enumerate(names):
        axes.plot(seconds[name], [place] * len(seconds[name]), "k.", markersize=4)
    axes.set_xlabel("seconds an epoch (bar: median; dots: rounds)")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def main() -> None:
    """Measures, prints, and writes JSON and a plot."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5, help="rounds after the warm-up (default 5)")
    parser.add_argument(
        "--output", type=Path, default=Path("benchmarks/results"), help="folder of the results"
    )
    options = parser.parse_args()
    console = Console(highlight=False)
    machine = (
        f"{platform.machine()}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"
    )
    console.print(f"{machine}, torch {torch.__version__}")
    seconds = measure(options.repeats, console)
    console.print(table(seconds))
    options.output.mkdir(parents=True, exist_ok=True)
    result = {"machine": machine, "torch": str(torch.__version__), "seconds": seconds}
    (options.output / "epoch.json").write_text(json.dumps(result, indent=2))
    plot(seconds).savefig(options.output / "epoch.png")
    console.print(f"Written to {options.output}")


if __name__ == "__main__":
    main()
