"""A team's server: killed under writers, and what its passwords cost: `python -m benchmarks.cluster.server`.

Writers are processes that record as runs do, to `vae-lab server` with users on PostgreSQL, or on SQLite where
there is no PostgreSQL. The server is killed and started again under them; then every record is counted. What
passwords cost is measured against the same server without them, in turns.
"""

from __future__ import annotations

import argparse
import os
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

from benchmarks.cluster import postgres
from benchmarks.processes import FailedError

VAE_LAB = (sys.executable, "-c", "from vae_lab.cli import main; main()")
ITSELF = (sys.executable, "-m", "benchmarks.cluster.server")
CURVE = 20  # values of each record's curve
BETWEEN = (1.0, 6.0)  # seconds that a server lives
AWAY = 1.0  # seconds that it is gone
TURNS, CALLS = 5, 40  # of log_batch at each server
DATABASES = ("kills", "guarded", "open")


class Served:
    """`vae-lab server` with two workers over a database.

    Args:
        folder: Its own.
        variables: Its environment: the administrator's password, and the database with its own.
        options: Of the command.
    """

    def __init__(self, folder: Path, variables: Mapping[str, str], *options: str) -> None:
        self.port = postgres.free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self._command = [*VAE_LAB, "server", "--port", str(self.port), "--folder", str(folder), *options]
        self._variables = {**os.environ, **variables}
        self.start()

    def start(self) -> None:
        """Starts it and waits until it answers."""
        self._process = subprocess.Popen(
            self._command, env=self._variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        if not any("Ctrl-C" in line for line in self._process.stdout):
            raise FailedError(f"the server did not start: {self._process.communicate()[1]}")

    def kill(self) -> None:
        """Ends the server and its workers at once, whatever they are doing."""
        pid = self._process.pid
        (group,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        os.killpg(int(group), signal.SIGKILL)
        self._process.communicate()

    def stop(self) -> None:
        """Ends it as its user does."""
        if self._process.poll() is None:
            self._process.terminate()
        self._process.communicate()


def lacking() -> str:
    """Returns why this cannot be shown here; nothing where it can."""
    return "" if Path("/proc").is_dir() else "it looks for processes in /proc"


def prove(folder: Path, writers: int = 8, records: int = 100, kills: int = 10) -> str:
    """Kills a server under writers, measures what passwords cost, and returns what was seen.

    Args:
        folder: An empty one.
        writers: Processes that record.
        records: Of each.
        kills: Of the server.

    Raises:
        FailedError: A record is missing or doubled, or passwords cost more than as much again.
    """
    password = secrets.token_urlsafe(18)
    users = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": password}
    with _databases(folder, {"MLFLOW_AUTH_ADMIN_PASSWORD": password}) as (kind, variables):
        seen = _killed(folder, users, variables["kills"], writers, records, kills)
        guarded, plain = _costs(folder, users, variables)
    ratio = median(guarded) / median(plain)
    seen += (
        f"; log_batch of {CURVE} values with passwords {1e3 * median(guarded):.0f} ms, without "
        f"{1e3 * median(plain):.0f} ms ({ratio:.2f} times), on {kind}"
    )
    if ratio > 2:
        raise FailedError(seen)
    return seen


@contextmanager
def _databases(folder: Path, first: Mapping[str, str]) -> Iterator[tuple[str, dict[str, dict[str, str]]]]:
    """Yields what the database is, and for each of `DATABASES` the environment of a server over it."""
    with ExitStack() as stack:
        if postgres.programs() is None:
            yield "SQLite", {name: dict(first) for name in DATABASES}
            return
        database = stack.enter_context(postgres.running(folder / "postgres", *DATABASES))
        own = {"PGPASSWORD": database.password}
        yield (
            "PostgreSQL",
            {
                name: {**first, **own, "MLFLOW_BACKEND_STORE_URI": database.address(name)}
                for name in DATABASES
            },
        )


def _killed(
    folder: Path,
    users: Mapping[str, str],
    variables: Mapping[str, str],
    writers: int,
    records: int,
    kills: int,
) -> str:
    """Kills the server at random moments while writers record, and counts what is there in the end."""
    server, moments = Served(folder / "kills", variables), random.Random(0)
    try:
        environment = {**os.environ, **users, "XDG_STATE_HOME": str(folder / "state")}
        command = [
            sys.executable,
            "-m",
            "benchmarks.cluster.server",
            "--record",
            server.address,
            str(records),
        ]
        processes = [subprocess.Popen(command, env=environment) for _ in range(writers)]
        count = 0
        while count < kills and any(process.poll() is None for process in processes):
            time.sleep(moments.uniform(*BETWEEN))
            server.kill()
            count += 1
            time.sleep(AWAY)
            server.start()
        failed = sum(process.wait() != 0 for process in processes)
        subprocess.run([*VAE_LAB, "sync"], env=environment, check=False, stdout=subprocess.DEVNULL)
        lost, doubled = _count(server.address, environment, writers * records)
    finally:
        server.stop()
    seen = (
        f"{writers} writers, {writers * records} records, {count} kills of the server: "
        f"{failed} writers failed, {lost} records lost, {doubled} doubled"
    )
    if failed or lost or doubled:
        raise FailedError(seen)
    return seen


def _count(address: str, environment: Mapping[str, str], expected: int) -> tuple[int, int]:
    """Returns how many values of the runs at a server are missing, and how many are there twice."""
    command = [*ITSELF, "--count", address]
    counted = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    there, different = map(int, counted.split())
    return expected - different, there - different


def _costs(
    folder: Path, users: Mapping[str, str], variables: Mapping[str, Mapping[str, str]]
) -> tuple[list[float], list[float]]:
    """Returns the seconds of each log_batch at a server with passwords, and at one without, in turns."""
    seconds: dict[str, list[float]] = {"guarded": [], "open": []}
    with ExitStack() as stack:
        servers = {
            name: Served(folder / name, variables[name], *(["--without-passwords"] if name == "open" else []))
            for name in seconds
        }
        for server in servers.values():
            stack.callback(server.stop)
        for _ in range(TURNS):
            for name, server in servers.items():
                command = [*ITSELF, "--time", server.address]
                timed = subprocess.run(
                    command, env={**os.environ, **users}, check=True, capture_output=True, text=True
                ).stdout
                seconds[name] += map(float, timed.split())
    return seconds["guarded"], seconds["open"]


def _record(address: str, records: int) -> None:
    """Records as a run does: metrics, a curve and a tag each, now and then a picture."""
    import numpy as np

    from vae_lab.tracking import RUN, Store

    recorder = Store.open(address, wait=300).start("cluster", f"writer {os.getpid()}", kind=RUN)
    for number in range(records):
        curve = {step: step / 7 for step in _steps(number)}
        recorder.log({"loss": 1 / (number + 3)}, number, ("step_loss", curve))
        if number % 20 == 0:
            recorder.image("samples", np.full((4, 4, 1), number % 256, dtype=np.uint8), number)
        time.sleep(0.2)
    recorder.finish("FINISHED")


def _print_count(address: str) -> None:
    """Prints how many records of finished runs a server has, and how many different ones."""
    from vae_lab.tracking import KIND, RUN, Store

    store, there, different = Store.open(address), 0, 0
    for run in store.tagged(KIND, RUN):
        if run.status != "FINISHED":
            continue
        losses = store.client.get_metric_history(run.run_id, "loss")
        curve = {point.step for point in store.client.get_metric_history(run.run_id, "step_loss")}
        whole = {point.step for point in losses if curve >= _steps(point.step)}
        there, different = there + len(losses), different + len(whole)
    print(there, different)


def _steps(number: int) -> set[int]:
    """Returns the steps of the curve that goes with a record."""
    return {*range(number * CURVE, (number + 1) * CURVE)}


def _print_times(address: str) -> None:
    """Prints the seconds of each log_batch at a server."""
    from mlflow.entities import Metric

    from vae_lab.tracking import Store

    client = Store.open(address).client
    experiment = client.get_experiment_by_name("times")
    number = client.create_experiment("times") if experiment is None else experiment.experiment_id
    run = client.create_run(number).info.run_id
    for call in range(CALLS + 1):
        values = [Metric(f"metric {i}", i / 7, int(time.time() * 1e3), call) for i in range(CURVE)]
        began = time.perf_counter()
        client.log_batch(run, values)
        if call:  # the first one opens the connection
            print(time.perf_counter() - began)


def main() -> None:
    """Shows both, or is one of the processes that take part."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster.server", description=__doc__)
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--records", type=int, default=100, help="of each writer")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--record", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--count", help=argparse.SUPPRESS)
    parser.add_argument("--time", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.record:
        _record(chosen.record[0], int(chosen.record[1]))
    elif chosen.count:
        _print_count(chosen.count)
    elif chosen.time:
        _print_times(chosen.time)
    else:
        with tempfile.TemporaryDirectory(prefix="vae_lab_cluster_") as folder:
            print(prove(Path(folder), chosen.writers, chosen.records, chosen.kills))


if __name__ == "__main__":
    main()
