import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.conftest import SMALL
from vae_lab.cli.group import commands
from vae_lab.errors import UserError
from vae_lab.jobs.runs import measuring
from vae_lab.jobs.runs.absence import ABSENT
from vae_lab.metrics import metric_named
from vae_lab.tracking import EVALUATION, NOTE, RUN, Store, StoredRun

Lab = Callable[..., tuple[int, str, str]]
CHEAP = ("evaluation.importance_samples=2", "evaluation.importance_images=20", "evaluation.samples=200")


def evaluate(*arguments: str) -> Result:
    return CliRunner().invoke(commands, ["evaluate", *arguments])


def runs() -> list[StoredRun]:
    return Store.open().records(f"tags.`vae_lab.kind` = '{RUN}'")


def test_a_run_with_full_evaluation_has_what_evaluate_adds_to_a_quick_one(lab: Lab) -> None:
    assert lab(*SMALL, "model=cvae", "evaluation=full", *CHEAP)[0] == 0
    (with_full,) = runs()
    assert lab(*SMALL, "model=cvae", "reuse=never")[0] == 0
    quick = next(run for run in runs() if run.run_id != with_full.run_id)
    assert not {key for key in quick.metrics if key.startswith("eval/")}
    assert EVALUATION not in quick.tags
    assert quick.metrics.keys() == {key for key in with_full.metrics if not metric_named(key).needs}

    store = Store.open()  # where a point stands twice, as two processes told it
    store.client.log_metric(quick.run_id, "test/loss", quick.metrics["test/loss"], int(time.time() * 1000), 2)
    result = evaluate(quick.run_id, *CHEAP)
    assert result.exit_code == 0, result.output
    added = Store.open().record(quick.run_id)
    timed = {key for key in added.metrics if "seconds" in key}
    assert added.metrics.keys() == with_full.metrics.keys()
    for key in added.metrics.keys() - timed - {"train/images_per_second"}:
        assert added.metrics[key] == pytest.approx(with_full.metrics[key], rel=1e-4, abs=1e-6), key
    assert added.tags[EVALUATION] == with_full.tags[EVALUATION]
    assert "importance_samples=2" in added.tags[EVALUATION]
    steps = Store.open().client.get_metric_history(quick.run_id, "eval/precision")
    assert [point.step for point in steps] == [2]


def test_a_study_is_measured_once_and_its_tables_are_written_again(lab: Lab, folder: Path) -> None:
    assert lab("-m", *SMALL, "train.epochs=1", "model.latent_size=2,3", "data.binarize=fixed")[0] == 0
    store = Store.open()
    (parent,) = store.records("tags.`vae_lab.kind` = 'sweep'")
    table = store.download(parent.run_id, "tables/ablations.md")
    table.unlink()
    arguments = (parent.run_id, "evaluation.samples=0", "evaluation.importance_samples=0")
    first = evaluate(*arguments)
    assert first.exit_code == 0, first.output
    assert first.output.count("✓") == 2
    assert table.is_file()
    assert all("test/collapsed_units" in run.metrics for run in runs())

    assert evaluate(*arguments).output.count("has these measures") == 2

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measuring, "conclude", interrupted)
        assert evaluate(*arguments, "--again").exit_code == 1
    table.unlink()
    assert evaluate(*arguments).output.count("has these measures") == 2
    assert table.is_file(), "what the interrupted command owed"
    assert measuring.OUTDATED not in store.record(parent.run_id).tags
    assert evaluate(*arguments, "--again").output.count("✓") == 2
    assert evaluate(*arguments, "evaluation.posterior_draws=2").output.count("✓") == 2


