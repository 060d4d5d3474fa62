"""Requests to stop, and processes that stand still while others work."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from dataclasses import replace

from tests.faults import kept
from tests.faults.bench import SWEEP, VAE, Bench, Command, unclean
from tests.faults.kept import Kept

INTERRUPTED = 130
WAYS: dict[str, tuple[signal.Signals, ...]] = {
    "Ctrl-C": (signal.SIGINT,),
    "SIGTERM": (signal.SIGTERM,),
    "SIGHUP": (signal.SIGHUP,),
    "Ctrl-C twice": (signal.SIGINT, signal.SIGINT),
    "SIGTERM twice": (signal.SIGTERM, signal.SIGTERM),
}


def interrupted(
    bench: Bench, rounds: int, commands: Sequence[Command] = (VAE, SWEEP), ways: Sequence[str] = tuple(WAYS)
) -> None:
    """A run or multirun is asked to stop, once or twice, and the command is given again."""
    for command in commands:
        for way in ways:
            for _ in range(rounds):
                home = bench.home()
                child = home.start(*command)
                child.says(f"epoch {bench.random.randint(1, 3)}/")
                for number in WAYS[way]:
                    child.signal(number)
                    time.sleep(bench.random.uniform(0, 0.01))
                told = unclean(child, INTERRUPTED)
                running = [each for each in kept.statuses(home.database).values() if each == "RUNNING"]
                told += [f"{len(running)} runs stay RUNNING"] if running else []
                told += bench.finished(home, command)
                bench.tally.count(way, 1, told)
                bench.close(home, told)
            bench.say(f"{way}: {rounds} of {rounds}")


def killed_and_touched(bench: Bench, rounds: int) -> None:
    """A multirun is killed; `status` marks what was under way, and `compare`, which only reads, does not."""
    fault = "a dead study marked by the next command"
    for looks in (("compare", "faults"), ("status", "faults")) * rounds:
        home = bench.home()
        child = home.start(*SWEEP)
        child.says("epoch 3/")
        child.kill()
        before = kept.statuses(home.database)
        told = unclean(home.start(*looks), 0)
        if looks[0] == "compare":
            told += ["compare has written"] if kept.statuses(home.database) != before else []
        else:
            told += [
                f"{run.name} is {run.status} with vae_lab.error {run.tags.get('vae_lab.error')}"
                for run in kept.read(home.database)
                if run.status == "RUNNING" or (run.status == "KILLED" and not run.tags.get("vae_lab.error"))
            ]
        told += bench.finished(home, SWEEP)
        bench.tally.count(fault, 1, told)
        bench.close(home, told)
    bench.say(f"{fault}: {rounds} of {rounds}")


OTHERS: dict[Command, Command] = {
    VAE: (*VAE, "seed=1", "train.epochs=1"),
    SWEEP: tuple("seed=2,3" if each == "seed=0,1" else each for each in SWEEP),
}


def stopped(bench: Bench, rounds: int, commands: Sequence[Command] = (VAE, SWEEP)) -> None:
    """A process stands still; other commands touch its study, and it goes on."""
    for command in commands:
        other = OTHERS[command]
        fault = "SIGSTOP, others work meanwhile, SIGCONT"
        expected = [*bench.reference(command).kept, *bench.reference(other).kept]
        for _ in range(rounds):
            home = bench.home()
            child = home.start(*command)
            child.says(f"epoch {bench.random.randint(1, 3)}/")
            time.sleep(bench.random.uniform(0, 0.2))
            child.signal(signal.SIGSTOP)
            while kept.locked(home.database):  # in the middle of a transaction it would hold up everybody
                child.signal(signal.SIGCONT)
                time.sleep(0.01)
                child.signal(signal.SIGSTOP)
            before = kept.statuses(home.database)
            told = unclean(home.start("compare"), 0)
            told += unclean(home.start(*other), 0)
            after = kept.statuses(home.database)
            told += [
                f"run {run_id} was {was}, is {after[run_id]}"
                for run_id, was in before.items()
                if after[run_id] != was
            ]
            child.signal(signal.SIGCONT)
            told += unclean(child, 0)
            told += kept.differences(_renamed(expected), _renamed(kept.read(home.database)))
            told += kept.left_behind(home.state)
            bench.tally.count(fault, 1, told)
            bench.close(home, told)
        bench.say(f"{fault}: {rounds} of {rounds}")


def _renamed(runs: list[Kept]) -> list[Kept]:
    """Both parents are called after what varies; tell them by their commands."""
    return [replace(run, name=run.tags["vae_lab.command"]) if run.kind == "sweep" else run for run in runs]
