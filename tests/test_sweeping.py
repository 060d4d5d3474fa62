from collections.abc import Callable
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from mlflow import MlflowClient
from omegaconf import DictConfig, OmegaConf

from tests.conftest import SMALL
from vae_lab import config, sweeping, tracking
from vae_lab.errors import UserError
from vae_lab.tracking import Store

Lab = Callable[..., tuple[int, str, str]]
Compose = Callable[..., DictConfig]
PARSER = OverridesParser.create()
REPORT = {
    "cross": {"model": ["vae", "cvae"]},
    "one_at_a_time": {"model.layers": [2, 3, 4], "model.latent_size": [10, 15, 30]},
    "replicate": {"seed": [0]},
}


def names(
    sweep: dict[str, object], composed: Compose, *overrides: str, seeds: int | None = None
) -> list[str]:
    found = sweeping.axes(
        OmegaConf.create({"cross": {}, "one_at_a_time": {}, "replicate": {}} | sweep),
        PARSER.parse_overrides(list(overrides)),
        PARSER,
        seeds,
    )
    points = sweeping.points(found, lambda values: composed(*values), {"optimizer": "adam"})
    return [point.name for point in points]


def test_the_reports_sweep_is_ten_runs_with_each_base_once(composed: Compose) -> None:
    assert names(REPORT, composed) == [
        f"{model} {rest} s0"
        for model in ("vae", "cvae")
        for rest in ("L3 Z15", "L2 Z15", "L4 Z15", "L3 Z10", "L3 Z30")
    ]


def test_seeds_go_round_so_that_every_configuration_runs_once_first(composed: Compose) -> None:
    found = names({"cross": {"model": "vae,cvae"}}, composed, "seed=0,1")
    assert found == ["vae L3 Z15 s0", "cvae L3 Z15 s0", "vae L3 Z15 s1", "cvae L3 Z15 s1"]


def test_a_value_on_the_command_line_replaces_its_axis(composed: Compose) -> None:
    assert names(REPORT, composed, "model=vae", "model.layers=2") == [
        *["vae L2 Z15 s0", "vae L2 Z10 s0", "vae L2 Z30 s0"]
    ]
    assert names({"one_at_a_time": {"model.layers": "2,3"}}, composed, "model.layers=range(3,6)") == [
        *["vae L3 Z15 s0", "vae L4 Z15 s0", "vae L5 Z15 s0"]
    ]


def test_other_lists_on_the_command_line_are_crossed(composed: Compose) -> None:
    found = names({"one_at_a_time": {"model.layers": [2, 3]}}, composed, "objective.beta=1,4")
    assert found == [
        "beta=1 vae L3 Z15 s0",
        "beta=1 vae L2 Z15 s0",
        "beta=4 vae L3 Z15 s0",
        "beta=4 vae L2 Z15 s0",
    ]


def test_the_base_is_trained_once_and_named_like_its_neighbours(composed: Compose) -> None:
    assert names({"one_at_a_time": {"objective.beta": [1, 4]}}, composed) == [
        *["beta=1 vae L3 Z15 s0", "beta=4 vae L3 Z15 s0"]
    ]
    assert names({"one_at_a_time": {"optimizer": ["adam", "sgd"]}}, composed) == [
        *["optimizer=adam vae L3 Z15 s0", "optimizer=sgd vae L3 Z15 s0"]
    ]


def test_a_number_of_seeds_replicates_every_point(composed: Compose) -> None:
    assert len(names(REPORT, composed, seeds=3)) == 30
    assert names({}, composed, "seed=7", seeds=3) == ["vae L3 Z15 s7"]


def test_lists_texts_and_nulls_are_values(composed: Compose) -> None:
    values = {"model.hidden_size": [[8, 8, 8], 16], "data.root": [None, "/x"]}
    assert len(names({"cross": values}, composed)) == 4


def test_the_first_invalid_point_stops_the_sweep(composed: Compose) -> None:
    with pytest.raises(UserError, match=r"model\.layers=0: must be"):
        names({"cross": {"model.layers": [3, 0]}}, composed)
    with pytest.raises(UserError, match="empty list"):
        names({"cross": {"model.layers": []}}, composed)
    with pytest.raises(UserError, match=r"takes lists, choice\(\.\.\.\) and range\(\.\.\.\) only"):
        names({}, composed, "objective.beta=interval(0,1)")


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
        (["-m", "model.layers=2,x"], "model.layers: Value 'x'"),
        (["-m", "model.layers=2,0"], "model.layers=0: must be"),
        (["-m", "model.layer=2,3"], "model.layer: unknown key; did you mean model.layers?"),
        (["-m", "model=vae,vea"], "model=vea: no such option; did you mean vae?"),
        (["sweeps=depht"], "sweeps=depht: no such option; did you mean depth?"),
        (["-m", "train.device=cpu,cuda:99"], "train.device=cuda:99"),
        (["-m", "seed=0,1", "study.claims=[{id:C1,expect:incresing}]"], "claim C1: expect=incresing"),
        (["sweep.cross={model.layers:[2,3]}", "-m"], "sweep.cross: nothing of that name is in it"),
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
    assert "[2/2] cvae L3 Z15 s2" in err
    runs = [record for record in Store.open().records() if record.kind == tracking.RUN]
    assert len(runs) == 6
    assert [line.split()[-1] for line in out.splitlines() if line.strip().startswith(("vae ", "cvae "))] == [
        "3",
        "3",
    ]
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
    assert "**C7** The CVAE is less sensitive" in parent.tags[tracking.NOTE]
    assert "report" not in out  # its values are MNIST's after ten epochs, not these


def test_the_reports_values_stand_in_the_reference_study(composed: Compose) -> None:
    settings = config.checked(composed("experiments=reference"))
    values = settings.study.reference["values"]
    assert len(values) == 10
    assert all(len(entry["epochs"]) == 10 for entry in values)
    base = next(entry for entry in values if entry["model"] == "vae" and entry["model.layers"] == 3)
    assert base["epochs"][-1] == 108.947662
