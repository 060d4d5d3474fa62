"""Commands whose terminal is lost, whose output goes nowhere, or that are stopped at an odd moment."""

from __future__ import annotations

import ast
import errno
import io
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import house
from tests.misuse.conftest import TINY
from vae_lab import interruption, tracking
from vae_lab.cli.group import NAMES
from vae_lab.cli.terminal import ending
from vae_lab.cli.terminal.streams import Lasting
from vae_lab.tracking import Store

Lab = Callable[..., tuple[int, str, str]]
VAE_LAB = (sys.executable, "-m", "vae_lab")
LONG = ("train", *TINY, "train.epochs=12")


def statuses(store: Store | None = None) -> list[str]:
    return sorted(run.status for run in (store or Store.open()).records())


def text_stream(descriptor: int, encoding: str = "utf-8") -> io.TextIOWrapper:
    raw = Lasting(descriptor, "w", closefd=False)
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors="backslashreplace")


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            continue


def test_a_stream_outlives_its_reader(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    stream = text_stream(writer)
    print("heard", file=stream, flush=True)
    assert os.read(reader, 100) == b"heard\n"
    os.close(reader)
    for _ in range(3):
        print("x" * 100_000, file=stream, flush=True)
    os.write(writer, b"what a library prints without Python")
    lost = stream.buffer.raw.lost  # type: ignore[attr-defined]
    assert lost.errno == errno.EPIPE


def test_a_stream_that_does_not_block_is_waited_for(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.set_blocking(writer, False)
    said = "x" * 300_000
    heard: list[bytes] = []

    def listen() -> None:
        while sum(map(len, heard)) < len(said):
            heard.append(os.read(reader, 4096))

    thread = threading.Thread(target=listen)
    thread.start()
    stream = text_stream(writer)
    stream.write(said)
    stream.flush()
    thread.join()
    assert b"".join(heard).decode() == said


def test_a_stream_escapes_what_its_encoding_cannot_say(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    print("✓ ±\udc80", file=text_stream(writer, "ascii"), flush=True)
    assert os.read(reader, 100) == rb"\u2713 \xb1\udc80" + b"\n"


def test_nobody_who_reads_and_a_full_disk_stop_no_training(folder: Path) -> None:
    with (
        open("/dev/full", "w") as full,
        subprocess.Popen([*VAE_LAB, *LONG], stdout=full, stderr=subprocess.PIPE, cwd=folder) as process,
    ):
        assert process.stderr is not None
        while b"epoch 1/12" not in process.stderr.readline():
            assert process.poll() is None
        process.stderr.close()
    assert process.returncode == 0
    assert statuses() == ["FINISHED"]


def test_a_terminal_that_is_gone_stops_no_training_if_its_hangup_is_ignored(folder: Path) -> None:
    ours, theirs = pty.openpty()

    def ignoring_hangup() -> None:  # as `nohup` does
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    with subprocess.Popen(
        [*VAE_LAB, *LONG, "-m", "seed=0"], stdin=theirs, stdout=theirs, stderr=theirs, cwd=folder,
        preexec_fn=ignoring_hangup, start_new_session=True,
    ) as process:  # fmt: skip
        os.close(theirs)
        said = b""
        while b"epochs" not in said:
            said += os.read(ours, 1000)
        os.close(ours)
    assert process.returncode == 0
    assert statuses() == ["FINISHED", "FINISHED"]


def test_output_that_is_the_work_must_be_written(ablations: Path) -> None:
    read = ["compare", "ablations", "--format", "csv"]
    with open("/dev/full", "w") as full:
        lost = subprocess.run(
            [*VAE_LAB, *read], stdout=full, stderr=subprocess.PIPE, text=True, cwd=ablations, check=False
        )
    assert (lost.returncode, lost.stderr) == (1, "vae-lab: standard output: No space left on device.\n")
    with subprocess.Popen(
        [*VAE_LAB, *read], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ablations
    ) as process:
        assert process.stdout is not None
        process.stdout.close()  # `| head -0`: its reader has enough
        _, errors = process.communicate()
    assert (process.returncode, errors) == (0, b"")


def test_lost_output_fails_the_commands_whose_only_work_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "lost_output", lambda: OSError(errno.ENOSPC, "No space left on device"))
    assert {name for name in NAMES if ending.exit_code(None, [name, "x"])} == {
        *("compare", "completion", "doctor", "plan", "status", "verdict")
    }


def test_what_is_opened_never_takes_the_place_of_a_closed_stream(folder: Path) -> None:
    closed = f"{' '.join([*VAE_LAB, 'train', *TINY])} <&- >&- 2>&-"
    assert subprocess.run(closed, shell=True, cwd=folder, check=False).returncode == 0
    assert statuses() == ["FINISHED"]


STOPPED_AT_IMPORT = """\
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)

def stop(event, arguments):
    if event == "import" and arguments[0] == os.environ["STOPPED_AT"]:
        for _ in range(int(os.environ["TIMES"])):
            os.kill(os.getpid(), signal.SIGINT)

sys.addaudithook(stop)
"""


@pytest.mark.parametrize(
    ("module", "words", "times"),
    [
        ("vae_lab.cli.terminal.streams", ["--version"], 1),
        ("click", ["status"], 2),
        ("hydra", ["train", "model.layers=0"], 1),
        ("vae_lab.cli.completion", ["train", "--help"], 1),
        ("torch", ["train", "data=digits"], 2),
        ("rich", ["train", "--help"], 1),
    ],
)
def test_ctrl_c_while_the_command_starts_is_one_line(
    folder: Path, module: str, words: list[str], times: int
) -> None:
    (folder / "sitecustomize.py").write_text(STOPPED_AT_IMPORT)
    environment = {**os.environ, "PYTHONPATH": str(folder), "STOPPED_AT": module, "TIMES": str(times)}
    process = subprocess.run(
        [*VAE_LAB, *words], env=environment, cwd=folder, capture_output=True, text=True, check=False
    )
    assert process.returncode == 130, process.stderr
    (line,) = process.stderr.strip().splitlines()
    assert line.startswith("vae-lab: interrupted." if times == 1 else "vae-lab: ")
    assert left_over(folder) == []


def left_over(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name not in ("sitecustomize.py", "__pycache__")]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_a_multirun_that_ends_while_its_tables_are_made_goes_on_under_its_own_parent(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def ended(*_: object) -> None:
        raise error

    line = ("-m", "seed=0", *TINY)
    with monkeypatch.context() as patch:
        patch.setattr("vae_lab.jobs.lines.multirun.conclude", ended)
        assert lab(*line)[0] in (1, 130)
    (before,) = Store.open().tagged(tracking.KIND, tracking.SWEEP)
    assert before.status == ("FAILED" if isinstance(error, OSError) else "KILLED")
    code, _, err = lab(*line)
    assert code == 0, err
    (after,) = Store.open().tagged(tracking.KIND, tracking.SWEEP)
    assert (after.run_id, after.status) == (before.run_id, "FINISHED")
    assert Store.open().download(after.run_id, "report.html").exists()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_is_a_request_unless_the_process_was_started_to_ignore_it(name: str) -> None:
    number = signal.Signals[name]
    heard: list[int] = []

    def asked_twice() -> None:
        with interruption.listening(heard.append):
            signal.raise_signal(number)
            with pytest.raises(interruption.Interrupted, match="between two epochs"):
                interruption.check()
            with interruption.listening(heard.append):  # only the outermost listens
                signal.raise_signal(number)
            with pytest.raises(interruption.Interrupted, match="in the middle"):
                interruption.check_now()

    with pytest.raises(interruption.Interrupted, match="after the last epoch"):
        asked_twice()
    assert sorted(heard) == [1, 2]
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with interruption.listening(heard.append):
            signal.raise_signal(number)
            interruption.check()
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)
    assert sorted(heard) == [1, 2]


def test_a_stop_that_no_epoch_heeds_any_more_ends_the_multirun(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vae_lab.jobs.runs.reports import Finished
    from vae_lab.jobs.runs.run import Run

    close = Run.close

    def closed(self: Run, finished: Finished) -> None:
        interruption.request()
        close(self, finished)

    monkeypatch.setattr(Run, "close", closed)
    assert lab("-m", "seed=0", *TINY)[0] == 130
    assert statuses() == ["FINISHED", "KILLED"]


def test_memory_that_is_limited_is_one_message(folder: Path) -> None:
    limited = f"ulimit -v 900000; {' '.join([*VAE_LAB, 'train', *TINY])}"
    process = subprocess.run(limited, shell=True, cwd=folder, capture_output=True, text=True, check=False)
    assert process.returncode == 1
    assert process.stderr.splitlines()[-1].startswith("vae-lab: memory is full or limited: ")
    assert "Traceback" not in process.stderr


def test_files_and_output_are_the_same_where_the_language_is_ascii(folder: Path) -> None:
    ascii_only = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    process = subprocess.run(
        [*VAE_LAB, "train", *TINY, "-m", "seed=0,1"],
        env=os.environ | ascii_only, cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    assert rb"\u2713".decode() in process.stderr
    (table,) = folder.rglob("ablations.md")
    assert "±" in table.read_text(encoding="utf-8")


def test_no_file_of_the_labs_own_is_in_the_encoding_of_the_locale() -> None:
    system = {"machine.py", "devices.py", "processes.py"}  # which read what the kernel says
    for file, tree in house.modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr in ("read_text", "write_text"):
                assert file.name in system or "encoding" in ast.unparse(_call_of(node, tree)), file


def _call_of(function: ast.Attribute, tree: ast.AST) -> ast.AST:
    return next(node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.func is function)


@pytest.mark.parametrize("words", [["train"], ["status"], ["compare", "x"]])
def test_a_folder_that_is_gone_is_named(folder: Path, command: Lab, words: list[str]) -> None:
    (folder / "gone").mkdir()
    os.chdir(folder / "gone")
    (folder / "gone").rmdir()
    code, _, err = command(*words)
    assert (code, err) == (
        1, "vae-lab: the folder that this command was started in is gone; change into another.\n",
    )  # fmt: skip
