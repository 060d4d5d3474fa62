"""A real MLflow server that is killed, started again, stopped and continued under the runs it keeps."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import SMALL
from tests.server.conftest import Server
from vae_lab import tracking
from vae_lab.cli.sync import deliver
from vae_lab.tracking import Recorder, Store, StoredRun
from vae_lab.tracking.spool import backlogs

Lab = Callable[..., tuple[int, str, str]]
VAE_LAB = (sys.executable, "-c", "from vae_lab.cli import main; main()")
CURVE = 5  # values an epoch of the curve that `record_epochs` writes


def record_epochs(recorder: Recorder, epochs: range, seconds: float = 0.0) -> None:
    """The record of some epochs, which says by its values where it belongs."""
    for epoch in epochs:
        first = epoch * CURVE
        curve = {i: i / 7 for i in range(first, first + CURVE)}
        recorder.log({"loss": 1 / (epoch + 3)}, epoch, ("step_loss", curve))
        recorder.tag({"last": str(epoch)})
        if epoch % 10 == 0:
            recorder.image("samples", np.full((4, 4, 1), epoch % 256, dtype=np.uint8), epoch)
        time.sleep(seconds)


def assert_complete(store: Store, run_id: str, epochs: int) -> None:
    """The run has what `record_epochs` writes: each point once and in order, each picture once."""
    losses = store.client.get_metric_history(run_id, "loss")
    assert [(point.step, point.value) for point in losses] == [(i, 1 / (i + 3)) for i in range(epochs)]
    curve = store.client.get_metric_history(run_id, "step_loss")
    assert [(point.step, point.value) for point in curve] == [(i, i / 7) for i in range(epochs * CURVE)]
    assert store.record(run_id).tags["last"] == str(epochs - 1)
    names = [file.path for file in store.client.list_artifacts(run_id, "images")]
    full = [int(name.split("+")[2]) for name in names if name.endswith(".png")]
    assert sorted(full) == list(range(0, epochs, 10))


def test_a_server_killed_and_restarted_under_load_gets_every_record_once_and_in_order(
    mlflow_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store.open(mlflow_server.address)
    recorders = [store.start("lab", f"run {i}", kind=tracking.RUN) for i in range(2)]
    over, epochs = threading.Event(), [0, 0]

    def train(place: int) -> None:
        while not over.is_set():
            record_epochs(recorders[place], range(epochs[place], epochs[place] + 10), seconds=0.1)
            epochs[place] += 10

    runs = [threading.Thread(target=train, args=(place,)) for place in range(2)]
    for thread in runs:
        thread.start()
    for _ in range(2):
        time.sleep(1)
        mlflow_server.kill()
        mlflow_server.start()
        while store.courier.away:
            time.sleep(0.05)
    over.set()
    for thread in runs:
        thread.join()
    for recorder, count in zip(recorders, epochs, strict=True):
        recorder.finish("FINISHED")
        assert store.record(recorder.run_id).status == "FINISHED"
        assert_complete(store, recorder.run_id, count)
    messages = [record.message for record in caplog.records]
    assert sum("takes no records" in line for line in messages) == 2
    assert sum("is back" in line for line in messages) == 2
    assert list(tracking.spool_folder(store.uri).glob("*/*.record")) == []


def test_a_server_that_stands_still_holds_up_no_run_and_gets_every_record_once(
    mlflow_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    store = Store.open(mlflow_server.address)
    recorder = store.start("lab", "run", kind=tracking.RUN)
    record_epochs(recorder, range(5))
    mlflow_server.signal(signal.SIGSTOP)
    begin = time.monotonic()
    record_epochs(recorder, range(5, 60))
    assert time.monotonic() - begin < 3
    while not store.courier.away:
        time.sleep(0.05)
    mlflow_server.signal(signal.SIGCONT)
    record_epochs(recorder, range(60, 80))
    recorder.finish("FINISHED")
    assert list(backlogs(tracking.spool_folder(store.uri))) == []
    assert_complete(store, recorder.run_id, 80)


def test_a_run_whose_server_vanished_ends_and_sync_delivers_what_an_untroubled_run_has(
    lab: Lab, folder: Path, mlflow_server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    address, arguments = mlflow_server.address, [*SMALL, "train.epochs=12"]
    with subprocess.Popen(
        [*VAE_LAB, "train", *arguments, "tracking.experiment=vanished", f"tracking.uri={address}"],
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "epoch 2/12" in line:
                mlflow_server.kill()
                break
        rest = process.stderr.read()
    assert process.returncode == 0, rest
    assert "epoch 12/12" in rest
    assert "training goes on" in rest
    assert f"wait for {address}. Once it is back, deliver them with: vae-lab sync" in rest
    assert deliver(address, None) == 1
    assert "wait: the server does not answer (connection refused)" in capfd.readouterr().out
    mlflow_server.start()
    assert deliver(address, None) == 0
    assert "none is left" in capfd.readouterr().out
    assert deliver(address, None) == 0
    assert capfd.readouterr().out == "No records wait.\n"

    assert lab(*arguments)[0] == 0
    served, local = Store.open(address), Store.open()
    remote_run, local_run = in_experiment(served, "vanished"), local.records()[0]
    assert remote_run.status == local_run.status == "FINISHED"
    assert remote_run.params == local_run.params
    assert remote_run.metrics.keys() == local_run.metrics.keys()
    for metric in remote_run.metrics:
        if "second" not in metric:  # times differ
            points = [
                [(point.step, point.value) for point in store.client.get_metric_history(run.run_id, metric)]
                for store, run in ((served, remote_run), (local, local_run))
            ]
            assert points[0] == points[1], metric
    assert listing(served, remote_run.run_id) == listing(local, local_run.run_id)


def in_experiment(store: Store, name: str) -> StoredRun:
    """The only run of an experiment."""
    experiment_id = store.experiment(name).experiment_id
    [run] = [run for run in store.records() if run.experiment_id == experiment_id]
    return run


def listing(store: Store, run_id: str, path: str = "") -> list[str]:
    """The paths of a run's artifacts; of a picture's name, without its time and token."""
    paths: list[str] = []
    for file in store.client.list_artifacts(run_id, path or None):
        paths += listing(store, run_id, file.path) if file.is_dir else [file.path.partition("+timestamp")[0]]
    return sorted(paths)


def kill_before_delivery(server: Server, experiment: str) -> None:
    """A process makes a run, the server stands still, and the process records 30 epochs and is killed."""
    program = (
        "import os, signal, sys; from vae_lab.tracking import Store, RUN\n"
        "from tests.server.test_outage import record_epochs\n"
        "recorder = Store.open(sys.argv[1]).start(sys.argv[3], 'run', kind=RUN)\n"
        "os.killpg(int(sys.argv[2]), signal.SIGSTOP)\n"
        "record_epochs(recorder, range(30))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert server.process is not None
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": f"{root}:{os.environ.get('PYTHONPATH', '')}"}
    arguments = [server.address, str(server.process.pid), experiment]
    killed = subprocess.run([sys.executable, "-c", program, *arguments], env=environment, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    server.signal(signal.SIGCONT)


def test_a_process_killed_before_delivery_loses_nothing_that_it_had_recorded(
    mlflow_server: Server, folder: Path
) -> None:
    kill_before_delivery(mlflow_server, "killed")
    store = Store.open(mlflow_server.address)
    run = in_experiment(store, "killed")
    assert deliver(store.uri, None) == 0
    assert_complete(store, run.run_id, 30)
    again = store.reopen(run.run_id)
    record_epochs(again, range(30, 35))
    again.finish("FINISHED")
    assert_complete(store, run.run_id, 35)
    assert store.record(run.run_id).status == "FINISHED"


def test_what_waits_is_not_told_over_a_run_that_was_finished_under_another_name_of_the_server(
    mlflow_server: Server, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    kill_before_delivery(mlflow_server, "taken over")
    store = Store.open(mlflow_server.address.replace("127.0.0.1", "localhost"))
    run = in_experiment(store, "taken over")
    again = store.reopen(run.run_id)
    record_epochs(again, range(20))
    again.finish("FINISHED")
    assert deliver(None, None) == 1
    assert "of an attempt that another process has gone on from since" in capfd.readouterr().out
    assert_complete(store, run.run_id, 20)
    assert store.record(run.run_id).status == "FINISHED"


def test_a_run_that_starts_while_the_server_is_away_waits_for_it(
    mlflow_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    mlflow_server.kill()
    back = threading.Timer(1.5, mlflow_server.start)
    back.start()
    store = Store.open(mlflow_server.address, wait=120)
    back.join()
    # A connection that the dying server had begun to take breaks; all others are refused.
    waiting = r"does not answer \((connection refused|the connection broke)\)\. Waiting up to 120 s\."
    assert re.search(waiting, caplog.text)
    mlflow_server.kill()
    back = threading.Timer(1.5, mlflow_server.start)
    back.start()
    recorder = store.start("late", "run", kind=tracking.RUN)
    back.join()
    recorder.finish("FINISHED")
    assert in_experiment(store, "late").status == "FINISHED"
