"""The rows of the table, measured in rounds: all contenders take turns, so that drift affects all."""

from __future__ import annotations

import statistics
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks import many_runs, store
from benchmarks.processes import Contender, FailedError, Neighbour, train, vae_lab
from benchmarks.targets import Result, ratio
from benchmarks.work import (
    BASE,
    CLASSES,
    Architecture,
    TrainedRun,
    floor_seconds,
    loop_seconds,
    training_seconds,
)

Say = Callable[[str], None]  # shows the user the progress


class Sizes(NamedTuple):
    """The rounds and the work of every row."""

    data: str  # folder of MNIST's files
    device: str = "cpu"
    compiled: bool = False  # the lab with train.compile=true
    repeats: int = 5  # rounds of what takes seconds
    long_repeats: int = 2  # rounds of the ten ablations, ten minutes each
    seed_repeats: int = 1  # rounds of the many seeds, minutes each
    epochs: int = 10  # of the ten ablations
    seeds: int = 16
    seed_epochs: int = 10  # of each of these seeds' runs
    peers: tuple[str, ...] = ()
    shorter: tuple[str, ...] = ()  # bfloat16, where the hardware multiplies in it

    def lab(self, format: str = "float32") -> list[str]:
        """Returns the arguments of every training of this lab."""
        compiled = str(self.compiled).lower()
        return [f"train.device={self.device}", f"train.compile={compiled}", f"train.precision={format}"]


def epochs_side_by_side(sizes: Sizes, say: Say) -> list[Result]:
    """Row 9: the floor, this lab in both formats, the DataLoader loop and the peers, an epoch a turn."""
    with ExitStack() as processes:
        running = {
            "floor": _floor(sizes),
            "this lab": Contender("this_lab", *sizes.lab()),
            **{f"this lab, {format}": Contender("this_lab", *sizes.lab(format)) for format in sizes.shorter},
            "DataLoader loop": _loop("hand_written", BASE, sizes),
            **{name: _loop(f"with_{name}", BASE, sizes) for name in sizes.peers},
        }
        for contender in running.values():
            processes.enter_context(contender)
        seconds = _rounds(running, sizes.repeats, say)
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    words = [f"{name} {value:.2f} s" for name, value in middle.items()]
    share = middle["floor"] / middle["this lab"]
    note = f"{BASE}, an epoch: {', '.join(words)}; this lab has {share:.2f} of the floor's speed"
    return [ratio(9, seconds["DataLoader loop"], seconds["this lab"], note, seconds)]


KINDS = [(layers, conditional) for layers in (2, 3, 4) for conditional in (False, True)]


def ten_ablations(sizes: Sizes, say: Say) -> list[Result]:
    """Rows 1 to 4: `vae-lab train experiments=reference` in an empty folder, the floor and the peers."""
    rounds: dict[str, list[float]] = defaultdict(list)
    with ExitStack() as processes:
        floor = processes.enter_context(_floor(sizes))
        loops = {
            peer: {kind: processes.enter_context(_peer_loop(peer, kind, sizes)) for kind in KINDS}
            for peer in sizes.peers
        }
        for i in range(sizes.long_repeats):
            for format in ("float32", *sizes.shorter):
                say(f"round {i + 1} of {sizes.long_repeats}: vae-lab train experiments=reference, {format}")
                peaks = [_peak(floor)]
                wall, runs, workers = _ablations(sizes, format)
                peaks.append(_peak(floor))
                training = training_seconds(runs, workers)
                rounds[f"{format}, command"].append(wall)
                rounds[f"{format}, training"].append(training)
                rounds[f"{format}, floor"].append(floor_seconds(runs, statistics.median(peaks)))
                rounds[f"{format}, not training"].append(1 - training / wall)
            for peer, kinds in loops.items():
                say(f"round {i + 1} of {sizes.long_repeats}: {peer}")
                seconds = {kind: _epoch_of(loop, warm_up=i == 0) for kind, loop in kinds.items()}
                rounds[peer].append(loop_seconds(runs, seconds))
    return ablation_results(dict(rounds), len(runs), workers, sizes)


