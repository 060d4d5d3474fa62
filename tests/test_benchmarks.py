"""The arithmetic of the benchmarks and who may know of whom; how fast anything is, is no test's business."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks import __main__ as command
from benchmarks import gpu, outputs, page, profile, rows, stacks, store
from benchmarks.contenders.hand_written import PlainVAE
from benchmarks.processes import ROOT, Contender, FailedError
from benchmarks.rows import Sizes
from benchmarks.targets import TARGETS, Result, ratio
from benchmarks.work import BASE, Architecture, TrainedRun, floor_seconds, loop_seconds, training_seconds
from vae_lab.models import VAE

FACTS = ("processor", "cores", "instructions", "memory", "torch", "threads", "BLAS", "Python", "environment")
MACHINE = dict.fromkeys(FACTS, "some") | {"GPU": "none", "commit": "0123456", "date": "2026-01-01"}


def result(row: int, *rounds: float) -> Result:
    return Result(row, sorted(rounds)[len(rounds) // 2], list(rounds), "as timed", {"this lab": [1.0]})


def record(*results: Result) -> dict[str, Any]:
    return {
        "machine": MACHINE,
        "busy_cores_before": 0.01,
        "minutes": 18.6,
        "command": "python -m benchmarks",
        "quick": False,
        "rows": [row.record() for row in results],
    }


def test_work_of_the_smallest_architecture_by_hand() -> None:
    # 784 x 2 into the encoder, 2 x (1 + 1) to the posterior, 1 x 2 and 2 x 784 back; the first needs no
    # gradient of its input: two products of 1568 weights and three of 4, 2 and 1568 each, two operations a
    # weight and image.
    assert Architecture(layers=1, hidden=2, latent=1).work(images=10) == 2 * 10 * (
        2 * 1568 + 3 * 4 + 3 * 2 + 3 * 1568
    )


@pytest.mark.parametrize("what", [BASE, Architecture(2, 64, 10), Architecture(4, 400, 30, classes=10)])
def test_weights_are_those_of_the_labs_model_and_of_the_plain_one(what: Architecture) -> None:
    lab = VAE(784, what.classes, what.latent, what.layers, hidden_size=what.hidden)
    plain = PlainVAE(what.layers, what.hidden, what.latent, what.classes)
    for model in (lab, plain):
        weights = [layer.weight.numel() for layer in model.modules() if isinstance(layer, nn.Linear)]
        assert sum(weights) == sum(what.weights())
        assert weights[0] == what.weights()[0]


def test_shares_of_a_command_with_two_workers() -> None:
    runs = [TrainedRun(BASE, 10, 40.0), TrainedRun(BASE._replace(classes=10), 10, 44.0)]
    assert training_seconds(runs, workers=2) == 42
    assert floor_seconds(runs[:1], peak=BASE.work()) == pytest.approx(10)
    assert loop_seconds(runs, {(3, False): 5.0, (3, True): 6.0}) == 110


def test_runs_at_a_time_are_counted_from_their_starts_and_ends() -> None:
    spans = [(0, 10), (10, 20), (20, 30)], [(0, 10), (1, 30), (10, 20), (20, 40)], [(0, 9), (1, 8), (2, 7)]
    assert [store.at_a_time([store.Span(*span) for span in runs]) for runs in spans] == [1, 2, 3]
    assert store.at_a_time([store.Span(i, 50 + i, stack=8) for i in range(16)]) == 2


def test_the_store_of_a_multirun_tells_its_training(ablations: Path) -> None:
    runs, workers = store.read(ablations)
    assert len(runs) == 10
    assert {run.architecture.layers for run in runs} == {2, 3, 4}
    assert sum(run.architecture.classes == 10 for run in runs) == 5
    assert {(run.architecture.hidden, run.epochs) for run in runs} == {(16, 2)}
    assert all(run.seconds > 0 for run in runs)
    assert workers >= 1


@pytest.mark.parametrize(
    ("row", "value", "verdict"),
    [
        (1, 0.75, "aim reached"),
        (1, 0.68, "reached"),
        (1, 0.67, "short"),
        (3, 0.05, "aim reached"),
        (3, 0.07, "reached"),
        (3, 0.071, "short"),
        (9, 0.1, "no target"),
        (7, 0.5, "aim reached"),
        (8, 3.1, "short"),
    ],
)
def test_verdicts_at_the_bounds(row: int, value: float, verdict: str) -> None:
    assert TARGETS[row].verdict(value) == verdict


def test_a_ratio_is_of_medians_and_its_spread_of_rounds() -> None:
    row = ratio(1, [10.0, 12.0, 50.0], [5.0, 4.0, 5.0], "", {})
    assert row.value == 12 / 5
    assert row.rounds == [2.0, 3.0, 10.0]
    assert (row.record()["least"], row.record()["most"], row.record()["rounds"]) == (2.0, 10.0, 3)


def test_every_row_stands_in_markdown_terminal_and_plot() -> None:
    rows = json.loads(json.dumps(record(result(5, 1.7, 1.8, 1.9), result(3, 0.09), result(9, 2.0))))["rows"]
    table = outputs.markdown(rows)
    assert (
        "| 5 | 16 seeds of a hidden-64 model against one after another | 1.70 | 2.00 | 1.80 times faster "
        "| 1.70 to 1.90 | 3 | reached |" in table
    )
    assert "| 7.0% | 5.0% | 9.0% of the time | one round | 1 | short |" in table
    assert "|  |  | 2.00 times faster | one round | 1 | no target |" in table
    assert outputs.terminal(rows).row_count == 3
    labels = [label.get_text() for label in outputs.plot(rows).axes[0].get_yticklabels()]
    assert [label[0] for label in labels] == ["3", "5"]  # the first row at the top


def test_a_bar_is_at_0_where_a_row_must_be_and_at_1_where_it_aims() -> None:
    for row, target in TARGETS.items():
        if target.must is None or target.aim is None:
            continue
        row_record = result(row, target.must).record()
        assert outputs.progress(row_record, target.must) == pytest.approx(0)
        assert outputs.progress(row_record, target.aim) == pytest.approx(1)


@pytest.mark.parametrize("name", [*page.SECTIONS])
def test_the_page_has_a_place_for_what_is_measured(name: str) -> None:
    assert f"<!-- {name}: start -->\nseen\n" in page.replace_section(page.PAGE.read_text(), name, "seen")


def test_the_page_gets_its_result_between_the_markers_again_and_again() -> None:
    before = page.PAGE.read_text()
    first = page.replace_section(before, "result", page.section([record(result(5, 2.0))]))
    second = page.replace_section(first, "result", page.section([record(result(5, 5.0))]))
    assert "2.00 times faster" in first
    assert "2.00 times faster" not in second
    assert "5.00 times faster" in second
    assert second.split("<!-- result: end -->")[1] == before.split("<!-- result: end -->")[1]
    with pytest.raises(ValueError, match="has no <!-- other: start -->"):
        page.replace_section(before, "other", "")


def test_of_several_results_the_last_that_has_a_row_gives_it() -> None:
    first = record(result(5, 2.0), result(3, 0.09))
    second = record(result(5, 5.0))
    assert [row["measured"] for row in page.latest_rows([first, second])] == [0.09, 5.0]
    section = page.section([first, second])
    assert section.index("- Row 3: `") < section.index("- Row 5: `")
    assert "2.00 times faster" not in section
    elsewhere = {**second, "machine": {**second["machine"], "processor": "another"}}
    with pytest.raises(ValueError, match="different machines"):
        page.section([first, elsewhere])


def test_operations_fall_into_their_groups_and_python_gets_the_rest() -> None:
    assert profile.group("aten::addmm", ["aten::linear"]) == profile.MATRIX
    assert profile.group("aten::_fused_adam_", ["Optimizer.step#Adam.step"]) == profile.OPTIMIZER
    assert profile.group("aten::index_select", [profile.RANGE]) == profile.DATA
    assert profile.group("aten::sum", []) == profile.ELEMENTWISE
    assert profile.group("aten::t", ["aten::linear"]) == profile.PYTHON
    shares = profile.shares({profile.MATRIX: 2.0, profile.OPTIMIZER: 1.0, profile.PYTHON: 9.0}, epoch=4.0)
    assert shares[profile.MATRIX] == 0.5
    assert shares[profile.PYTHON] == 0.25
    assert sum(shares.values()) == pytest.approx(1)
    assert profile.shares({profile.MATRIX: 6.0, profile.OPTIMIZER: 2.0}, epoch=4.0)[profile.MATRIX] == 0.75


@pytest.mark.parametrize("program", ["hand_written", "floor"])
def test_others_than_the_lab_have_nothing_of_it(program: str) -> None:
    clean = {key: value for key, value in os.environ.items() if key != "GOMP_SPINCOUNT"}
    code = (
        f"import os, sys, benchmarks.contenders.{program}; "
        "print([name for name in sys.modules if 'vae_lab' in name], os.environ.get('GOMP_SPINCOUNT'))"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=clean, capture_output=True, text=True, check=True
    )
    assert process.stdout.strip() == "[] None"


def test_the_lab_is_held_up_between_the_epochs_of_its_own_command() -> None:
    with Contender("this_lab", "data=digits", "model.hidden_size=16", "train.device=cpu") as lab:
        assert lab.turn() > 0
        assert lab.turn() > 0


def test_a_contender_that_ends_is_told_with_what_it_printed() -> None:
    with pytest.raises(FailedError, match=r"this_lab ended before its turn:\n.*model\.layers=0: must be"):
        Contender("this_lab", "model.layers=0").__enter__()


def test_a_quick_run_is_one_round_of_less_work() -> None:
    usual = command.sizes(command.parse([]), "folder")
    quick = command.sizes(command.parse(["--quick"]), "folder")
    assert usual == Sizes("folder")
    assert (quick.repeats, quick.long_repeats, quick.epochs) == (1, 1, 1)
    assert command.sizes(command.parse(["--quick", "--repeats", "3"]), "folder").repeats == 3


def test_a_row_against_peers_asks_for_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--rows", "4"]) == 2
    assert "add --peers" in capsys.readouterr().out


def test_the_ten_ablations_give_a_row_for_each_format_and_for_the_fastest_peer() -> None:
    formats = {"float32": (2.0, 20.0), "bfloat16": (1.0, 12.0)}
    rounds = {"pythae": [40.0], "lightning": [30.0]}
    for format, (training, wall) in formats.items():
        times = {"command": wall, "training": training, "floor": 1.5, "not training": 1 - training / wall}
        rounds |= {f"{format}, {name}": [seconds] for name, seconds in times.items()}
    sizes = Sizes("folder", peers=("pythae", "lightning"), shorter=("bfloat16",))
    results = rows.ablation_results(rounds, runs=10, workers=2, sizes=sizes)
    assert {row.row: row.value for row in results} == {1: 0.75, 2: 1.5, 3: 0.9, 4: 1.5}
    assert "in bfloat16 2.50" in results[-1].note
    alone = rows.ablation_results(rounds, runs=10, workers=2, sizes=Sizes("folder"))
    assert [row.row for row in alone] == [1, 3]


def test_seeds_are_timed_as_a_stack_alone_and_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    walls = {"stacked": 40.0, "workers": 60.0, "basic": 80.0}
    launchers: list[str] = []

    def train(*options: str, folder: Path) -> SimpleNamespace:
        (launcher,) = (o.partition("=")[2] for o in options if o.startswith("hydra/launcher="))
        launchers.append(launcher)
        return SimpleNamespace(wall=walls[launcher])

    monkeypatch.setattr(rows, "train", train)
    monkeypatch.setattr(store, "read", lambda folder: (walls[launchers[-1]] / 2,))
    monkeypatch.setattr(rows, "training_seconds", lambda seconds: seconds)
    (row,) = rows.many_seeds(Sizes("folder", seed_repeats=2), lambda said: None)
    assert sorted(launchers) == sorted([*walls] * 2)
    assert (row.row, row.value) == (5, 2.0), "the stack against one after another"
    assert "hydra/launcher=workers 60 s, of which training 30 s" in row.note
    assert row.series["workers"] == [60.0, 60.0]
    assert row.series["workers, training alone"] == [30.0, 30.0]


def test_a_stack_of_runs_is_timed_without_a_store(
    capsys: pytest.CaptureFixture[str], folder: Path, device: torch.device
) -> None:
    small = ["--epochs", "1", "data=digits", "model.hidden_size=16"]
    stacks.main([f"--device={device}", "--runs", "1", "17", *small])
    one, many = map(json.loads, capsys.readouterr().out.splitlines())
    assert (one["model"], one["runs"], many["runs"]) == ("3 x 16", 1, 17)
    for figure in (one, many):
        assert figure["runs_a_second"] == pytest.approx(figure["runs"] / figure["epoch"])
        assert (figure["peak_memory"] is None) == (device.type == "cpu")
    assert not list(folder.iterdir())


@pytest.mark.parametrize("mistake", ["model=vea", "model.layers=-1", "--layers=2"])
def test_a_profile_of_no_run_ends_in_one_line(mistake: str) -> None:
    with pytest.raises(SystemExit):
        profile.main([mistake])


def test_a_part_that_takes_too_long_keeps_what_it_has_measured() -> None:
    figure = {"model": "3 x 400", "runs": 4, "format": "tf32", "compiled": True, "share": 1.0}
    figure |= {"first_epoch": 9.0, "epoch": 0.5, "epochs": [0.5], "runs_a_second": 8.0, "peak_memory": 2**30}
    code = f"print({json.dumps(json.dumps(figure))}, flush=True); import time; time.sleep(60)"
    part = gpu.Part("stacks", "of runs", 60, ("timeit", "-n1", "-r1", code))
    done = gpu.done_part(part, 8)
    assert (done["ended_well"], done["lines"]) == (False, [figure])
    assert done["said"].startswith("stopped after 8 s; 1 figures")
    assert gpu.done_part(part, 0)["said"] == "no time was left"
    facts = MACHINE | {"GPU": "a GPU"}
    text = gpu.markdown({"machine": facts, "quick": False, "parts": [done]})
    assert "| 3 x 400 | 4 | tf32 | yes | 9.00 s | 0.500 s | 8.00 | 1.00 GiB |" in text
    assert "- stacks: stopped after 8 s" in text


def test_parts_on_a_gpu_begin_with_its_tests_and_say_what_is_missing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    parts = gpu.parts("cuda", tmp_path, quick=False, peers=True)
    names = ["tests", "stacks", "narrow", "formats", "compiled", "rows", "rows compiled"]
    assert [part.name for part in parts] == [*names, "peers"]
    assert [part.name for part in gpu.parts("cuda", tmp_path, quick=False, peers=False)] == names
    assert [command.parse(part.arguments[1:]).rows for part in parts[5:]] == [[1, 2, 3, 5]] * 2 + [[4]]
    assert command.parse(parts[-1].arguments[1:]).peers
    if not torch.cuda.is_available():
        assert gpu.main(["--output", str(tmp_path / "none")]) == 2
        assert "PyTorch finds no GPU here" in " ".join(capsys.readouterr().out.split())
        assert not (tmp_path / "none").exists()
