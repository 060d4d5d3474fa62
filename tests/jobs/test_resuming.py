"""Runs and multiruns that were ended at some moment and are given again; tests/faults ends them at any."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import SMALL
from vae_lab import evaluation, interruption, load, tracking
from vae_lab.checkpoints import Checkpoint
from vae_lab.errors import LabError
from vae_lab.jobs.runs.reports import Assignment, Reached
from vae_lab.jobs.runs.run import Run
from vae_lab.jobs.runs.together import threads_before
from vae_lab.tracking import Store, StoredRun
from vae_lab.tracking.folders import run_folder

Lab = Callable[..., tuple[int, str, str]]
VAE_LAB = (sys.executable, "-c", "from vae_lab.cli import main; main()")
CLOCKS = ("train/seconds", "train/total_seconds", "train/images_per_second")
FOUR = (*SMALL, "train.epochs=4", "evaluation.columns=4")


def runs(store: Store, kind: str = tracking.RUN) -> dict[str, StoredRun]:
    """The runs of a store by their names, each of which comes once."""
    found = [record for record in store.records() if record.kind == kind]
    named = {record.name: record for record in found}
    assert len(named) == len(found)
    return named


def curves(store: Store, record: StoredRun) -> dict[str, list[tuple[int, float]]]:
    """Every metric's points in their order; of the clock's only the steps."""
    return {
        key: [
            (point.step, 0.0 if key in CLOCKS else point.value)
            for point in sorted(
                store.client.get_metric_history(record.run_id, key), key=lambda point: point.step
            )
        ]
        for key in record.metrics
    }


def pictures(store: Store, record: StoredRun) -> dict[str, np.ndarray[Any, Any]]:
    """The pixels of every picture by its name, less the time in it; each name comes once."""
    found: dict[str, np.ndarray[Any, Any]] = {}
    root = Path(store.place(record.run_id, ""))
    for file in sorted(root.rglob("*.png")):
        name = "+".join(file.relative_to(root).as_posix().split("+")[:3])
        assert name not in found
        found[name] = np.asarray(Image.open(file))
    return found


def assert_same(one: Store, two: Store, *, exactly: bool = True) -> None:
    """Two stores hold the same finished runs: curves, pictures and weights, to the last bit."""
    first, second = runs(one), runs(two)
    assert first.keys() == second.keys()
    for name, a in first.items():
        b = second[name]
        assert (a.status, b.status) == ("FINISHED", "FINISHED")
        assert tracking.ERROR not in b.tags
        assert a.params == b.params
        mine, other = curves(one, a), curves(two, b)
        assert mine.keys() == other.keys()
        drawn, again = pictures(one, a), pictures(two, b)
        assert drawn.keys() == again.keys()
        weights = [
            load(each.run_id, uri=store.uri).module.state_dict() for store, each in ((one, a), (two, b))
        ]
        pairs = list(zip(weights[0].values(), weights[1].values(), strict=True))
        if exactly:
            assert mine == other
            assert all(np.array_equal(drawn[key], again[key]) for key in drawn)
            assert all(torch.equal(*pair) for pair in pairs)
        else:
            for key, points in mine.items():
                assert [step for step, _ in points] == [step for step, _ in other[key]]
                assert np.allclose(points, other[key], rtol=1e-4)
            assert all(torch.allclose(*pair, atol=1e-4) for pair in pairs)


@pytest.fixture
def untroubled(lab: Lab, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Store]:
    """The store of the same command in a folder of its own, where nothing ends it."""

    def make(*arguments: str) -> Store:
        (folder / "untroubled").mkdir()
        with monkeypatch.context() as patch:
            patch.chdir(folder / "untroubled")
            code, _, err = lab(*arguments)
            assert code == 0, err
            return Store.open()

    return make


@pytest.fixture
def stopped_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Asks for a stop, as Ctrl-C does, when a run has finished that epoch; once."""

    def stop(epoch: int) -> None:
        real, asked = Run.reach, False

        def reach(self: Run, reached: Reached) -> None:
            nonlocal asked
            real(self, reached)
            if reached.checkpoint.epoch == epoch and not asked:
                asked = True
                interruption.request()

        monkeypatch.setattr(Run, "reach", reach)

    return stop