def ablation_results(rounds: dict[str, list[float]], runs: int, workers: int, sizes: Sizes) -> list[Result]:
    """Returns rows 1 to 4 of the seconds of every round, by format and part, and by peer."""
    middle = {name: statistics.median(values) for name, values in rounds.items()}
    results = []
    for row, format in enumerate(("float32", *sizes.shorter), start=1):
        floor, training = f"{format}, floor", f"{format}, training"
        note = f"the floor {middle[floor]:.0f} s, training {middle[training]:.0f} s, {workers} runs at a time"
        results.append(ratio(row, rounds[floor], rounds[training], note, {}))
    wall, rest = middle["float32, command"], middle["float32, not training"]
    parts = {f"{format}: {middle[f'{format}, not training']:.1%}" for format in sizes.shorter}
    note = "; ".join([f"{rest * wall:.0f} s of {wall:.0f} s", *sorted(parts)])
    results.append(Result(3, rest, rounds["float32, not training"], note, rounds))
    if sizes.peers:
        results.append(_against_peers(rounds, middle, runs, sizes))
    return results


def _against_peers(
    rounds: dict[str, list[float]], middle: dict[str, float], runs: int, sizes: Sizes
) -> Result:
    """Returns row 4: the fastest peer's loops over the command's seconds."""
    fastest = min(sizes.peers, key=lambda peer: middle[peer])
    commands = [f"{format} {middle[f'{format}, command']:.0f} s" for format in ("float32", *sizes.shorter)]
    loops = [f"{peer} {middle[peer]:.0f} s" for peer in sizes.peers]
    shorter = [
        f"in {format} {middle[fastest] / middle[f'{format}, command']:.2f}" for format in sizes.shorter
    ]
    note = (
        f"{runs} runs of {sizes.epochs} epochs: the command in {', '.join(commands)}; {', '.join(loops)} "
        f"(one epoch of each of {len(KINDS)} depths and kinds, times the runs' epochs; they only train)"
    )
    note = "; ".join([note, *shorter])
    return ratio(4, rounds[fastest], rounds["float32, command"], note, {})


def many_seeds(sizes: Sizes, say: Say) -> list[Result]:
    """Row 5: a small model's seeds stacked, and one after another with all cores.

    Beside them, not in the ratio, are runs side by side with a thread each, as the stacks are: what a stack
    itself gains.
    """
    work = ["-m", "model.hidden_size=64", f"seeds={sizes.seeds}", f"train.epochs={sizes.seed_epochs}"]
    names = {
        "stacked": "stacked",
        "basic": "one after another",
        "workers": "side by side with hydra/launcher=workers",
    }
    seconds: dict[str, list[float]] = {launcher: [] for launcher in names}
    training: dict[str, list[float]] = {launcher: [] for launcher in names}
    for i in range(sizes.seed_repeats):
        for launcher in names:
            say(f"round {i + 1} of {sizes.seed_repeats}: hydra/launcher={launcher}")
            with _scratch() as folder:
                options = [*work, f"hydra/launcher={launcher}", *sizes.lab()]
                seconds[launcher].append(train(*options, folder=folder).wall)
                training[launcher].append(training_seconds(*store.read(folder)))
    words = [
        f"{name} {statistics.median(seconds[key]):.0f} s, of which training "
        f"{statistics.median(training[key]):.0f} s"
        for key, name in names.items()
    ]
    note = (
        f"{sizes.seeds} seeds of {BASE._replace(hidden=64)}, {sizes.seed_epochs} epochs, whole commands: "
        f"{'; '.join(words)}"
    )
    series = seconds | {f"{key}, training alone": values for key, values in training.items()}
    return [ratio(5, seconds["basic"], seconds["stacked"], note, series)]


def beside_a_neighbour(sizes: Sizes, say: Say) -> list[Result]:
    """Row 6: epochs of one run, alone and beside a busy process in turns."""
    seconds: dict[str, list[float]] = {"alone": [], "beside a neighbour": []}
    with Contender("this_lab") as lab:
        lab.turn()
        for i in range(sizes.repeats):
            say(f"round {i + 1} of {sizes.repeats}")
            seconds["alone"].append(lab.turn())
            with Neighbour():
                seconds["beside a neighbour"].append(lab.turn())
    note = (
        f"{BASE}, an epoch: alone {statistics.median(seconds['alone']):.2f} s, "
        f"beside a busy Python process {statistics.median(seconds['beside a neighbour']):.2f} s"
    )
    return [ratio(6, seconds["beside a neighbour"], seconds["alone"], note, seconds)]


