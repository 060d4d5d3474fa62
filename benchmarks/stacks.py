"""How fast stacks of K runs train on a device: `python -m benchmarks.stacks --runs 1 4 16 [KEY=VALUE ...]`.

Writes a line of JSON for every K and number format: the seconds of an epoch and the most memory that tensors
took. Nothing is recorded in a store and nothing evaluated: this is training alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.learners import new_learner

SHORT = 10_000  # images of an epoch of many runs, so that it does not take minutes
MANY = 16  # runs that are many


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Returns the command line's options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stacks", description=__doc__)
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--runs", type=int, nargs="+", default=[1], help="the sizes of the stacks")
    parser.add_argument("--formats", nargs="+", default=["float32"], help="float32, tf32, bfloat16")
    parser.add_argument("--compile", action="store_true", dest="compiled", help="with train.compile=true")
    parser.add_argument("--epochs", type=int, default=3, help="that are measured, after one that is not")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as after `vae-lab train`")
    return parser.parse_intermixed_args(arguments)


def main(arguments: Sequence[str]) -> None:
    """Prints a line for every size and format as soon as it is measured."""
    chosen = parse(arguments)
    for format in chosen.formats:
        for runs in chosen.runs:
            options = [*chosen.overrides, f"train.device={chosen.device}", f"train.precision={format}"]
            options.append(f"train.compile={str(chosen.compiled).lower()}")
            measured = measure(runs, options, chosen.epochs)
            line = {"runs": runs, "format": format, "compiled": chosen.compiled, **measured}
            print(json.dumps(line), flush=True)


def measure(runs: int, overrides: Sequence[str], epochs: int) -> dict[str, Any]:
    """Returns the seconds of an epoch of a stack, runs a second, and the peak of memory where it is known.

    Runs a second are epochs of a whole data set, of all runs of the stack together. Of many runs an epoch is
    a share of the images: seconds are divided by it, and the peak lacks the noise of the others.
    """
    from vae_lab.jobs.runs.together import epochs_of

    learners = {seed: new_learner([*overrides, f"seed={seed}", "train.epochs=100"]) for seed in range(runs)}
    first = learners[0]
    whole = len(first.batches.images)
    if runs > MANY:
        first.batches.images = first.batches.images.first(SHORT)
    share = len(first.batches.images) / whole
    import torch  # after the lab, which sets what OpenMP reads

    device = first.parts.device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    training = epochs_of(learners, learners, learners)
    start = _seconds(next(training))  # compiles, where it is to be compiled
    seconds = [_seconds(next(training)) for _ in range(epochs)]
    epoch = statistics.median(seconds) / share
    return {
        "model": f"{first.settings.model.layers} x {first.settings.model.hidden_size}",
        "first_epoch": start / share,
        "epoch": epoch,
        "epochs": [value / share for value in seconds],
        "runs_a_second": runs / epoch,
        "share": share,
        "peak_memory": torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None,
    }


def _seconds(trained: Any) -> float:
    """Returns the seconds of an epoch of one run, or of all runs of a stack together."""
    epochs = trained.values() if isinstance(trained, dict) else [trained]
    return float(sum(epoch.seconds for epoch in epochs))


if __name__ == "__main__":
    main(sys.argv[1:])
