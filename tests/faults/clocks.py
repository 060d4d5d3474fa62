"""Clocks that jump while a run is under way, or between its death and its going on."""

from __future__ import annotations

from tests.faults.bench import VAE, Bench
from tests.faults.injected import AFTER, CLOCK, Fault

HOUR = 3600.0


def jumps(bench: Bench, rounds: int) -> None:
    """The clock is set forward or back by an hour in the middle of a run, which may be killed after it."""
    for name, seconds in (("forward", HOUR), ("back", -HOUR)):
        for killed in (False, True):
            fault = f"a clock set {name} by an hour{', then SIGKILL' if killed else ''}"
            for _ in range(rounds):
                at = bench.random.randint(2, 5)
                home = bench.home()
                jump = Fault("vae_lab.tracking.Recorder.log", at, AFTER, action=CLOCK, amount=seconds)
                child = home.start(*VAE, faults=[jump])
                if killed:
                    child.says(f"epoch {at + 3}/")
                    child.kill()
                    told = bench.finished(home, VAE)
                else:
                    code = child.code()
                    told = [f"exit code {code}: {child.err[-300:]}"] if code else bench.compared(home, VAE)
                bench.tally.count(fault, 1, told)
                bench.close(home, told)
            bench.say(f"{fault}: {rounds} of {rounds}")


def back_between(bench: Bench, rounds: int) -> None:
    """A killed run goes on when the clock has been set back."""
    fault = "a clock set back between SIGKILL and going on"
    for _ in range(rounds):
        home = bench.home()
        child = home.start(*VAE)
        child.says(f"epoch {bench.random.randint(2, 5)}/")
        child.kill()
        # From its start: the first call of the clock's reader that a resumed run makes.
        jump = Fault("vae_lab.cli.train.run_hydra", action=CLOCK, amount=-HOUR)
        child = home.start(*VAE, faults=[jump])
        code = child.code()
        told = [f"exit code {code}: {child.err[-300:]}"] if code else bench.compared(home, VAE)
        bench.tally.count(fault, 1, told)
        bench.close(home, told)
    bench.say(f"{fault}: {rounds} of {rounds}")
