"""Every kind of fault by its name on the command line."""

from __future__ import annotations

from collections.abc import Callable

from tests.faults import clocks, damage, disks, kills, stops, stores
from tests.faults.bench import CVAE, STACK, SWEEP, VAE, Bench


def _random(bench: Bench, number: int, rounds: int) -> None:
    for command, share in ((VAE, 0.4), (CVAE, 0.2), (SWEEP, 0.25), (STACK, 0.15)):
        kills.at_random(bench, command, max(round(number * share), 1))


def _windows(bench: Bench, number: int, rounds: int) -> None:
    kills.in_windows(bench, VAE, kills.WINDOWS, rounds)
    kills.in_windows(bench, SWEEP, kills.WINDOWS | kills.PARENTS, rounds)
    kills.in_spool(bench, VAE, rounds)
    kills.in_spool(bench, SWEEP, rounds)


def _stops(bench: Bench, number: int, rounds: int) -> None:
    stops.interrupted(bench, rounds)


def _stands(bench: Bench, number: int, rounds: int) -> None:
    stops.stopped(bench, rounds)
    stops.killed_and_touched(bench, rounds)


def _server(bench: Bench, number: int, rounds: int) -> None:
    stores.server_killed(bench, 2 * rounds)
    stores.server_stopped(bench, rounds)


def _eight(bench: Bench, number: int, rounds: int) -> None:
    stores.eight_at_once(bench, rounds)
    stores.eight_at_once(bench, rounds, killed=4)
    stores.killed_while_made(bench, 5 * rounds)


def _disks(bench: Bench, number: int, rounds: int) -> None:
    disks.full(bench, 5 * rounds)
    disks.read_only(bench, rounds)
    disks.no_growth(bench, 3 * rounds)


def _clock(bench: Bench, number: int, rounds: int) -> None:
    clocks.jumps(bench, rounds)
    clocks.back_between(bench, rounds)


def _damage(bench: Bench, number: int, rounds: int) -> None:
    damage.checkpoints(bench, rounds)
    damage.snapshots(bench, 1)
    damage.spools(bench, 1)
    damage.classifiers(bench, 1)


KINDS: dict[str, Callable[[Bench, int, int], None]] = {
    "kills": _random,
    "windows": _windows,
    "stops": _stops,
    "stands": _stands,
    "server": _server,
    "stores": _eight,
    "disks": _disks,
    "clocks": _clock,
    "damage": _damage,
}