@pytest.fixture
def ended_before(monkeypatch: pytest.MonkeyPatch) -> Callable[[type, str, int], None]:
    """Ends the process before the n-th call of a method, as a power cut would: nothing is closed.

    The test's own process lives on, so that its runs say that they are another's.
    """

    def end(owner: type, name: str, number: int) -> None:
        real, calls = getattr(owner, name), 0

        def counted(*arguments: Any, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == number:
                raise KeyboardInterrupt
            return real(*arguments, **named)

        monkeypatch.setattr(owner, name, counted)
        monkeypatch.setattr(
            "vae_lab.jobs.runs.run._record_failure", lambda recorder, *_: recorder._courier.close()
        )
        dead = tracking.processes.this_process().replace('"born": "', '"born": "dead ')
        monkeypatch.setattr("vae_lab.tracking.store.this_process", lambda: dead)
        monkeypatch.setattr("vae_lab.tracking.recorder.this_process", lambda: dead)

    return end


VARIANTS = [
    ["data.binarize=dynamic", "scheduler=cosine"],
    ["model=cvae", "optimizer=sgd", "optimizer.momentum=0.9", "scheduler=multistep"],
]


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda each: each[0])
def test_a_run_that_was_stopped_goes_on_in_its_own_record_and_ends_as_if_untroubled(
    lab: Lab,
    untroubled: Callable[..., Store],
    stopped_after: Callable[[int], None],
    variant: list[str],
    device: torch.device,
) -> None:
    command = (*FOUR, *variant, f"train.device={device}")
    whole = untroubled(*command)
    stopped_after(2)
    code, _, err = lab(*command)
    assert code == 130
    assert "same command" in err
    (before,) = runs(Store.open()).values()
    assert before.status == "KILLED"
    assert run_folder(Store.open().uri, before.run_id).is_dir()
    code, _, err = lab(*command)
    assert code == 0, err
    assert "goes on after epoch 2 of 4" in err
    (after,) = runs(Store.open()).values()
    assert after.run_id == before.run_id
    assert_same(whole, Store.open())
    assert not run_folder(Store.open().uri, before.run_id).exists()


@pytest.mark.parametrize(
    ("owner", "name", "number"),
    [
        (Run, "_save", 1),  # the run is made, and nothing is saved
        (Run, "_record", 1),  # before the first pictures
        (Run, "_save", 3),  # epoch 2 is trained and neither saved nor recorded
        (Run, "_record", 3),  # epoch 2 is saved and not recorded
        (tracking.Recorder, "image", 6),  # between two pictures of an epoch
        (Checkpoint, "save", 4),
        (tracking.Recorder, "finish", 1),  # all is recorded but the end
    ],
    ids=lambda each: each if isinstance(each, str) else getattr(each, "__name__", str(each)),
)
def test_wherever_a_run_ends_nothing_is_recorded_twice_or_missing(
    lab: Lab,
    untroubled: Callable[..., Store],
    ended_before: Callable[[type, str, int], None],
    owner: type,
    name: str,
    number: int,
) -> None:
    whole = untroubled(*FOUR)
    ended_before(owner, name, number)
    assert lab(*FOUR)[0] == 130
    (before,) = runs(Store.open()).values()
    assert before.status == "RUNNING"
    code, _, err = lab(*FOUR)
    assert code == 0, err
    (after,) = runs(Store.open()).values()
    assert after.run_id == before.run_id
    assert_same(whole, Store.open())


@pytest.mark.parametrize("launcher", ["workers", "stacked"])
def test_a_multirun_that_was_stopped_goes_on_under_its_own_parent(
    lab: Lab,
    untroubled: Callable[..., Store],
    stopped_after: Callable[[int], None],
    launcher: str,
    device: torch.device,
) -> None:
    command = [*FOUR, "-m", "model=vae,cvae", "seed=0,1", f"hydra/launcher={launcher}"]
    command += ["hydra.launcher.workers=2", f"train.device={device}"]
    whole = untroubled(*command)
    stopped_after(2)
    assert lab(*command)[0] == 130
    assert launcher == "stacked" or len(runs(Store.open())) <= 2, "none is begun after the request"
    (before,) = runs(Store.open(), tracking.SWEEP).values()
    code, _, err = lab(*command)
    assert code == 0, err
    (after,) = runs(Store.open(), tracking.SWEEP).values()
    assert (after.run_id, after.status) == (before.run_id, "FINISHED")
    assert len(Store.open().members(after.run_id)) == 4
    assert_same(whole, Store.open(), exactly=launcher == "workers")


def test_a_stack_that_ended_while_its_runs_were_kept_goes_on_from_different_epochs(
    lab: Lab, untroubled: Callable[..., Store], ended_before: Callable[[type, str, int], None]
) -> None:
    command = [*FOUR, "-m", "seed=0,1,2", "hydra/launcher=stacked", "hydra.launcher.workers=1"]
    whole = untroubled(*command)
    ended_before(Checkpoint, "save", 8)  # of epoch 2 one of the three runs is kept
    assert lab(*command)[0] == 130
    code, _, err = lab(*command)
    assert code == 0, err
    assert "goes on after epoch 2 of 4" in err
    assert err.count("goes on after epoch 1 of 4") == 2
    assert_same(whole, Store.open(), exactly=False)


