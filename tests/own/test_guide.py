"""Every file and command of docs/extending.md works, and what is of one's own is a run like any other."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import onnxruntime
import pytest
import torch
from click.testing import CliRunner

import vae_lab
from tests.guide import lines, trains
from tests.own.conftest import GUIDE
from vae_lab import checkpoints, tracking
from vae_lab.cli.group import commands
from vae_lab.report import tables
from vae_lab.studies.claims import judge_study
from vae_lab.studies.study import load_study
from vae_lab.tracking import Store, StoredRun
from vae_lab.trained.doctor.stored import audited_run
from vae_lab.trained.explorer.contents import gather
from vae_lab.trained.loading import model_of
from vae_lab.trained.reference import chosen_run
from vae_lab.trained.registry.graphs import graphs_of

IN_PLACE = {r"\bRUN\b": "'tempered L3 Z15 s0'"}
ASKING = [words for words in lines(GUIDE, "vae-lab", IN_PLACE) if not trains(words)]


@pytest.fixture
def store(trained_guide: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.chdir(trained_guide)
    monkeypatch.setenv("XDG_STATE_HOME", str(trained_guide / "state"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Store.open()


def runs_of(store: Store, **params: str) -> list[StoredRun]:
    """The runs that have these parameters, with __ for a dot."""
    wanted = {key.replace("__", "."): value for key, value in params.items()}
    runs = [run for run in store.records() if run.kind == tracking.RUN]
    return [run for run in runs if wanted.items() <= run.params.items()]


def test_every_run_of_the_guide_has_finished(store: Store) -> None:
    assert [run.name for run in store.records() if run.status != "FINISHED"] == []
    assert {run.params["data"] for run in runs_of(store)} == {"digits", "kanji", "stripes", "shapes"}


@pytest.mark.parametrize("words", ASKING, ids=shlex.join)
def test_every_other_command_of_the_guide_answers(store: Store, words: list[str]) -> None:
    (tempered,) = runs_of(store, model="tempered")
    given = [tempered.run_id if word == "STUDY" else word for word in words]
    quick = ["evaluation=quick", "evaluation.posterior_draws=2"] if words[0] == "evaluate" else []
    result = CliRunner().invoke(commands, [*given, *quick])
    assert result.exit_code == 0, f"{result.output} {result.exception}"
    assert result.output.strip()


def test_a_convolutional_model_is_a_vae_and_a_cvae(store: Store) -> None:
    vae, cvae = (
        runs_of(store, model="convolutional", model__conditional=conditional, objective="bernoulli")[0]
        for conditional in ("False", "True")
    )
    assert not Path(store.place(vae.run_id, tracking.CLASS_FILE)).exists()
    assert Path(store.place(cvae.run_id, tracking.CLASS_FILE)).exists()
    model = checkpoints.load_model(
        store.download(cvae.run_id, "model/model.pt"), trusted=["my_convolutions.Convolutional"]
    )
    assert model.logits(torch.zeros(2, 15), torch.eye(10)[:2]).shape == (2, 64)
    explorer = gather([model_of(store, run, trust=["my_convolutions.Convolutional"]) for run in (vae, cvae)])
    assert explorer.remarks == [], "the explorer decodes with both"


def test_a_loss_is_told_apart_by_its_class_and_options(store: Store) -> None:
    one, five = (
        runs_of(store, objective__options__draws=draws, objective__likelihood="bernoulli")[0]
        for draws in "15"
    )
    assert [run.params["objective"] for run in (one, five)] == [
        "importanceweighted(draws=1)",
        "importanceweighted(draws=5)",
    ]
    assert five.metrics["test/loss"] < five.metrics["test/negative_elbo"]
    (table,) = [
        table
        for table in tables.study_tables(load_study(store, "several_draws"))
        if "held-out loss" in [column.heading for column in table.columns]
    ]
    assert not table.marked, "bounds of several draws are not ranked"


def test_the_weights_of_a_likelihood_are_trained_and_kept_with_the_model(store: Store) -> None:
    (run,) = runs_of(store, objective="learnedstd")
    file = store.download(run.run_id, "model/model.pt")
    log_std = torch.load(file, weights_only=True)["weights"]["likelihood.log_std"]
    assert float(log_std.exp()) != pytest.approx(0.1, rel=1e-3)
    assert [name for name in checkpoints.load_model(file).state_dict() if "likelihood" in name] == []


def test_a_run_with_a_loss_of_ones_own_is_measured_once_its_classes_are_trusted(store: Store) -> None:
    (run,) = runs_of(store, objective="learnedstd")
    line = ["evaluate", run.run_id, "evaluation=quick", "evaluation.posterior_draws=2"]
    refused = CliRunner().invoke(commands, line)
    assert refused.exit_code == 1
    assert "objective.likelihood: names my_likelihoods.LearnedStd, which is not the" in refused.output
    assert CliRunner().invoke(commands, [*line, "--trust", "my_likelihoods.LearnedStd"]).exit_code == 0
    measured = store.record(run.run_id).metrics
    # The draws differ, the standard deviation must not: with the first one the loss would be another by far.
    assert measured["test/averaged_loss"] == pytest.approx(measured["test/loss"], rel=0.05)


@pytest.mark.parametrize(
    "params",
    [
        {"model": "convolutional", "model__conditional": "True"},
        {"model": "convolutional", "objective": "discretizedlogistic(levels=256)"},
        {"objective": "learnedstd"},
    ],
    ids=["convolutions, with a label", "two numbers a pixel", "a likelihood with weights"],
)
def test_what_is_of_ones_own_is_given_away_as_onnx(store: Store, params: dict[str, str]) -> None:
    run = runs_of(store, **params)[0]
    names = [
        "my_convolutions.Convolutional",
        "my_likelihoods.DiscretizedLogistic",
        "my_likelihoods.LearnedStd",
    ]
    lab = vae_lab.load(run.run_id, trust=names)
    images, labels = lab.examples(3)
    z = lab.encode(images, labels).mean
    label = {"label": labels.numpy()} if lab.conditional else {}
    decode, encode = (
        onnxruntime.InferenceSession(graph.model.SerializeToString(), providers=["CPUExecutionProvider"])
        for graph in graphs_of(lab.module, lab.likelihood, lab.shape)
    )
    (decoded,) = decode.run(None, {"z": z.numpy(), **label})
    torch.testing.assert_close(torch.from_numpy(decoded), lab.decode(z, labels), atol=1e-4, rtol=0)
    mean, _ = encode.run(None, {"x": images.numpy(), **label})
    torch.testing.assert_close(torch.from_numpy(mean), z, atol=1e-4, rtol=1e-4)


def test_a_metric_of_ones_own_is_in_tables_verdicts_and_plan(store: Store) -> None:
    study = load_study(store, "disentangling")
    assert all(-1 <= run.metrics["own/mig"] <= 1 for run in study.runs)
    (table,) = [table for table in tables.study_tables(study) if "own metrics" in table.title]
    assert [column.title for column in table.columns][-1] == "mutual information gap"
    (verdict,) = judge_study(study)
    assert verdict.n == 2
    assert "mutual information gap" in verdict.sentence
    (defined,) = json.loads(study.plan.to_json())["metrics"]
    assert (defined["key"], defined["better"]) == ("own/mig", "higher")
    compared = CliRunner().invoke(
        commands, ["compare", "disentangling", "--metric", "own/mig", "--format", "markdown"]
    )
    assert "mutual information gap" in compared.output
    assert chosen_run(store, "disentangling:best:own/mig").reason.startswith("highest mutual information gap")


def test_a_finished_study_gets_a_metric_later_and_keeps_it(store: Store, trained_guide: Path) -> None:
    line = next(words for words in ASKING if words[:2] == ["evaluate", "disentangling"])
    again = CliRunner().invoke(commands, line)
    assert again.exit_code == 0, again.output
    assert again.output.count("has these measures") == 4
    (trained_guide / "my_light.py").write_text(
        "from vae_lab.metrics import metric\n"
        "@metric('mean light', unit='of white', digits=2)\n"
        "def light(model, images, labels):\n"
        "    return model.reconstruct(images, labels).mean() / (images.shape[1:] == (1, 16, 16))\n"
    )
    words = [word.replace("my_metrics.mig", "my_light.light") for word in line]
    assert CliRunner().invoke(commands, words).exit_code == 0
    study = load_study(store, "disentangling")
    assert all(0 < run.metrics["own/light"] < 1 for run in study.runs)
    assert [own.heading for own in study.plan.own_metrics] == ["mutual information gap", "mean light"]


def test_the_claims_of_the_clothes_are_judged(store: Store) -> None:
    assert [verdict.claim.id for verdict in judge_study(load_study(store, "clothes"))] == ["F1", "F2"]


def test_the_doctor_finds_no_fault_in_what_is_of_ones_own(store: Store) -> None:
    keys = ("model._target_", "objective._target_", "objective.likelihood", "data._target_")
    different = (*keys, "model.conditional", "objective.options.draws")
    runs = {tuple(run.params.get(key) for key in different): run for run in runs_of(store)}.values()
    trusted = {run.params[key] for run in runs for key in keys}
    reports = [audited_run(store, run, trusted=trusted) for run in runs]
    assert {report.subject: report.of_grade("fault") for report in reports if report.worst == "fault"} == {}
    said = {
        report.unexamined["loss"]
        for report, run in zip(reports, runs, strict=True)
        if run.params.get("objective.options.draws") == "5"
    }
    assert said == {"the loss fails: it takes 5 draws of z an image, and is no sum of two terms"}