def test_fewer_measures_leave_a_run_what_it_has_and_more_add_what_it_lacks(lab: Lab) -> None:
    assert lab(*SMALL, "evaluation=full", *CHEAP)[0] == 0
    (run,) = runs()
    fewer = (run.run_id, "evaluation.importance_samples=0", "evaluation.samples=0")
    draws = run.tags[EVALUATION].split()[0]
    assert draws.startswith("posterior_draws=")
    assert "has these measures" in evaluate(*fewer, f"evaluation.{draws}").output
    assert "✓" in evaluate(*fewer, "evaluation.posterior_draws=7").output
    store = Store.open()
    said = store.record(run.run_id).tags[EVALUATION]
    assert said == run.tags[EVALUATION].replace(draws, "posterior_draws=7"), "the rest is there still"
    points = {key: len(store.history(run.run_id, key)) for key in ("test/iwae_bound", "eval/precision")}
    assert (
        "✓"
        in evaluate(
            run.run_id, *CHEAP, "evaluation.posterior_draws=7", "evaluation.importance_samples=3"
        ).output
    )
    assert len(store.history(run.run_id, "test/iwae_bound")) == points["test/iwae_bound"] + 1
    assert len(store.history(run.run_id, "eval/precision")) == points["eval/precision"], "it was there"


def test_a_run_that_cannot_be_read_is_named_and_the_others_go_on(lab: Lab) -> None:
    assert lab("-m", *SMALL, "train.epochs=1", "seed=0,1")[0] == 0
    store = Store.open()
    damaged, _ = runs()
    store.download(damaged.run_id, "model/model.pt").write_bytes(b"nothing")
    (parent,) = store.records("tags.`vae_lab.kind` = 'sweep'")
    result = evaluate(parent.run_id, "evaluation.samples=0", "evaluation.importance_samples=0")
    assert result.exit_code == 1
    assert result.output.count("✓") == 1
    assert "model.pt: is damaged" in result.output


def test_a_multirun_with_full_evaluation_measures_the_runs_that_it_reuses(lab: Lab) -> None:
    several = ("-m", *SMALL, "train.epochs=1", "seed=0,1")
    assert lab(*several)[0] == 0
    assert not any(EVALUATION in run.tags for run in runs())
    code, _, err = lab(*several, "evaluation=full", "evaluation.importance_samples=0", "evaluation.samples=0")
    assert code == 0, err
    assert len(runs()) == 2
    assert all("test/collapsed_units" in run.metrics for run in runs())


@pytest.mark.parametrize("several", [(), ("-m", "seed=0,1")])
def test_a_reused_run_that_cannot_be_measured_is_a_failure(lab: Lab, several: tuple[str, ...]) -> None:
    assert lab(*several, *SMALL, "train.epochs=1")[0] == 0
    store = Store.open()
    store.download(runs()[0].run_id, "model/model.pt").write_bytes(b"nothing")
    full = ("evaluation=full", "evaluation.importance_samples=0", "evaluation.samples=0")
    code, _, err = lab(*several, *SMALL, "train.epochs=1", *full)
    assert code == 1
    assert "could not be measured" in err


def test_only_what_is_measured_can_be_overridden() -> None:
    allowed = measuring.evaluation_overrides
    assert allowed(["evaluation.samples=500"]) == [
        "evaluation=full",
        "evaluation.samples=500",
    ]
    assert allowed(["evaluation=quick"]) == ["evaluation=quick"]
    with pytest.raises(UserError, match=r"^model\.layers=2: a finished run keeps its settings"):
        allowed(["model.layers=2"])


def test_mistakes_are_one_message(lab: Lab) -> None:
    assert lab(*SMALL, "optimizer=sgd", "optimizer.lr=1e20")[0] == 1
    (failed,) = runs()
    for arguments, message in (
        ((failed.run_id,), "is FAILED; only finished runs"),
        (("nothing",), "nothing: no run of that id or name in"),
        ((failed.run_id, "evaluation=quick"), "all 0, nothing to measure"),
        ((failed.run_id, "evaluation.foo=1"), "evaluation.foo: unknown key"),
        (
            (failed.run_id, "evaluation=none"),
            "evaluation=none: no such option. Valid: annealed, full, quick.",
        ),
    ):
        result = evaluate(*arguments)
        assert isinstance(result.exception, UserError)
        assert message in str(result.exception)


