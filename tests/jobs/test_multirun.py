from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient
from omegaconf import DictConfig

from tests.conftest import SMALL
from vae_lab import config, tracking
from vae_lab.studies.study import load_study
from vae_lab.tracking import Store

Lab = Callable[..., tuple[int, str, str]]
Compose = Callable[..., DictConfig]


def test_a_sweep_keeps_its_runs_under_a_parent_with_tables_and_pictures(ablations: Path) -> None:
    client = MlflowClient(f"sqlite:///{ablations / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("vae_lab")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in runs if run.data.tags[tracking.KIND] == tracking.SWEEP]
    children = [run for run in runs if run.data.tags.get(tracking.PARENT) == parent.info.run_id]
    assert len(children) == 10
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {run.data.tags[tracking.STUDY] for run in runs} == {"ablations"}
    assert parent.info.run_name == "ablations"
    artifacts = {
        file.path
        for kind in ("figures", "tables")
        for file in client.list_artifacts(parent.info.run_id, kind)
    }
    assert artifacts == {
        *["figures/contact_sheet.png", "figures/held_out_loss.png"],
        *(f"tables/ablations.{suffix}" for suffix in ("csv", "html", "md", "tex")),
    }
    note = parent.data.tags[tracking.NOTE]
    assert "### Depth (model.layers)" in note
    assert "### Latent size (model.latent_size)" in note
    assert note.count("| cvae ") == 6


def test_a_failing_run_leaves_the_others_and_is_told(lab: Lab) -> None:
    code, out, err = lab(*SMALL, "-m", "optimizer=sgd", "optimizer.lr=1e-5,1e20,1e-4")
    assert code == 1
    assert "1 of 3 runs failed" in err
    assert "lr=1e+20 vae L3 Z15 s0: training diverged" in err
    statuses = {record.name: record.status for record in Store.open().records()}
    assert statuses == {
        "lr=1e-05 vae L3 Z15 s0": "FINISHED",
        "lr=1e+20 vae L3 Z15 s0": "FAILED",
        "lr=0.0001 vae L3 Z15 s0": "FINISHED",
        "lr": "FAILED",
    }
    assert "failed" in out
    assert "Contact sheet" in out


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["-m", "model.layers=2,x"], "model.layers=x: must be a whole number"),
        (["-m", "model.layers=2,0"], "model.layers=0: must be"),
        (["-m", "model.layer=2,3"], "model.layer: unknown key; did you mean model.layers?"),
        (["-m", "model=vae,vea"], "model=vea: no such option; did you mean vae?"),
        (["sweeps=depht"], "sweeps=depht: no such option; did you mean depth?"),
        (["-m", "train.device=cpu,cuda:99"], "train.device=cuda:99"),
        (["-m", "train.threads=1,2"], "train.threads=1,2: is of all runs together"),
        (["-m", "tracking.experiment=a,b"], "tracking.experiment=a,b: is of the multirun as a whole"),
        (["-m", "hydra/sweeper=search", "train.threads=1,2"], "train.threads=1,2: is of all runs together"),
        (["-m", "seed=0,1", "study.claims=[{id:C1,expect:incresing}]"], "claim C1: expect=incresing"),
        (["sweep.cross={model.layers:[2,3]}", "-m"], "has keys that sweep.cross has not. To add it"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_every_point_is_checked_before_the_first_is_trained(
    lab: Lab, folder: Path, overrides: list[str], message: str
) -> None:
    code, out, err = lab(*[each for each in SMALL if "device" not in each], *overrides)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert list(folder.iterdir()) == []


def test_a_sweep_given_again_trains_only_what_is_missing(lab: Lab) -> None:
    sweep = (*SMALL, "train.epochs=1", "-m", "model=vae,cvae")
    assert lab(*sweep, "seeds=2")[0] == 0
    code, out, err = lab(*sweep, "seeds=3")
    assert code == 0
    assert "4 of 6 runs are there already, training 2" in err
    assert "[2/2]" in err
    assert "cvae L3 Z15 s2" in err
    runs = [record for record in Store.open().records() if record.kind == tracking.RUN]
    assert len(runs) == 6
    rows = [line.split() for line in out.splitlines() if line.startswith(("vae ", "cvae "))]
    assert [row[:2] for row in rows] == [["vae", "3"], ["cvae", "3"]]  # and n
    code, out, err = lab(*sweep, "seeds=3")
    assert "6 of 6 runs are there already, nothing is left to train" in err
    assert "Contact sheet" in out
    code, _, err = lab(*sweep, "seeds=1", "reuse=never")
    assert "already" not in err
    assert len([record for record in Store.open().records() if record.kind == tracking.RUN]) == 8


def test_option_groups_make_rows_of_their_own(lab: Lab) -> None:
    code, out, err = lab(*SMALL, "train.epochs=1", "-m", "optimizer=adam,sgd")
    assert code == 0, err
    assert [line.split()[0] for line in out.splitlines() if line.strip().startswith(("adam", "sgd"))] == [
        "adam",
        "sgd",
    ]


def test_a_number_of_seeds_needs_a_multirun(lab: Lab, folder: Path) -> None:
    code, _, err = lab(*SMALL, "seeds=2")
    assert code == 2
    assert "seeds=2: is for a multirun; add -m" in err
    assert list(folder.iterdir()) == []


def test_the_reference_study_keeps_question_values_and_claims(lab: Lab) -> None:
    code, out, err = lab(
        *SMALL, "experiments=reference", "train.epochs=1", "model.layers=3", "model.latent_size=15"
    )
    assert code == 0, err
    parent = next(record for record in Store.open().records() if record.kind == tracking.SWEEP)
    assert parent.name == "reference"
    assert "What do depth and latent size do" in parent.tags[tracking.NOTE]
    assert "**C7, undecided.** *The CVAE is less sensitive" in parent.tags[tracking.NOTE]
    assert (
        "report" not in out.partition("Contact sheet")[0]
    )  # its values are MNIST's after ten epochs, not these


def test_the_reports_values_stand_in_the_reference_study(composed: Compose) -> None:
    settings = config.checked(composed("experiments=reference"))
    values = settings.study.reference["values"]
    assert len(values) == 10
    assert all(len(entry["epochs"]) == 10 for entry in values)
    base = next(entry for entry in values if entry["model"] == "vae" and entry["model.layers"] == 3)
    assert base["epochs"][-1] == 108.947662


CLAIMED = """\
# @package _global_
# Does a wide network end at a lower loss than a very narrow one?
study:
  name: width
  claims:
    - id: W1
      text: Width lowers the held-out loss.
      metric: test/loss
      expect: decreasing
      along: model.hidden_size
sweep:
  cross: {model.hidden_size: [1, 64]}
hydra: {mode: MULTIRUN}
"""


def test_seeds_are_not_added_for_a_claim_on_what_no_run_measures(lab: Lab, folder: Path) -> None:
    code, _, err = lab("experiments=reference", "seeds=auto")
    assert code == 2
    assert err.startswith(
        "vae-lab: seeds=auto: claim C3 is about eval/recognizable_share, which is not measured with "
        "evaluation.samples=0"
    )
    assert not list(folder.iterdir())


def test_seeds_are_added_in_rounds_until_the_claims_are_settled(lab: Lab, folder: Path) -> None:
    (folder / "own" / "experiments").mkdir(parents=True)
    (folder / "own" / "experiments" / "width.yaml").write_text(CLAIMED)
    code, out, err = lab(
        *("--config-dir", "own", "data=digits", "train.epochs=1", "experiments=width"),
        *("seeds=auto", "max_seeds=12", "evaluation.pictures=false"),
    )
    assert code == 0, err
    parent = next(record for record in Store.open().records() if record.kind == tracking.SWEEP)
    runs = Store.open().members(parent.run_id)
    seeds = {int(run.params["seed"]) for run in runs}
    assert len(runs) == 2 * len(seeds)
    assert seeds == set(range(len(seeds)))
    assert 5 < len(seeds) < 12
    assert parent.tags["vae_lab.verdict.W1"] == "supported"
    assert "Verdicts on the study's claims" in out

    # Its seeds were chosen by their verdicts: a study that takes them over is not judged as if they were not.
    code, out, err = lab(
        *("--config-dir", "own", "data=digits", "train.epochs=1", "experiments=width"),
        *(f"seeds={len(seeds)}", "evaluation.pictures=false"),
    )
    assert code == 0, err
    assert "seeds=auto chose runs of it" in out + err
    assert load_study(Store.open(), "width").plan.sequential


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["seeds=auto", "-m"], "seeds=auto: is for a study that declares claims"),
        (["seeds=many", "-m"], "seeds=many: must be null, auto or a whole number from 1 to 10000"),
        (["seeds=0", "-m"], "seeds=0: must be null, auto or"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_number_of_seeds_is_named(lab: Lab, folder: Path, overrides: list[str], message: str) -> None:
    code, _, err = lab(*SMALL, *overrides)
    assert code == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert list(folder.iterdir()) == []


def test_finished_runs_are_taken_under_sweepers_of_others_too(lab: Lab, folder: Path) -> None:
    line = ("-m", *SMALL, "train.epochs=1", "evaluation.pictures=false", "hydra/sweeper=basic")
    assert lab(*line, "model.latent_size=2")[0] == 0
    code, _, err = lab(*line, "model.latent_size=2,3", "evaluation.posterior_draws=2")
    assert code == 0, err
    assert "vae L3 Z2 s0 is there already" in err
    runs = Store.open().tagged(tracking.KIND, tracking.RUN)
    assert sorted(run.params["model.latent_size"] for run in runs) == ["2", "3"]
    assert all("test/averaged_loss" in run.metrics for run in runs), "measures that were asked for"
