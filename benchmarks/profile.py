"""Where an epoch of the lab's loop goes: `python -m benchmarks.profile [KEY=VALUE ...]`, as after `train`.

The operations are those that torch's profiler sees, each without the operations that it calls in turn. What
they leave of an epoch that runs without the profiler is Python, autograd's bookkeeping and the calls.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from hydra.errors import HydraException
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.learners import new_learner
from benchmarks.processes import ROOT
from vae_lab.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from vae_lab.data import Batches
    from vae_lab.jobs.runs.learner import Learner

FILE = ROOT / "benchmarks" / "results" / "profile.json"
RANGE = "minibatch"  # name of the range in which a minibatch is made
MATRIX, OPTIMIZER, ELEMENTWISE, DATA, PYTHON = (
    "matrix products",
    "optimizer",
    "elementwise and reductions",
    "data",
    "Python and the rest",
)
GROUPS = (MATRIX, OPTIMIZER, ELEMENTWISE, DATA, PYTHON)
PRODUCTS = {"aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::_addmm_activation"}
VIEWS = {
    f"aten::{name}" for name in ("t", "transpose", "view", "detach", "expand", "as_strided", "slice", "empty")
}
PLAIN_EPOCHS = 3


class Operation(NamedTuple):
    """One kind of operation within a group."""

    group: str
    name: str


def group(name: str, callers: Sequence[str]) -> str:
    """Returns the group of an operation, from its name and the names of its callers."""
    names = [name, *callers]
    if RANGE in names:
        return DATA
    if any("Optimizer." in caller or "_fused_adam" in caller for caller in names):
        return OPTIMIZER
    if name in PRODUCTS:
        return MATRIX
    return ELEMENTWISE if name.startswith("aten::") and name not in VIEWS else PYTHON


def shares(seconds: Mapping[str, float], epoch: float) -> dict[str, float]:
    """Returns each group's share of an epoch of that many seconds; the rest is Python's.

    On a busy machine the profiled epoch can be slower than the others; then there is no rest.
    """
    operations = {name: seconds.get(name, 0.0) for name in GROUPS if name != PYTHON}
    whole = max(epoch, sum(operations.values()))
    parts = {name: value / whole for name, value in operations.items()}
    return {**parts, PYTHON: max(0.0, 1 - sum(parts.values()))}


def summed(events: Iterable[Any]) -> Counter[Operation]:
    """Returns the seconds of each operation, without those of the operations that it calls."""
    seconds: Counter[Operation] = Counter()
    for event in events:
        callers, caller = [], event.cpu_parent
        while caller is not None:
            callers.append(caller.name)
            caller = caller.cpu_parent
        seconds[Operation(group(event.name, callers), event.name)] += event.self_cpu_time_total / 1e6
    return seconds


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Returns the command line's options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.profile",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as after `vae-lab train`")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> None:
    """Profiles the run that the overrides describe; prints and writes the shares of its epoch."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # no messages about GPUs that are not there
    overrides = parse(arguments).overrides
    try:  # imports the lab, which sets what OpenMP reads when torch is imported
        learner = new_learner(overrides)
    except (UserError, HydraException) as error:
        sys.exit(str(error).splitlines()[0])
    import torch

    if learner.settings.train.threads is not None:
        torch.set_num_threads(learner.settings.train.threads)
    record = profile_run(learner)
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(json.dumps(record, indent=2))
    Console(highlight=False).print(table(record))


def profile_run(learner: Learner) -> dict[str, Any]:
    """Trains some epochs without the profiler and two with it; returns times and the last epoch's shares."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    from vae_lab import training

    objective, seed = learner.parts.objective, learner.settings.seed
    batches = _marked_batches(learner)
    epochs = training.train(
        learner.model,
        objective,
        learner.optimizer,
        batches,
        epochs=PLAIN_EPOCHS + 3,
        seed=seed,
        precision=learner.precision,
        compiled=learner.settings.train.compile,
    )
    next(epochs)
    plain_seconds = statistics.median(next(epochs).seconds for _ in range(PLAIN_EPOCHS))
    with profile(activities=[ProfilerActivity.CPU]):  # its start makes the first epoch half as long again
        next(epochs)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        profiled_seconds = next(epochs).seconds
    seconds = summed(profiler.events())
    return {
        "run": learner.job.name,
        "threads": torch.get_num_threads(),
        "epoch": plain_seconds,
        "epoch_with_profiler": profiled_seconds,
        "shares": shares(_by_group(seconds), plain_seconds),
        "largest": {name: _largest(seconds, name) for name in GROUPS if name != PYTHON},
    }


def _marked_batches(learner: Learner) -> Batches:
    from torch.profiler import record_function

    from vae_lab.data import Batches

    class MarkedBatches(Batches):
        """The run's batches, each made within a range that the profiler shows."""

        def __call__(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
            batches = super().__call__(epoch)
            while True:
                with record_function(RANGE):
                    batch = next(batches, None)
                if batch is None:
                    return
                yield batch

    images, settings = learner.parts.data.train, learner.settings
    return MarkedBatches(
        images,
        batch_size=settings.train.batch_size,
        C=learner.model.condition_size,
        seed=settings.seed,
        dynamic=learner.batches.dynamic,
    )


def table(record: Mapping[str, Any]) -> Table:
    """Returns the shares as a table for the terminal, with the largest operations of each group."""
    title = (
        f"{record['run']}: {record['epoch']:.2f} s an epoch with {record['threads']} threads "
        f"({record['epoch_with_profiler']:.2f} s with the profiler)"
    )
    rows = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    rows.add_column("")
    rows.add_column("share", justify="right")
    rows.add_column("seconds", justify="right")
    rows.add_column("most of it")
    for name, share in record["shares"].items():
        largest = ", ".join(record["largest"].get(name, []))
        rows.add_row(name, f"{share:.1%}", f"{share * record['epoch']:.2f}", largest)
    return rows


def markdown(record: Mapping[str, Any]) -> str:
    """Returns the shares as a table in Markdown."""
    lines = [
        f"`{record['run']}`, {record['epoch']:.2f} s an epoch with {record['threads']} threads:",
        "",
        "| where | share of an epoch | most of it |",
        "| --- | ---: | --- |",
    ]
    for name, share in record["shares"].items():
        largest = ", ".join(f"`{operation}`" for operation in record["largest"].get(name, []))
        lines.append(f"| {name} | {share:.1%} | {largest} |")
    return "\n".join(lines)


def _by_group(seconds: Counter[Operation]) -> dict[str, float]:
    return {name: sum(value for key, value in seconds.items() if key.group == name) for name in GROUPS}


def _largest(seconds: Counter[Operation], name: str, count: int = 3) -> list[str]:
    largest = [key.name for key, value in seconds.most_common() if key.group == name and value > 0]
    return [operation.removeprefix("aten::").rpartition("#")[2] for operation in largest[:count]]


if __name__ == "__main__":
    main(sys.argv[1:])
