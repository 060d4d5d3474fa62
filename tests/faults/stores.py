"""Stores in use by several processes, stores that are killed while they are made, servers that go away."""

from __future__ import annotations

import signal
import time
from dataclasses import replace

from tests.faults import kept
from tests.faults.bench import DIGITS, Bench, Command, unclean
from tests.faults.kept import Kept
from tests.server.conftest import Server

EIGHT = 8
SHORT: Command = ("train", *DIGITS, "train.epochs=3")
WIDE: Command = ("train", "-m", *DIGITS, "train.epochs=2", "model.layers=2,3")
LONG: Command = ("train", *DIGITS, "train.epochs=60", "evaluation.columns=3")


def eight_at_once(bench: Bench, rounds: int, *, killed: int = 0) -> None:
    """Eight processes use a fresh store for the first time in the same moment; some of them are killed."""
    fault = f"eight processes on a fresh store{f', {killed} of them killed' if killed else ''}"
    commands = [(*SHORT, f"seed={place}") for place in range(6)]
    commands += [(*WIDE, f"seed={place}") for place in (6, 7)]
    expected = [run for command in commands for run in bench.reference(command).kept]
    for _ in range(rounds):
        home = bench.home(fresh=False)
        at = time.monotonic() + 1
        children = [home.start(*command, at=at) for command in commands]
        told = []
        again = set()
        for place in bench.random.sample(range(EIGHT), killed):
            children[place].ended(max(0, at - time.monotonic()) + bench.random.uniform(0, 2))
            if children[place].kill():
                again.add(place)
        for place, child in enumerate(children):
            told += [] if place in again else unclean(child, 0)
        for place in again:
            told += unclean(home.start(*commands[place]), 0)
        told += kept.differences(_told_apart(expected), _told_apart(kept.read(home.database)))
        told += kept.left_behind(home.state)
        bench.tally.count(fault, len(again) if killed else EIGHT, told)
        bench.close(home, told)
        bench.say(f"{fault}: {EIGHT}")


def _told_apart(runs: list[Kept]) -> list[Kept]:
    """Runs of several commands have the same names."""
    return [
        replace(run, name=f"{run.name} {run.tags.get('vae_lab.command')} seed {run.params.get('seed')}")
        for run in runs
    ]


def killed_while_made(bench: Bench, kills: int) -> None:
    """The first command of a folder is killed while it makes the store."""
    fault = "SIGKILL while a store is made"
    expected = bench.reference(SHORT)
    for done in range(kills):
        home = bench.home(fresh=False)
        begin = time.monotonic()
        child = home.start(*SHORT)
        while not any(home.work.iterdir()) and not child.ended(0.002):
            pass
        child.ended(bench.random.uniform(0, 2.5))
        killed = int(child.kill())
        told = unclean(home.start(*SHORT), 0)
        told += told or kept.differences(expected.kept, kept.read(home.database))
        told = [f"after {time.monotonic() - begin:.1f} s: {each}" for each in told]
        bench.tally.count(fault, killed, told)
        bench.close(home, told)
        bench.say(f"{fault}: {done + 1} of {kills}")


def server_killed(bench: Bench, rounds: int) -> None:
    """A real server dies and comes back under two runs, one of which is killed too and goes on."""
    fault, both = "a server killed and restarted under two runs", "the same, a run killed meanwhile"
    commands = [(*LONG, f"seed={place}") for place in range(2)]
    expected = [run for command in commands for run in bench.reference(command).kept]
    for number in range(rounds):
        home = bench.home(fresh=False)
        where = home.folder / "server"
        where.mkdir()
        server = Server(where)
        server.start()
        try:
            given = [(*command, f"tracking.uri={server.address}") for command in commands]
            children = [home.start(*command) for command in given]
            for child in children:
                child.says("epoch 1/")
            time.sleep(bench.random.uniform(0, 1))
            server.kill()
            time.sleep(bench.random.uniform(0, 1))
            killed = number % 2 == 1 and children[0].kill()
            server.start()
            told = [each for child in children[killed:] for each in unclean(child, 0)]
            if killed:
                told += unclean(home.start(*given[0]), 0)
            told += unclean(home.start("sync", "--uri", server.address), 0)
            found = kept.read(where / "server.db", where / "artifacts")
            told += kept.differences(_told_apart(expected), _told_apart(found))
            told += kept.left_behind(home.state)
        finally:
            server.kill()
        bench.tally.count(both if killed else fault, 1, told)
        bench.close(home, told)
        bench.say(f"{fault}: {number + 1} of {rounds}")


def server_stopped(bench: Bench, rounds: int) -> None:
    """A server stands still for a while under a run."""
    fault = "a server stopped (SIGSTOP) and continued under a run"
    command = (*LONG, "seed=0")
    for number in range(rounds):
        home = bench.home(fresh=False)
        where = home.folder / "server"
        where.mkdir()
        server = Server(where)
        server.start()
        try:
            child = home.start(*command, f"tracking.uri={server.address}")
            child.says("epoch 2/")
            server.signal(signal.SIGSTOP)
            time.sleep(bench.random.uniform(1, 4))
            server.signal(signal.SIGCONT)
            told = unclean(child, 0)
            told += unclean(home.start("sync", "--uri", server.address), 0)
            found = kept.read(where / "server.db", where / "artifacts")
            told += kept.differences(bench.reference(command).kept, found)
            told += kept.left_behind(home.state)
        finally:
            server.kill()
        bench.tally.count(fault, 1, told)
        bench.close(home, told)
        bench.say(f"{fault}: {number + 1} of {rounds}")