def test_the_last_run_of_a_multirun_has_no_more_threads_than_it_had_before(
    lab: Lab, untroubled: Callable[..., Store], stopped_after: Callable[[int], None]
) -> None:
    command = [*FOUR, "-m", "seed=0,1"]
    whole = untroubled(*command)
    assert lab(*command)[0] == 0
    store = Store.open()
    for run in store.records():  # what is left is as if the multirun had been cut after its first run
        if run.kind == tracking.SWEEP or run.params["seed"] == "1":
            store.client.delete_run(run.run_id)
    code, _, err = lab(*command)
    assert code == 0, err
    assert "1 of 2 runs are there already, training 1" in err
    assert_same(whole, Store.open())


@pytest.mark.parametrize(
    "line",
    [[], ["-m", "seed=0,1", "hydra/launcher=stacked", "hydra.launcher.workers=1"]],
    ids=["alone", "a stack"],
)
def test_a_resumed_run_says_that_it_keeps_its_threads(
    lab: Lab, stopped_after: Callable[[int], None], caplog: pytest.LogCaptureFixture, line: list[str]
) -> None:
    command, threads = [*FOUR, *line], torch.get_num_threads()
    stopped_after(2)
    assert lab(*command)[0] == 130
    torch.set_num_threads(threads + 1)  # as where the machine has more
    try:
        code, _, err = lab(*command)
    finally:
        torch.set_num_threads(threads)
    assert code == 0, err
    names = "vae L3 Z15 s0, vae L3 Z15 s1" if line else "vae L3 Z15 s0"
    number = "1 thread" if threads == 1 else f"{threads} threads"
    assert caplog.text.count(f"{names}: goes on with {number}, as before.") == 1


def test_a_stack_takes_a_number_of_threads_that_its_runs_had_only_if_it_is_one() -> None:
    def assignments(*threads: int | None) -> dict[int, Assignment]:
        job: Any = SimpleNamespace(parts=SimpleNamespace(device=torch.device("cpu")))
        state: Any = [None if number is None else SimpleNamespace(threads=number) for number in threads]
        return {place: Assignment(job, checkpoint, 4) for place, checkpoint in enumerate(state)}

    assert threads_before(assignments(2)) == 2
    assert threads_before(assignments(None, 2, 2)) == 2, "one begins now"
    assert threads_before(assignments(1, 2)) is None, "neither is that of all"
    assert threads_before(assignments(None, None)) is None


