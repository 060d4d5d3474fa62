"""A slip in what a study declares is told before the first run trains, as one in a point of its sweep is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.misuse.conftest import TINY, Answer, Lab
from tests.misuse.test_asked_for import own_file, refused
from vae_lab.files import CONFIG_ROOT
from vae_lab.tracking import SWEEP, Store

STUDY = """\
# @package _global_
study:
  name: own
  claims:
    - {{id: C1, text: Depth raises the loss., {claim}}}
sweep:
  cross: {{model: [vae, cvae]}}
  one_at_a_time: {{model.layers: [1, 2], optimizer: [adam, sgd]}}
  also: {{wide: {{model.latent_size: 3}}}}
hydra: {{mode: MULTIRUN}}
"""
DEPTH = "metric: test/loss, expect: increasing, along: model.layers"
WIDE = "metric: test/loss, expect: better, of: {point: wide}, than: {point: base}"


def own_study(folder: Path, claim: str) -> None:
    own_file(folder, "experiments/own.yaml", STUDY.format(claim=claim))


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        (
            DEPTH.replace("model.", "modle."),
            "claim C1: along: modle.layers: no run has such a parameter; did you mean model.layers?",
        ),
        (
            DEPTH.replace("test/loss", "test/lss"),
            "claim C1: metric=test/lss: no such metric; did you mean test/loss?",
        ),
        (
            DEPTH + ", within: {modell: vae}",
            "claim C1: within: modell: no run has such a parameter; did you mean model?",
        ),
        (
            DEPTH + ", within: {model: vea}",
            "claim C1: within: model=vea: no run of that value is planned; did you mean vae? Valid: cvae,",
        ),
        (
            DEPTH + ", within: {optimizer.lr: 0.5}",
            "claim C1: within: optimizer.lr=0.5: no run of that value is planned",
        ),
        (
            WIDE.replace("wide", "wid"),
            "claim C1: of: point=wid: no run of that value is planned; did you mean wide?",
        ),
        (WIDE.replace("base", "bases"), "claim C1: than: point=bases: no run of that value is planned"),
        (
            WIDE.replace("better", "same_trend, along: model.layers").replace(
                "than: {point: base}", "as: {model: v}"
            ),
            "claim C1: as: model=v: no run",
        ),
        (
            "metric: test/loss, expect: increasing, along: model",
            "claim C1: along=model: its value cvae is no number",
        ),
    ],
)
def test_a_slip_in_a_claim_is_named_with_what_is_near(
    lab: Lab, folder: Path, claim: str, message: str
) -> None:
    own_study(folder, claim)
    assert refused(lab, "--config-dir", "own", "experiments=own", *TINY).startswith(message)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["study.reference={metric:test/lss,at:[1]}"],
            "study.reference.metric=test/lss: no such metric; did you mean test/loss?",
        ),
        (
            ["study.reference={conditions:{modle:vae}}"],
            "study.reference.conditions: modle: no run has such a parameter",
        ),
        (
            ["study.reference={values:[{model.layer:3,epochs:[1.0]}]}"],
            "study.reference.values: model.layer: no run has such a parameter",
        ),
        (
            ["study.reference={landmarks:[{source:a,metric:test/iwae,value:1,epochs:2}]}"],
            "study.reference.landmarks.metric=test/iwae: no such metric",
        ),
        (
            ["study.oracle={metric:test/elbo,shares:[0.9],points:[]}"],
            "study.oracle.metric=test/elbo: no such metric",
        ),
    ],
)
def test_a_slip_in_published_values_is_named(lab: Lab, folder: Path, words: list[str], message: str) -> None:
    assert refused(lab, "-m", *TINY, "seed=0,1", *words).startswith(message)


@pytest.mark.parametrize(
    ("claim", "words", "warning"),
    [
        (DEPTH, ["model.layers=1"], "Claim C1 stays undecided: no run is planned for what is compared."),
        (
            DEPTH + ", within: {model: cvae}",
            ["model=vae"],
            "Claim C1 stays undecided: no run is planned for what is compared.",
        ),
        (
            DEPTH + ", within: {optimizer: sgd}",
            [],
            "Claim C1 stays undecided: no run is planned for what is compared.",
        ),
        (
            DEPTH.replace("test/loss", "eval/sharpness"),
            [],
            "Claim C1 stays undecided: evaluation.samples=0 leaves out what is measured for that; evaluation",
        ),
        (
            DEPTH.replace("increasing", "smaller_spread, of: {model: vae}, than: {model: cvae}"),
            ["model.layers=1,2,3", "model=vae,cvae", "seed=0"],
            "Claim C1 stays undecided: a spread without the noise of seeds takes two of them.",
        ),
        (DEPTH, [], ""),
        (WIDE, [], ""),
    ],
)
def test_a_claim_that_stays_undecided_is_named_before_the_first_run_trains(
    lab: Lab, folder: Path, monkeypatch: pytest.MonkeyPatch, claim: str, words: list[str], warning: str
) -> None:
    from vae_lab.jobs.lines import multirun

    monkeypatch.setattr(multirun, "_train", lambda *_, **__: None)
    monkeypatch.setattr(multirun, "_conclude", lambda parent, status: parent.recorder.finish(status))
    own_study(folder, claim)
    code, _, err = lab("--config-dir", "own", "experiments=own", *TINY, *words)
    assert code == 0, err
    assert (warning in err) if warning else "undecided" not in err
    (parent,) = [run for run in Store.open().records() if run.kind == SWEEP]
    assert parent.name == "own"


@pytest.mark.parametrize("study", sorted(path.stem for path in (CONFIG_ROOT / "experiments").glob("*.yaml")))
def test_the_labs_own_studies_are_without_a_slip(answer: Answer, study: str) -> None:
    assert answer(f"experiments={study}", *TINY) == ""
    assert answer(f"experiments={study}", *TINY, "model.layers=2", "model=vae") == ""
