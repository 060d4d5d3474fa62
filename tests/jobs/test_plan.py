"""`vae-lab plan`: what a line would train, said before it is; held against what it then trains."""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import io
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hydra._internal.core_plugins.basic_launcher import BasicLauncher

from tests.conftest import SMALL
from tests.jobs.test_resuming import stopped_after
from vae_lab.cli import main
from vae_lab.jobs.job import Job
from vae_lab.jobs.plan import costs, estimate, trial
from vae_lab.jobs.plan.tables import claims_table
from vae_lab.jobs.plan.trial import Cost
from vae_lab.studies.claims import judge_study
from vae_lab.studies.plan import Declared, Plan
from vae_lab.studies.study import load_study
from vae_lab.tracking import ENVIRONMENT, EVALUATION_AT_END, Store, StoredRun

__all__ = ["stopped_after"]

Lab = Callable[..., tuple[int, str, str]]
QUIET = (*SMALL, "evaluation.pictures=false")
LINE = ("-m", *QUIET, "train.epochs=3", "train.threads=1", "model.layers=2", "seed=0,1,2")
CLAIM = (
    "study.claims=[{id: C1, text: Depth matters., metric: test/loss, expect: better, "
    "of: {model.layers: 2}, than: {model.layers: 3}}]"
)


@pytest.fixture
def plan(lab: Lab, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Lab:
    """`vae-lab plan ...` in this process, in the folder of `lab`."""

    def run(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        monkeypatch.setattr("sys.argv", ["vae-lab", "plan", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        assert "Traceback" not in err, err
        return int(ended.value.code or 0), out, err

    return run


def tables(out: str) -> list[list[dict[str, str]]]:
    """The tables of an output in CSV."""
    parts = out.strip("\n").split("\n\n")
    return [list(csv.DictReader(io.StringIO(part))) for part in parts]


def sources(answer: tuple[int, str, str]) -> list[str]:
    """How the seconds of each row of a plan in CSV are known."""
    code, out, err = answer
    assert code == 0, err
    return [row["by"] for row in tables(out)[0]]


def contents(*folders: Path) -> dict[str, str]:
    """A checksum of every file below folders."""
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_what_is_there_what_goes_on_and_what_is_missing(
    lab: Lab, plan: Lab, folder: Path, stopped_after: Callable[[int], None]
) -> None:
    assert lab(*LINE, "seed=0")[0] == 0
    stopped_after(2)
    assert lab(*LINE, "seed=1")[0] == 130
    state = Path(os.environ["XDG_STATE_HOME"])
    before = contents(folder, state)
    code, out, err = plan(*LINE, "--format", "csv")
    assert code == 0, err
    points, whole = tables(out)
    assert [row["runs"] for row in points] == ["1 there, 1 interrupted after epoch 2, 1 missing"]
    assert [row["by"] for row in points] == ["runs of the store"]
    assert [row["the whole"] for row in whole] == ["time", "at once", "memory", "disk"]
    assert contents(folder, state) == before

    code, _, err = lab(*LINE)
    assert code == 0, err
    assert "goes on after epoch 2 of 3" in err
    assert "1 of 3 runs are there already" in err
    stored = next(iter(Store.open().tagged("vae_lab.kind", "run")))
    assert float(points[0]["parameters"]) == float(stored.params["model.parameters"])
    _, whole = tables(plan(*LINE, "--format", "csv")[1])
    assert [row["takes"] for row in whole] == ["none: nothing is left to train"]


def test_a_plan_leaves_nothing_where_no_store_is(plan: Lab, folder: Path) -> None:
    state = Path(os.environ["XDG_STATE_HOME"])
    code, out, err = plan(*QUIET)
    assert code == 0, err
    assert "1 run, 1 missing" in out
    assert contents(folder, state) == {}


@pytest.mark.parametrize(
    "line",
    [
        ("model.layer=2",),
        ("model=vea",),
        ("-m", "model.layers=0,2"),
        ("model.layers=2,3",),
        ("experiments=nothing",),
        ("-m", *QUIET, "seed=0,1", "tracking.run_name=one"),
        ("tracking.uri=nowhere://",),
    ],
)
def test_mistakes_are_answered_as_by_train(lab: Lab, plan: Lab, line: tuple[str, ...]) -> None:
    code, _, said = plan(*line)
    expected, _, err = lab(*line)
    assert code == expected == 2
    assert said == err


def test_another_sweeper_is_refused_before_it_trains(plan: Lab, folder: Path) -> None:
    for launcher in ("workers", "basic"):
        line = ("-m", *QUIET, "seed=0,1", "hydra/sweeper=basic", f"hydra/launcher={launcher}")
        code, _, err = plan(*line)
        assert (code, "leave hydra/sweeper out" in err) == (2, True), err
    assert [file for file in contents(folder) if not file.endswith("multirun.yaml")] == []  # Hydra's own


def test_data_that_are_not_there_are_not_fetched(plan: Lab, folder: Path) -> None:
    code, _, err = plan("data=mnist", f"data.root={folder / 'none'}")
    assert code == 2
    assert f"vae-lab data mnist --root {folder / 'none'}\n" in err
    assert not (folder / "none").exists()


def test_the_seeds_that_can_settle_each_claim(plan: Lab) -> None:
    _, out, err = plan("-m", *QUIET, "model.layers=2,3", "seeds=3", CLAIM, "--format", "csv")
    claims = tables(out)[-1]
    assert [row["claim"] for row in claims] == ["C1"], err
    # Two architectures share no seed: swaps between samples settle from four on.
    assert [(row["at least (seeds)"], row["can be settled"]) for row in claims] == [("4.0", "no")]


def test_what_no_number_of_seeds_settles_is_said_to_be_settled_by_none(
    plan: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is planned for what C1 compares, and evaluation=quick does not measure what C2 is about."""
    monkeypatch.setattr(costs, "measured", lambda packs, _: [Cost(1.0, 1.0, 1.0, 0.0, 0.0)] * len(packs))
    both = CLAIM.replace("}}]", "}}, {id: C2, text: Clearer., metric: eval/sharpness, expect: better, "
                         "of: {model: cvae}, than: {model: vae}}]")  # fmt: skip
    code, out, err = plan(
        "-m", *QUIET, "model=vae,cvae", "model.layers=2", "seeds=12", both, "--format", "csv"
    )
    assert code == 0, err
    assert "Claim C1 stays undecided" in err
    assert "Claim C2 stays undecided" in err
    found = [(row["claim"], row["at least (seeds)"], row["can be settled"]) for row in tables(out)[-1]]
    assert found == [("C1", "", "no"), ("C2", "", "no")]


def test_claims_that_more_rounds_settle_are_held_against_the_most_seeds_of_seeds_auto(
    plan: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first round has the six seeds that C1 takes; the spread over three sizes takes more."""
    monkeypatch.setattr(costs, "measured", lambda packs, _: [Cost(1.0, 1.0, 1.0, 0.0, 0.0)] * len(packs))
    spread = ("}}, {id: C2, text: It is steadier., metric: test/loss, expect: smaller_spread, along: "
              "model.layers, of: {model: cvae}, than: {model: vae}}]")  # fmt: skip
    line = ("-m", *QUIET, "model=vae,cvae", "model.layers=2,3,4", CLAIM.replace("}}]", spread))
    code, out, err = plan(*line, "seeds=auto", "max_seeds=22", "--format", "csv")
    assert code == 0, err
    claims = tables(out)[-1]
    assert {row["at most (seeds)"] for row in claims} == {"22.0"}
    least = [float(row["at least (seeds)"]) for row in claims]
    first = float(tables(out)[0][0]["seeds"])
    assert least[0] <= first < least[1] <= 22
    assert [row["can be settled"] for row in claims] == ["yes", "yes"]


def test_a_claim_that_was_taken_back_before_any_run_was_seen_is_not_counted() -> None:
    claim = {"id": "C1", "metric": "test/loss"}
    declared = [Declared("a", 1, 0, claim, dropped=0), Declared("b", 2, 0, claim, dropped=3)]
    note = claims_table([], Plan("depth", declared=declared)).note
    assert "over 1 claims, 1 of them dropped after runs had been seen" in note


def test_of_many_sizes_some_are_tried_and_the_others_lie_between(
    plan: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(costs, "MOST_TRIALS", 3)
    code, out, err = plan("-m", *QUIET, "model.hidden_size=4,5,6,7,8", "seeds=10", "--format", "csv")
    assert code == 0, err
    points, _ = tables(out)
    assert len(points) == 5
    assert [row["by"] for row in points].count("trials of others") == 2


def test_sizes_lie_between_trials_of_the_same_evaluation_only(
    plan: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of these takes as many seconds as its evaluation has draws, whatever its size."""
    monkeypatch.setattr(costs, "MOST_TRIALS", 4)

    def measured(packs: Sequence[Sequence[Job]], _: object) -> list[Cost]:
        return [Cost(0.0, 0.0, pack[0].settings.evaluation.posterior_draws, 0.0, 0.0) for pack in packs]

    monkeypatch.setattr(costs, "measured", measured)
    axes = ("model.hidden_size=4,5,6", "evaluation.posterior_draws=10,1000")
    points, _ = tables(plan("-m", *QUIET, *axes, "seed=0,1", "--format", "csv")[1])
    assert [float(row["a run (s)"]) for row in points] == [10, 1000] * 3
    assert [row["by"] for row in points].count("trials of others") == 2


def test_samples_are_judged_as_long_as_their_number_and_data_take(
    plan: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "_seconds_of_samples", lambda job: 10.0 * job.settings.evaluation.samples)
    monkeypatch.setattr(trial, "_cost", lambda *_: Cost(0.0, 0.0, 1.0, 0.0, 0.0))
    line = ("-m", *QUIET, "evaluation.samples=0,100,1000", "seed=0")
    points, _ = tables(plan(*line, "--format", "csv")[1])
    assert [float(row["a run (s)"]) for row in points] == [1, 1001, 10_001]


def test_a_metric_of_the_users_own_is_taken_once_of_each_run_as_in_training(
    plan: Lab, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many measures of the lab's own there are beside it, each of which is timed by itself."""
    (folder / "own_of_plan.py").write_text(
        "from vae_lab.metrics import metric\n\ncalls = []\n\n\n"
        '@metric("calls", better="lower")\ndef count(model, images, labels):\n'
        "    calls.append(len(images))\n    return 1.0\n"
    )
    monkeypatch.syspath_prepend(str(folder))
    draws = ("evaluation.posterior_draws=2", "evaluation.importance_samples=2")
    code, _, err = plan(*QUIET, "train.epochs=1", *draws, "evaluation.metrics=[own_of_plan.count]")
    assert code == 0, err
    assert len(sys.modules.pop("own_of_plan").calls) == 1


def test_judges_that_are_not_there_are_named_wherever_some_of_the_line_are(
    plan: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate, "judges_are_there", lambda job: job.settings.evaluation.judges == 2)
    monkeypatch.setattr(costs, "measured", lambda packs, _: [Cost(1.0, 1.0, 1.0, 0.0, 0.0)] * len(packs))
    _, out, _ = plan("-m", *QUIET, "evaluation.samples=100", "evaluation.judges=3,2")
    assert "classifiers that judge samples of digits are trained first" in " ".join(out.split())


def test_the_whole_time_is_that_of_the_rows_by_as_many_at_once(
    plan: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six runs, an hour each: by one worker six hours, by two of them three, and some seconds until then."""
    monkeypatch.setattr(costs, "measured", lambda packs, _: [Cost(600.0, 1200.0, 600.0, 0, 0)] * len(packs))
    line = ("-m", *QUIET, "model.layers=2,3", "seed=0,1,2", "--format", "csv")
    for workers, hours in ((1, 6), (2, 3)):
        points, whole = tables(plan(*line, f"hydra.launcher.workers={workers}")[1])
        assert sum(float(row["all (s)"]) for row in points) == 6 * 3600
        assert whole[0]["takes"] == f"{hours} h 0 min"


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is the extra `ray`")
@pytest.mark.parametrize(
    ("words", "at_once"),
    [
        ((), "8, with 1 thread each"),
        (("cpus=2",), "4, with 2 threads each"),
        (("cpus=0.5", "workers=3"), "3, with 1 thread each"),
        (("cpus=5", "workers=2"), "2, with 5 threads each"),  # a Ray of its own lends what its workers ask
        (("gpus=0.25",), "4, with 1 thread each"),
        (("gpus=1", "stack=2"), "1, with 1 thread each"),
        (("address=head:6379",), "1, with 1 thread each"),
        (("address=head:6379", "workers=6"), "6, with 1 thread each"),
    ],
)
def test_a_plan_reckons_with_as_many_workers_as_a_ray_has_room_for(
    plan: Lab, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], at_once: str
) -> None:
    """On a machine of eight cores and one GPU, of ten runs."""
    monkeypatch.setattr("vae_lab.jobs.crews.ray_crew.own_cpus", lambda cpus: max(8, cpus))
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr(costs, "seconds_of_judging", lambda packs, _: [0.0] * len(packs))
    monkeypatch.setattr(costs, "measured", lambda packs, _: [Cost(1.0, 1.0, 1.0, 0.0, 0.0)] * len(packs))
    launcher = ("hydra/launcher=ray", *(f"hydra.launcher.{word}" for word in words))
    line = ("-m", *QUIET, "seeds=10", *launcher)
    code, out, err = plan(*line, "--format", "csv")
    assert code == 0, err
    assert tables(out)[-1][1]["takes"] == at_once
    said = " ".join(plan(*line)[1].split())
    assert ("that Ray is not asked" in said) == ("address" in "".join(words))
    if not words:
        threads = tables(plan(*line, "train.threads=2", "--format", "csv")[1])[-1]
        assert threads[1]["takes"] == "8, with 2 threads each"
        code, _, err = plan(*line, "hydra.launcher.gpus=2")
        assert code == 2
        assert "no machine of this Ray has as many; they have 8 CPUs and 1 GPUs." in err


def test_a_launcher_that_does_not_say_how_many_it_trains_at_once_gets_a_remark(job: Job) -> None:
    for launcher, remark in ((BasicLauncher(), ""), (None, ""), (object(), "object does not say how many")):
        shared = estimate.sharing_of(launcher)([job], 4)
        assert (shared.shares.workers, shared.remark.partition(" runs")[0]) == (1, remark)


def test_measures_that_came_later_are_not_in_the_time_that_a_run_took(lab: Lab, plan: Lab) -> None:
    """Nor are they in its threads; a run of a version that did not say what came later tells no time."""
    draws, trained = "evaluation.posterior_draws=20", (*QUIET, "train.threads=1")
    assert lab(*trained)[0] == 0
    code, _, err = lab(*QUIET, draws)
    assert code == 0, err
    assert "is there already" in err
    assert sources(plan(*trained, "seed=1", "--format", "csv")) == ["runs of the store"]
    assert sources(plan(*trained, "seed=1", draws, "--format", "csv")) == ["a trial here"]
    store = Store.open()
    (run,) = store.records()
    store.client.delete_tag(run.run_id, EVALUATION_AT_END)
    assert sources(plan(*trained, "seed=1", "--format", "csv")) == ["a trial here"]
    assert lab(*trained, "seed=1", draws)[0] == 0
    assert sources(plan(*trained, "seed=2", draws, "--format", "csv")) == ["runs of the store"]


def stored(run_id: str, parent: str, started: int, ended: int, status: str = "FINISHED") -> StoredRun:
    tags = {"mlflow.parentRunId": parent} if parent else {}
    return StoredRun(run_id, "1", run_id, status, {}, {}, tags, started, ended)


@pytest.mark.parametrize("tag", ["3", '["cores"]', '{"cores": "2"'])
def test_a_run_whose_environment_is_cut_or_a_strangers_tells_no_time_and_stops_no_plan(
    lab: Lab, plan: Lab, tag: str
) -> None:
    assert lab(*QUIET)[0] == 0
    store = Store.open()
    (run,) = store.records()
    store.client.set_tag(run.run_id, ENVIRONMENT, tag)
    code, out, err = plan(*QUIET, "seed=1", "--format", "csv")
    assert code == 0, err
    assert [row["by"] for row in tables(out)[0]] == ["a trial here"]


def test_what_comes_after_the_last_run_is_known_from_multiruns_of_the_store() -> None:
    """Milliseconds: of two runs the last ended at 8 s, and the tables at 12; of one at 2 s, the page at 9."""
    two, one = stored("two", "", 1, 12_000), stored("one", "", 1, 9_000)
    taken_over, killed = stored("three", "", 8_500, 8_900), stored("four", "", 1, 90_000, "KILLED")
    runs = [stored("a", "two", 2, 5_000), stored("b", "two", 2, 8_000), stored("c", "one", 2, 2_000)]
    runs += [stored("d", "three", 2, 8_000), stored("e", "four", 2, 3_000)]
    parents = [killed, taken_over, two, one]
    assert costs.after_the_last(parents, runs, 10) == pytest.approx((2 + 7) / 2 * 10)
    assert costs.after_the_last([taken_over, killed], runs, 10) is None


def test_a_plan_says_that_the_end_of_a_multirun_is_left_out_while_nothing_tells_it(
    lab: Lab, plan: Lab
) -> None:
    assert "tables and the page at its end are not in the time" in " ".join(plan(*LINE)[1].split())
    assert lab(*LINE)[0] == 0
    assert "at its end" not in " ".join(plan(*LINE, "seed=3,4")[1].split())


def test_a_plan_judges_by_the_tests_that_its_runs_allow_and_over_dropped_claims(lab: Lab, plan: Lab) -> None:
    """Six seeds that seeds=auto chose, of two claims of which one is dropped; `train` would say the same."""
    both = CLAIM.replace("}}]", "}}, {id: C2, text: It does not., metric: test/loss, expect: better, "
                         "of: {model.layers: 3}, than: {model.layers: 2}}]")  # fmt: skip
    line = ("-m", *QUIET, "train.epochs=1", "model.layers=2,3", "study.name=depth")
    code, _, err = lab(*line, both, "seeds=auto", "max_seeds=6")
    assert code == 0, err
    code, out, err = plan(*line, CLAIM, "seeds=6", "--format", "csv")
    assert code == 0, err
    assert "seeds=auto chose runs of it" in err
    (row,) = tables(out)[-1]
    assert (row["claim"], row["at least (seeds)"]) == ("C1", "6.0"), "swaps at looks; fixed ones say 5"
    assert "over 2 claims, 1 of them dropped" in " ".join(plan(*line, CLAIM, "seeds=6")[1].split())
    assert lab(*line, CLAIM, "seeds=6")[0] == 0
    verdict, _ = judge_study(load_study(Store.open(), "depth"))
    assert verdict.sequential
    assert row["so far"].partition(",")[0] == verdict.verdict