COMMANDS = {  # each with its exit code
    "vae-lab --help": 0,
    "vae-lab train --help": 0,
    "vae-lab train --cfg job": 0,
    "vae-lab train model=vea": 2,
    "vae-lab train model.layrs=2": 2,
    "vae-lab train model.layers=deep": 2,
    "vae-lab train model.layers=0": 2,
    "vae-lab train -m model.layers=0,1": 2,
    "vae-lab train sweeps=depth model.layers=0,1": 2,
}


def short_commands(sizes: Sizes, say: Say) -> list[Result]:
    """Row 7: CPU seconds of commands that train nothing."""
    seconds: dict[str, list[float]] = {command: [] for command in COMMANDS}
    with _scratch() as folder:
        for i in range(sizes.repeats):
            say(f"round {i + 1} of {sizes.repeats}")
            for command, code in COMMANDS.items():
                used = vae_lab(*command.split()[1:], folder=folder)
                if used.code != code:
                    raise FailedError(f"{command} gave exit code {used.code}, not {code}:\n{used.printed}")
                seconds[command].append(used.cpu)
    middle = {command: statistics.median(values) for command, values in seconds.items()}
    slowest = max(middle, key=lambda command: middle[command])
    words = [f"{command.removeprefix('vae-lab ')} {value:.2f}" for command, value in middle.items()]
    return [Result(7, middle[slowest], seconds[slowest], "; ".join(words), seconds)]


def comparison(sizes: Sizes, say: Say) -> list[Result]:
    """Row 8: `vae-lab compare` in a store of a thousand runs."""
    with _scratch() as folder:
        say("making a store of 1,000 runs")
        study = many_runs.make(folder, 1000)
        seconds: dict[str, list[float]] = {"compare": [], "its CPU time": []}
        for i in range(sizes.repeats):
            say(f"round {i + 1} of {sizes.repeats}")
            used = vae_lab("compare", study, folder=folder)
            if used.code:
                raise FailedError(f"vae-lab compare {study} gave exit code {used.code}:\n{used.printed}")
            seconds["compare"].append(used.wall)
            seconds["its CPU time"].append(used.cpu)
    note = f"wall time; {statistics.median(seconds['its CPU time']):.2f} s of CPU"
    return [Result(8, statistics.median(seconds["compare"]), seconds["compare"], note, seconds)]


# Rows that are measured together, and the function that measures them.
GROUPS: list[tuple[tuple[int, ...], Callable[[Sizes, Say], list[Result]]]] = [
    ((7,), short_commands),
    ((9,), epochs_side_by_side),
    ((6,), beside_a_neighbour),
    ((8,), comparison),
    ((5,), many_seeds),
    ((1, 2, 3, 4), ten_ablations),
]


def _rounds(running: dict[str, Contender], repeats: int, say: Say) -> dict[str, list[float]]:
    """Returns the seconds of all turns in each of `repeats` rounds; a first round is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in running}
    for i in range(repeats + 1):
        for name, contender in running.items():
            say(f"{f'round {i} of {repeats}' if i else 'warm-up'}: {name}")
            turn = contender.turn()
            if i:
                seconds[name].append(turn)
    return seconds


def _floor(sizes: Sizes) -> Contender:
    return Contender("floor", f"--work={BASE.work()}", f"--device={sizes.device}")


def _peak(floor: Contender) -> float:
    return BASE.work() / floor.turn()


def _loop(module: str, what: Architecture, sizes: Sizes) -> Contender:
    shape = [f"--layers={what.layers}", f"--hidden={what.hidden}", f"--latent={what.latent}"]
    rest = [f"--classes={what.classes}", f"--device={sizes.device}", f"--data={sizes.data}"]
    return Contender(module, *shape, *rest)


def _peer_loop(peer: str, kind: tuple[int, bool], sizes: Sizes) -> Contender:
    layers, conditional = kind
    return _loop(f"with_{peer}", Architecture(layers, classes=CLASSES * conditional), sizes)


def _epoch_of(loop: Contender, *, warm_up: bool) -> float:
    """Returns the seconds of an epoch, after one that is not counted if `warm_up`."""
    if warm_up:
        loop.turn()
    return loop.turn()


def _ablations(sizes: Sizes, format: str) -> tuple[float, list[TrainedRun], int]:
    """Returns the wall seconds of the command, its runs, and how many were trained at a time."""
    with _scratch() as folder:
        options = ["experiments=reference", f"train.epochs={sizes.epochs}", *sizes.lab(format)]
        used = train(*options, folder=folder)
        return used.wall, *store.read(folder)


@contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="vae_lab_benchmark_") as folder:
        yield Path(folder)
