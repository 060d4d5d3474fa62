"""SIGKILL at random moments and at chosen calls, over runs and multiruns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tests.faults import kept
from tests.faults.bench import CVAE, PAIR, STACK, SWEEP, VAE, Bench, Command
from tests.faults.children import Home
from tests.faults.injected import AFTER, AWAY, BEFORE, MIDDLE, Fault

NAMES = {
    VAE: "a run",
    CVAE: "a CVAE with measures",
    SWEEP: "a multirun of 4 in 2 threads",
    PAIR: "a multirun of 2 in 2 threads",
    STACK: "a stack of 4",
}


class Window(NamedTuple):
    """A place in the code to die at."""

    target: str
    moment: str
    only: str = ""
    last: bool = False  # at its last call, else at any


WINDOWS: dict[str, tuple[Window, ...]] = {
    "while a checkpoint is written": (
        Window("torch.save", BEFORE),
        Window("os.fsync", MIDDLE, "epoch.pt"),
        Window("os.fsync", AFTER, "epoch.pt"),
        Window("os.replace", BEFORE, "epoch.pt"),
    ),
    "between a checkpoint and its record": (
        Window("os.replace", AFTER, "epoch.pt"),
        Window("vae_lab.tracking.Recorder.log", BEFORE),
        Window("vae_lab.tracking.Recorder.log", AFTER),
    ),
    "inside a call of MLflow": (
        Window("mlflow.MlflowClient.log_batch", BEFORE),
        Window("mlflow.MlflowClient.log_batch", AFTER),
        Window("sqlalchemy.engine.default.DefaultDialect.do_commit", BEFORE),
        Window("sqlalchemy.engine.default.DefaultDialect.do_commit", AFTER),
        Window("shutil.copyfileobj", MIDDLE),
        Window("mlflow.MlflowClient.log_artifact", AFTER),
    ),
    "while a record begins": (
        Window("mlflow.MlflowClient.create_run", BEFORE),
        Window("mlflow.MlflowClient.create_run", AFTER),
        Window("mlflow.MlflowClient.log_inputs", BEFORE),
        Window("mlflow.MlflowClient.log_inputs", AFTER),
    ),
    "among the final artifacts": (
        Window("vae_lab.jobs.runs.learner.write_artifacts", BEFORE),
        Window("vae_lab.jobs.runs.learner.write_artifacts", AFTER),
        Window("mlflow.MlflowClient.log_artifact", BEFORE, "model.pt"),
        Window("mlflow.MlflowClient.log_artifact", BEFORE, "figures"),
        Window("mlflow.MlflowClient.log_artifact", AFTER, "figures"),
        Window("mlflow.MlflowClient.set_terminated", BEFORE),
        Window("mlflow.MlflowClient.set_terminated", AFTER),
    ),
}
PARENTS: dict[str, tuple[Window, ...]] = {
    "at the parent's tables": (
        Window("vae_lab.jobs.lines.multirun.conclude", BEFORE),
        Window("vae_lab.report.views.write_views", BEFORE),
        Window("vae_lab.report.views.write_views", AFTER),
        Window("vae_lab.report.page.rendering.write", AFTER),
        Window("mlflow.MlflowClient.set_terminated", BEFORE, last=True),
        Window("mlflow.MlflowClient.set_terminated", AFTER, last=True),
    ),
}


# While the store is away, so that records wait, and while they are delivered.
SPOOL = (
    Window("os.fsync", MIDDLE, ".record"),
    Window("os.replace", BEFORE, ".record"),
    Window("os.replace", AFTER, ".record"),
    Window("vae_lab.tracking.spool.Spool.remove", BEFORE),
    Window("vae_lab.tracking.spool.Spool.remove", AFTER),
)


def targets() -> list[tuple[str, str]]:
    """Every (target, only) of the windows."""
    windows = [each for group in (WINDOWS, PARENTS) for windows in group.values() for each in windows]
    return list(dict.fromkeys((each.target, each.only) for each in windows))


def at_random(bench: Bench, command: Command, kills: int) -> None:
    """Kills at moments that are uniform over what is left of the command."""
    fault = f"SIGKILL at a random moment of {NAMES[command]}"
    reference = bench.reference(command, targets())
    done = 0
    while done < kills:
        home, killed = bench.home(), 0
        for _ in range(min(bench.random.choice((1, 2, 3, 4)), kills - done)):
            share = 1 - 0.8 * kept.epochs(home.database) / reference.epochs
            child = home.start(*command)
            child.ended(bench.random.uniform(0, max(share, 0.1) * reference.seconds))
            if not child.kill():
                break
            killed += 1
            if bench.ended(home, command):  # it was at its end; given again, a multirun makes a new record
                break
        done += _survived(bench, fault, home, command, killed)
        bench.say(f"{fault}: {done} of {kills}")


def in_windows(bench: Bench, command: Command, group: dict[str, tuple[Window, ...]], rounds: int) -> None:
    """Kills at calls that chance chooses among those that the undisturbed command makes."""
    reference = bench.reference(command, targets())
    for name, windows in group.items():
        for window in windows:
            fault = f"SIGKILL {name}"
            calls = reference.calls.get(f"{window.target} {window.only}", 0)
            if not calls:
                bench.tally.count(fault, 0, [f"{window.target} {window.only}: is never called"])
                continue
            for call in _calls(bench, window, calls, rounds):
                home = bench.home()
                child = home.start(*command, faults=[Fault(window.target, call, window.moment, window.only)])
                killed = int(child.code() == -9)
                where = f"{NAMES[command]}, {window.moment} call {call} of {window.target} {window.only}"
                _survived(bench, fault, home, command, killed, where)
            bench.say(f"{fault}, {NAMES[command]}: {window.moment} {window.target} {window.only}")


def in_spool(bench: Bench, command: Command, rounds: int) -> None:
    """Kills while records wait for a store that is away, or while it gets them when it is back."""
    fault = "SIGKILL while records wait"
    for window in SPOOL:
        for _ in range(rounds):
            home, call = bench.home(), bench.random.randint(1, 6)
            since = bench.random.randint(2, 8)
            away = Fault("mlflow.MlflowClient.log_batch", since, action=AWAY, amount=3)
            child = home.start(
                *command, faults=[away, Fault(window.target, call, window.moment, window.only)]
            )
            killed = int(child.code() == -9)
            where = f"away since call {since}, {window.moment} call {call} of {window.target}"
            _survived(bench, fault, home, command, killed, where)
        bench.say(f"{fault}, {NAMES[command]}: {window.moment} {window.target}")


def in_a_row(bench: Bench, command: Command, windows: Sequence[Window]) -> None:
    """Kills one command at one window after the other."""
    reference = bench.reference(command, targets())
    home, killed, places = bench.home(), 0, []
    for window in windows:
        calls = reference.calls[f"{window.target} {window.only}"]
        call = calls if window.last else bench.random.randint(1, max(1, calls // (2 * len(windows))))
        child = home.start(*command, faults=[Fault(window.target, call, window.moment, window.only)])
        killed += child.code() == -9
        places.append(f"{window.moment} call {call} of {window.target} {window.only}")
    fault = f"SIGKILL at chosen calls of {NAMES[command]}"
    _survived(bench, fault, home, command, killed, ", ".join(places))


def _calls(bench: Bench, window: Window, calls: int, rounds: int) -> Iterator[int]:
    if window.last:
        yield calls
        return
    yield from bench.random.sample(range(1, calls + 1), min(rounds, calls))


def _survived(bench: Bench, fault: str, home: Home, command: Command, killed: int, where: str = "") -> int:
    """Goes on to the end and counts; gives the number of kills."""
    note = ""
    if not (told := bench.given_again(home, command)):
        told = bench.compared(home, command)
        if told and command == STACK:  # sums over a stack may be rounded otherwise
            note, told = "within a relative 1e-5", bench.compared(home, command, exact=False)
    bench.tally.count(fault, killed, [f"{where} {each}".strip() for each in told], note)
    bench.close(home, told)
    return killed
