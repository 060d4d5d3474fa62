"""Where an epoch of the lab's loop goes: `python -m benchmarks.profile [KEY=VALUE ...]`, as after `train`.

The operations are those that torch's profiler sees, each without the operations that it calls in turn. What
they leave of an epoch that runs without the profiler is Python, autograd's bookkeeping and the calls.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.processes import ROOT

if TYPE_CHECKING:
    from torch import Tensor

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
    """The group of an operation, from its name and the names of what called it."""
    above = [name, *callers]
    if RANGE in above:
        return DATA
    if any("Optimizer." in each or "_fused_adam" in each for each in above):
        return OPTIMIZER
    if name in PRODUCTS:
        return MATRIX
    return ELEMENTWISE if name.startswith("aten::") and name not in VIEWS else PYTHON


def shares(seconds: Mapping[str, float], epoch: float) -> dict[str, float]:
    """Each group's share of an epoch of that many seconds; what the operations leave is Python's.

    On a busy machine the watched epoch can be slower than the others; then nothing is left.
    """
    operations = {name: seconds.get(name, 0.0) for name in GROUPS if name != PYTHON}
    whole = max(epoch, sum(operations.values()))
    found = {name: value / whole for name, value in operations.items()}
    return {**found, PYTHON: max(0.0, 1 - sum(found.values()))}


def summed(events: Iterable[Any]) -> Counter[Operation]:
    """Seconds of each operation, without those that it calls."""
    seconds: Counter[Operation] = Counter()
    for event in events:
        callers, caller = [], event.cpu_parent
        while caller is not None:
            callers.append(caller.name)
            caller = caller.cpu_parent
        seconds[Operation(group(event.name, callers), event.name)] += event.self_cpu_time_total / 1e6
    return seconds


def main(overrides: list[str]) -> None:
    """Trains some epochs as they are and two with the profiler; prints and writes the second's shares."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # its messages on GPUs that are not there
    import vae_lab  # noqa: F401  (first: it sets what OpenMP reads when torch is imported)

    # isort: split
    import torch
    from hydra import compose, initialize_config_dir
    from torch.profiler import ProfilerActivity, profile, record_function

    from vae_lab import config, training
    from vae_lab.data import Batches
    from vae_lab.files import CONF
    from vae_lab.runs.run import Run

    class Marked(Batches):
        """The run's batches, each made within a range that the profiler shows."""

        def __call__(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
            made = super().__call__(epoch)
            while True:
                with record_function(RANGE):
                    batch = next(made, None)
                if batch is None:
                    return
                yield batch

    with initialize_config_dir(str(CONF), version_base="1.3"):
        settings = config.checked(compose("config", overrides))
    if settings.train.threads is not None:
        torch.set_num_threads(settings.train.threads)
    run = Run(settings)
    batches = Marked(
        run.parts.data.train,
        batch_size=settings.train.batch_size,
        C=run.model.condition_size,
        seed=settings.seed,
    )
    epochs = training.train(
        run.model, run.parts.objective, run.optimizer, batches, epochs=PLAIN_EPOCHS + 3, seed=settings.seed
    )
    next(epochs)
    epoch = statistics.median(next(epochs).seconds for _ in range(PLAIN_EPOCHS))
    with profile(activities=[ProfilerActivity.CPU]):  # the first has work of its own: half as long again
        next(epochs)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        watched = next(epochs).seconds
    seconds = summed(profiler.events())
    found = {
        "run": run.name,
        "threads": torch.get_num_threads(),
        "epoch": epoch,
        "epoch_with_profiler": watched,
        "shares": shares(_by_group(seconds), epoch),
        "largest": {name: _largest(seconds, name) for name in GROUPS if name != PYTHON},
    }
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(json.dumps(found, indent=2))
    Console(highlight=False).print(table(found))


def table(found: Mapping[str, Any]) -> Table:
    """The shares, with the largest operations of each group."""
    title = (
        f"{found['run']}: {found['epoch']:.2f} s an epoch with {found['threads']} threads "
        f"({found['epoch_with_profiler']:.2f} s with the profiler)"
    )
    made = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    made.add_column("")
    made.add_column("share", justify="right")
    made.add_column("seconds", justify="right")
    made.add_column("most of it")
    for name, share in found["shares"].items():
        largest = ", ".join(found["largest"].get(name, []))
        made.add_row(name, f"{share:.1%}", f"{share * found['epoch']:.2f}", largest)
    return made


def markdown(found: Mapping[str, Any]) -> str:
    """The shares as a table in Markdown."""
    lines = [
        f"`{found['run']}`, {found['epoch']:.2f} s an epoch with {found['threads']} threads:",
        "",
        "| where | share of an epoch | most of it |",
        "| --- | ---: | --- |",
    ]
    for name, share in found["shares"].items():
        largest = ", ".join(f"`{each}`" for each in found["largest"].get(name, []))
        lines.append(f"| {name} | {share:.1%} | {largest} |")
    return "\n".join(lines)


def _by_group(seconds: Counter[Operation]) -> dict[str, float]:
    return {name: sum(value for key, value in seconds.items() if key.group == name) for name in GROUPS}


def _largest(seconds: Counter[Operation], name: str, count: int = 3) -> list[str]:
    own = [(key.name, value) for key, value in seconds.most_common() if key.group == name]
    return [each.removeprefix("aten::").rpartition("#")[2] for each, value in own[:count] if value > 0]


if __name__ == "__main__":
    main(sys.argv[1:])