def test_a_killed_run_is_marked_as_interrupted_by_the_next_command_and_then_goes_on(
    lab: Lab, folder: Path, untroubled: Callable[..., Store]
) -> None:
    command = [*FOUR, "-m", "seed=0", "train.epochs=40"]
    whole = untroubled(*command)
    with subprocess.Popen(
        [*VAE_LAB, "train", *command], stderr=subprocess.PIPE, text=True, cwd=folder
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "epoch 3/40" in line:
                os.kill(process.pid, signal.SIGKILL)
                break
    parent = next(iter(runs(Store.open(), tracking.SWEEP).values()))
    assert parent.status == "RUNNING"
    told = subprocess.run([*VAE_LAB, "status", parent.run_id], capture_output=True, text=True, cwd=folder)
    assert told.returncode == 0, told.stderr
    assert "0 of 1 runs finished, 1 interrupted" in told.stdout
    assert "ended without closing it" in " ".join(told.stdout.split())
    (before,) = runs(Store.open()).values()
    assert before.status == "KILLED"
    code, _, err = lab(*command)
    assert code == 0, err
    assert "goes on after epoch" in err
    assert_same(whole, Store.open())
    done = subprocess.run([*VAE_LAB, "status"], capture_output=True, text=True, cwd=folder)
    assert "1 of 1 runs finished" in done.stdout


def test_a_stop_that_is_asked_for_twice_ends_the_final_measures_and_these_are_taken_later(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = evaluation.full_evaluation

    def stopped(*arguments: Any, **named: Any) -> evaluation.Measures:
        interruption.request()
        interruption.request()
        return real(*arguments, **named)

    measured = [*SMALL, "evaluation.importance_samples=3", "evaluation.posterior_draws=2"]
    monkeypatch.setattr(evaluation, "full_evaluation", stopped)
    assert lab(*measured)[0] == 130
    (before,) = runs(Store.open()).values()
    assert before.status == "KILLED"
    assert "test/iwae_bound" not in before.metrics
    monkeypatch.setattr(evaluation, "full_evaluation", real)
    code, _, err = lab(*measured)
    assert code == 0, err
    (after,) = runs(Store.open()).values()
    assert (after.run_id, after.status) == (before.run_id, "FINISHED")
    assert {"test/iwae_bound", "test/collapsed_units"} <= after.metrics.keys()


def test_a_finished_run_is_not_trained_again_unless_asked_for(lab: Lab) -> None:
    assert lab(*SMALL)[0] == 0
    (first,) = runs(Store.open()).values()
    code, _, err = lab(*SMALL)
    assert code == 0
    assert "is there already: trained" in err
    assert first.run_id in err
    assert list(runs(Store.open()).values()) == [first]
    assert lab(*SMALL, "reuse=never")[0] == 0
    assert len(Store.open().records()) == 2


def test_a_finished_run_that_is_asked_for_with_more_measures_gets_them(lab: Lab) -> None:
    assert lab(*SMALL)[0] == 0
    code, _, err = lab(*SMALL, "evaluation.posterior_draws=2")
    assert code == 0, err
    (record,) = runs(Store.open()).values()
    assert "test/collapsed_units" in record.metrics


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint", None], ids=["empty", "other", "one bit"])
def test_a_damaged_checkpoint_is_named_and_not_trained_on(
    lab: Lab, stopped_after: Callable[[int], None], caplog: pytest.LogCaptureFixture, damage: bytes | None
) -> None:
    stopped_after(2)
    assert lab(*FOUR)[0] == 130
    store = Store.open()
    (before,) = runs(store).values()
    file = run_folder(store.uri, before.run_id) / "epoch.pt"
    if damage is None:
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        damage = bytes(content)
    file.write_bytes(damage)
    code, _, err = lab(*FOUR)
    assert code == 0, err
    (told,) = [record.message for record in caplog.records if "damaged" in record.message]
    assert told.startswith(f"{file}: is damaged")
    assert "from the start, as a new run" in told
    assert sorted(record.status for record in store.records()) == ["FINISHED", "KILLED"]


def test_a_run_that_cannot_go_on_leaves_its_place_in_the_multirun(
    lab: Lab, stopped_after: Callable[[int], None]
) -> None:
    command = [*FOUR, "-m", "seed=0"]
    stopped_after(2)
    assert lab(*command)[0] == 130
    store = Store.open()
    (before,) = runs(store).values()
    (run_folder(store.uri, before.run_id) / "epoch.pt").write_bytes(b"")
    code, _, err = lab(*command)
    assert code == 0, err
    (parent,) = runs(store, tracking.SWEEP).values()
    (after,) = store.members(parent.run_id)
    assert after.status == "FINISHED"
    assert after.run_id != before.run_id


def test_a_full_disk_ends_a_run_with_one_message_and_with_space_again_it_goes_on(
    lab: Lab, untroubled: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = untroubled(*FOUR)
    with monkeypatch.context() as patch:
        real, calls = os.fsync, 0

        def full(descriptor: int) -> None:
            nonlocal calls
            calls += 1
            if calls > 5:
                raise OSError(28, "No space left on device")
            real(descriptor)

        patch.setattr("vae_lab.files.os.fsync", full)
        code, _, err = lab(*FOUR)
    assert code == 1
    message = err.strip().splitlines()[-1]
    assert "cannot be kept here: No space left on device. Free some space" in message
    (before,) = runs(Store.open()).values()
    assert before.status == "FAILED"
    code, _, err = lab(*FOUR)
    assert code == 0, err
    assert_same(whole, Store.open())


def test_an_altered_config_of_a_finished_run_is_refused(lab: Lab) -> None:
    assert lab(*SMALL)[0] == 0
    store = Store.open()
    (record,) = runs(store).values()
    file = store.download(record.run_id, "config.yaml")
    file.write_text(file.read_text().replace("layers: 3", "layers: 2"))
    with pytest.raises(LabError, match=r"config\.yaml: is damaged"):
        store.download(record.run_id, "config.yaml")


def test_a_diverged_run_given_again_diverges_again_in_its_own_record(lab: Lab) -> None:
    command = [*SMALL, "optimizer=sgd", "optimizer.lr=1e20"]
    for _ in range(2):
        assert lab(*command)[0] == 1
        (record,) = runs(Store.open()).values()
        assert record.status == "FAILED"
        assert "at epoch 1, step" in record.tags[tracking.ERROR]