BRIEF = (*SMALL, "train.epochs=1", "evaluation.pictures=false")
OWN = ("evaluation=quick", "evaluation.metrics=[my_bright.bright]")
BRIGHT = """
from vae_lab.metrics import metric

@metric("brightness")
def bright(model, images, labels):
    return {}

@metric("darkness")
def dark(model, images, labels):
    raise ValueError("too dark")
"""


@pytest.fixture
def rewrite(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Writes the file of a metric of one's own anew, as a process that starts later would read it."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.syspath_prepend(str(folder))

    def write(returned: str) -> None:
        (folder / "my_bright.py").write_text(BRIGHT.format(returned))
        sys.modules.pop("my_bright", None)

    yield write
    sys.modules.pop("my_bright", None)


def test_a_metric_that_fails_by_new_code_has_neither_the_value_nor_the_tag_of_it(
    lab: Lab, rewrite: Callable[[str], None]
) -> None:
    rewrite("0.25")
    assert lab(*BRIEF, *OWN)[0] == 0
    (before,) = runs()
    assert before.metrics["own/bright"] == 0.25
    assert "own/bright=" in before.tags[EVALUATION]
    rewrite("1 / 0")
    assert evaluate(before.run_id, *OWN).exit_code == 0
    (failed,) = runs()
    assert "own/bright" not in failed.metrics
    assert failed.metrics.keys() == before.metrics.keys() - {"own/bright"}
    assert EVALUATION not in failed.tags
    assert failed.tags[ABSENT] == "own/bright (division by zero)"
    assert "\n\nNot measured: own/bright (division by zero).\n\nPictures: " in failed.tags[NOTE]
    rewrite("0.5")
    assert "✓" in evaluate(before.run_id, *OWN).output
    (measured,) = runs()
    assert measured.metrics["own/bright"] == 0.5
    assert ABSENT not in measured.tags
    assert measured.tags[NOTE] == before.tags[NOTE]
    assert "has these measures" in evaluate(before.run_id, *OWN).output


def test_a_metric_that_fails_after_training_is_measured_once_its_cause_is_gone(
    lab: Lab, rewrite: Callable[[str], None], folder: Path
) -> None:
    rewrite("float(__import__('pathlib').Path('level.txt').read_text())")
    assert lab(*BRIEF, *OWN)[0] == 0
    (failed,) = runs()
    assert EVALUATION not in failed.tags
    assert "level.txt" in failed.tags[ABSENT]
    (folder / "level.txt").write_text("0.75")
    assert "✓" in evaluate(failed.run_id, *OWN).output
    (measured,) = runs()
    assert measured.metrics["own/bright"] == 0.75
    assert ABSENT not in measured.tags
    assert "Not measured" not in measured.tags[NOTE]


def test_reasons_of_what_is_not_measured_now_stay(lab: Lab, rewrite: Callable[[str], None]) -> None:
    rewrite("1 / 0")
    assert lab(*BRIEF, *OWN)[0] == 0
    (run,) = runs()
    assert evaluate(run.run_id, OWN[0], "evaluation.metrics=[my_bright.dark]").exit_code == 0
    (measured,) = runs()
    assert measured.tags[ABSENT] == "own/bright (division by zero); own/dark (too dark)"


def test_fewer_judges_leave_no_errors_of_more(lab: Lab) -> None:
    judged = ("evaluation.posterior_draws=0", "evaluation.importance_samples=0", "evaluation.samples=100")
    assert lab(*BRIEF, "evaluation=full", *judged, "evaluation.judges=2")[0] == 0
    (run,) = runs()
    assert "eval/recall_error" in run.metrics
    assert "✓" in evaluate(run.run_id, *judged, "evaluation.judges=1").output
    (measured,) = runs()
    assert "eval/recall" in measured.metrics
    assert "eval/recall_error" not in measured.metrics
