"""Files that are no longer as they were written: flipped bits, cut ends, nothing, something else."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from tests.faults import kept
from tests.faults.bench import DIGITS, SWEEP, VAE, Bench, Command, unclean
from tests.faults.children import Child, Home
from tests.faults.disks import one_message
from tests.faults.injected import AFTER, AWAY, Fault

Damage = Callable[[bytes, random.Random], bytes]
SHORT: Command = ("train", *DIGITS, "train.epochs=1", "evaluation.pictures=false")
MEASURES = ("evaluation=quick", "evaluation.posterior_draws=2")
JUDGED: Command = ("train", *DIGITS, "train.epochs=2", "evaluation.samples=100")


def _flipped(content: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(content))
    return content[:place] + bytes([content[place] ^ (1 << chance.randrange(8))]) + content[place + 1 :]


def _cut(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(1, len(content))]


WAYS: dict[str, Damage] = {
    "a bit flipped": _flipped,
    "cut off": _cut,
    "empty": lambda content, chance: b"",
    "garbage": lambda content, chance: chance.randbytes(len(content)),
}


def checkpoints(
    bench: Bench, rounds: int, commands: Sequence[Command] = (VAE, SWEEP), ways: Sequence[str] = tuple(WAYS)
) -> None:
    """A killed run's checkpoint is damaged: it is named and not used, and the result is what it would be."""
    for way in ways:
        damage, fault = WAYS[way], "a damaged checkpoint"
        for command in commands:
            for _ in range(rounds):
                home = bench.home()
                child = home.start(*command)
                child.says(f"epoch {bench.random.randint(2, 4)}/")
                child.kill()
                files = sorted((home.state / "vae_lab" / "runs").rglob("epoch.pt"))
                told = [] if files else ["there is no checkpoint to damage"]
                for file in files:
                    file.write_bytes(damage(file.read_bytes(), bench.random))
                child = home.start(*command)
                told += unclean(child, 0)
                if "damaged" not in child.err:
                    told.append("the damage is not named")
                # What lost its checkpoint is trained anew, by a run that takes its place in a multirun.
                found = [run for run in kept.read(home.database) if run.status != "KILLED"]
                told += kept.differences(bench.reference(command).kept, found) + kept.left_behind(home.state)
                bench.tally.count(fault, 1, [f"{way}: {each}" for each in told])
                bench.close(home, told)
        bench.say(f"{fault}, {way}")


def snapshots(bench: Bench, rounds: int) -> None:
    """Files of a finished run are damaged: what reads them refuses, with one message."""
    for artifact in ("config.yaml", "model/model.pt"):
        for way, damage in WAYS.items():
            fault = f"a damaged {artifact}"
            for _ in range(rounds):
                home = bench.home()
                told = unclean(home.start(*SHORT), 0)
                [file] = home.work.glob(f"mlflow_artifacts/*/artifacts/{artifact}")
                file.write_bytes(damage(file.read_bytes(), bench.random))
                child = home.start(
                    "evaluate", file.relative_to(home.work / "mlflow_artifacts").parts[0], *MEASURES
                )
                told += unclean(child, 1)
                if str(file) not in child.err and artifact not in child.err:
                    told.append(f"the file is not named: {child.err.strip()[-300:]}")
                bench.tally.count(fault, 1, [f"{way}: {each}" for each in told])
                bench.close(home, told)
            bench.say(f"{fault}, {way}")


def spools(bench: Bench, rounds: int) -> None:
    """A run dies while its records wait for a store that is away, and some are damaged before it goes on."""
    fault = "a damaged spool"
    for way, damage in WAYS.items():
        for many in (False, True):
            for _ in range(rounds):
                home = bench.home()
                away = Fault(
                    "mlflow.MlflowClient.log_batch", bench.random.randint(2, 6), action=AWAY, amount=999
                )
                death = Fault("vae_lab.tracking.spool.Spool.append", bench.random.randint(2, 12), AFTER)
                child = home.start(*VAE, faults=[away, death])
                told = [] if child.code() == -9 else [f"exit code {child.code()} in place of SIGKILL"]
                files = sorted((home.state / "vae_lab" / "spool").rglob("*.record"))
                for file in files if many else bench.random.sample(files, min(len(files), 1)):
                    file.write_bytes(damage(file.read_bytes(), bench.random))
                told += _survives_a_damaged_spool(bench, home)
                what = f"{'all' if many else 'one'} of {len(files)}, {way}"
                bench.tally.count(fault, 1, [f"{what}: {line}" for line in told])
                bench.close(home, told)
        bench.say(f"{fault}, {way}")


def _survives_a_damaged_spool(bench: Bench, home: Home) -> list[str]:
    """Each damaged record is named, and nothing else is missing: never a traceback, never a wrong value."""
    child: Child = home.start(*VAE)
    told = one_message(child)
    if "damaged" not in child.err:
        told.append("the damage is not named")
    for run in kept.read(home.database):
        (expected,) = [same for same in bench.reference(VAE).kept if same.name == run.name]
        for key, points in run.metrics.items():
            if (
                not {(step, value) for step, value, _ in points}
                <= {(step, value) for step, value, _ in expected.metrics.get(key, [])}
                and key not in kept.CLOCKS
            ):
                told.append(f"{key} has a wrong value")
    return told


def classifiers(bench: Bench, rounds: int) -> None:
    """The cached classifier is damaged: it is named and trained again, and judges as it did."""
    fault = "a damaged classifier cache"
    expected = bench.reference(JUDGED)
    for way, damage in WAYS.items():
        for _ in range(rounds):
            home = bench.home()
            [file] = bench.cache.glob("vae_lab/classifiers/*.pt")
            file.write_bytes(damage(file.read_bytes(), bench.random))
            child = home.start(*JUDGED)
            told = unclean(child, 0)
            if "damaged" not in child.err:
                told.append("the damage is not named")
            told += kept.differences(expected.kept, kept.read(home.database))
            bench.tally.count(fault, 1, [f"{way}: {each}" for each in told])
            bench.close(home, told)
        bench.say(f"{fault}, {way}")
