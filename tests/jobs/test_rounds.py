"""seeds=auto: which points get more seeds, what is said of open claims, and one that was interrupted."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from vae_lab import config, interruption
from vae_lab.jobs.job import Job
from vae_lab.jobs.lines.grid import Axes, axes, jobs
from vae_lab.jobs.lines.rounds import Round, rounds
from vae_lab.jobs.runs.reports import Reached
from vae_lab.jobs.runs.run import Run
from vae_lab.studies import claims
from vae_lab.studies.claims import Verdict
from vae_lab.studies.plan import Declared, Plan, digest
from vae_lab.studies.status import count_states, run_states
from vae_lab.studies.study import load_study
from vae_lab.tracking import Store

Lab = Callable[..., tuple[int, str, str]]
Compose = Callable[..., DictConfig]
PARSER = OverridesParser.create()

SELECTIVE = """\
# @package _global_
# Which of three claims is settled by how many seeds?
study:
  name: selective
  claims:
    - {id: W, text: Width lowers the loss., metric: test/loss, expect: decreasing, along: model.hidden_size}
    - {id: R, text: Speed raises the loss., metric: test/loss, expect: increasing, along: optimizer.lr}
    - {id: Z, text: One dimension more lowers the loss., metric: test/loss, expect: decreasing,
       along: model.latent_size}
train: {epochs: 1}
model: {hidden_size: 64}
sweep:
  one_at_a_time:
    model.hidden_size: [1, 64]
    optimizer.lr: [1e-6, 1e-5, 1e-4, 1e-3]
    model.latent_size: [15, 16]
hydra: {mode: MULTIRUN}
"""


def seeds_of(study: Any, **params: str) -> list[int]:
    wanted = {key.replace("__", "."): value for key, value in params.items()}
    return sorted(int(run.params["seed"]) for run in study.runs if wanted.items() <= run.params.items())


def test_only_what_an_open_claim_compares_gets_more_seeds_also_after_an_interruption(
    lab: Lab, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "own" / "experiments").mkdir(parents=True)
    (folder / "own" / "experiments" / "selective.yaml").write_text(SELECTIVE)
    line = ["--config-dir", "own", "data=digits", "train.device=cpu", "experiments=selective"]
    line += ["seeds=auto", "max_seeds=12", "evaluation.pictures=false"]
    real, recorded = Run.reach, list[int]()

    def reach(self: Run, reached: Reached) -> None:
        real(self, reached)
        if reached.checkpoint.epoch:
            recorded.append(reached.checkpoint.epoch)
            if len(recorded) == 6 * 6 + 2:  # in the second round
                interruption.request()

    monkeypatch.setattr(Run, "reach", reach)
    code, out, err = lab(*line)
    assert code == 130
    assert "Z is given up: it would take" in out + err
    assert "Going on to 8 seeds. Not settled yet: R (about" in out + err
    code, out, err = lab(*line)
    assert code == 0, err
    assert "selective: goes on where it ended before." in out + err
    assert "The rounds end: no claim is left that more seeds would settle." in out + err
    study = load_study(Store.open(), "selective")
    assert seeds_of(study, model__hidden_size="1") == [*range(6)]
    assert seeds_of(study, model__latent_size="16") == [*range(6)]
    for rate in ("1e-06", "1e-05", "0.0001"):
        assert seeds_of(study, optimizer__lr=rate) == [*range(10)]
    assert len(study.plan.runs) == len(study.runs) == 6 * 6 + 4 * 4
    assert count_states(run_states(study)) == {"finished": 52}
    verdicts = {verdict.claim.id: verdict for verdict in claims.judge_study(study)}
    assert {name: (verdict.verdict, verdict.n) for name, verdict in verdicts.items()} == {
        "W": ("supported", 6),
        "R": ("refuted", 10),
        "Z": ("undecided", 6),
    }


@pytest.fixture
def conducted(composed: Compose) -> Callable[..., Iterator[Round]]:
    """The rounds of the reference study's points on made-up losses: a function of parameters and seed."""

    def conduct(
        declared: list[dict[str, Any]],
        loss: Callable[[dict[str, str], int], float],
        most: int,
        dropped: Sequence[dict[str, Any]] = (),
    ) -> Any:
        settings = composed("experiments=reference", "data=digits")
        master = composed("experiments=reference", "data=digits", "seeds=auto", f"max_seeds={most}")
        master.study.claims, master.sweep.cross, settings.study.claims = declared, {}, declared
        known: dict[Any, Job] = {}

        def point(overrides: list[str]) -> DictConfig:
            """Composing each by Hydra would take a minute."""
            made = settings.copy()
            for key, _, value in (override.partition("=") for override in overrides):
                OmegaConf.update(made, key, int(value))
            return made

        def grid(seeds: int | None) -> tuple[Axes, list[Job]]:
            varied = axes(master.sweep, [], PARSER, seeds)
            return varied, jobs(varied, point, known=known)

        current: list[Round] = []

        def judge() -> list[Verdict]:
            params = [config.parameters(job.settings) for job in current[-1].jobs.values()]
            rows = [{**run, "test/loss": loss(run, int(run["seed"]))} for run in params]
            varied = current[-1].axes
            base = {"model.layers": "3", "model.latent_size": "15"}
            around = {**varied.cross, **varied.one_at_a_time}
            rows = [{key: value for key, value in row.items() if value is not None} for row in rows]
            return claims.judge(
                claims.parse(declared), pd.DataFrame(rows), axes=around, base=base, sequential=True
            )

        def of_the_store(plan: Plan, _: object) -> Plan:
            former = [Declared(digest(one), at=1, seen=0, claim=one, dropped=9) for one in dropped]
            return msgspec.structs.replace(plan, declared=former)

        for wanted in rounds(master, grid, judge, of_the_store):
            current.append(wanted)
            yield wanted

    return conduct


def claim(name: str, **keys: Any) -> dict[str, Any]:
    return {"id": name, "text": "a claim", "metric": "test/loss", "expect": "increasing", **keys}


DEPTH = claim("D", along="model.layers")
LATENT = claim("L", along="model.latent_size")


def counts(wanted: Round) -> dict[str, int]:
    """How many seeds each point has, by its name without the seed."""
    names = [job.name.rpartition(" ")[0] for job in wanted.jobs.values()]
    return {name: names.count(name) for name in names}


def wavering(params: dict[str, str], seed: int) -> float:
    """Depth always raises the loss; the latent size by steps of changing size and sign."""
    steps = [1.0, 2.0, 0.4, 1.5, -0.3, 0.8, 1.7, 0.2, 1.1, 0.6, 1.4, 0.9, 0.3, 1.2, 0.7, 1.0, 0.5, 1.3]
    size = {"10": 0, "15": 1, "30": 2}[params["model.latent_size"]]
    return 10.0 * int(params["model.layers"]) + size * steps[seed % len(steps)]


def test_points_of_settled_claims_and_of_none_keep_the_seeds_that_they_have(conducted: Any) -> None:
    first, *later = conducted([DEPTH, LATENT], wavering, 40)
    assert set(counts(first).values()) == {6}
    assert later
    grown = {name for name, count in counts(later[-1]).items() if count > 6}
    assert grown == {"vae L3 Z10", "vae L3 Z15", "vae L3 Z30"}
    assert [*first.jobs] == [*later[-1].jobs][: len(first.jobs)], "the plan keeps what was trained"


def test_the_first_round_has_seeds_enough_for_all_claims_that_share_the_level(conducted: Any) -> None:
    """Six seeds of two models, exchanged, give p = 2/924; a look has half of the level, shared by twelve."""
    eleven = [claim(f"D{n}", along="model.layers", within={"model.latent_size": 15}) for n in range(11)]
    one = claim("dropped", along="model.latent_size")
    assert set(counts(next(conducted(eleven, wavering, 40))).values()) == {6}
    assert set(counts(next(conducted(eleven, wavering, 40, dropped=[one]))).values()) == {8}


def test_what_max_seeds_cannot_settle_is_given_up_and_the_rounds_end(
    conducted: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    def flat(params: dict[str, str], seed: int) -> float:
        return (-1.0) ** (seed + int(params["model.latent_size"])) + 0.01 * int(params["model.latent_size"])

    (only,) = conducted([LATENT], flat, 12)
    assert len(set(counts(only).values())) == 1
    out, err = capfd.readouterr()
    assert "L is given up: it would take" in out + err
    assert "The rounds end: no claim is left that more seeds would settle." in out + err


@pytest.mark.parametrize("lacking", ["everywhere", "at one size"])
def test_a_claim_without_a_value_of_what_it_compares_is_given_up(
    conducted: Any, capfd: pytest.CaptureFixture[str], lacking: str
) -> None:
    """A metric that is not defined for these runs, or a configuration of which every seed failed."""

    def undefined(params: dict[str, str], seed: int) -> float | None:
        if lacking == "everywhere":
            return None
        return None if params["model.latent_size"] == "30" else 10.0 * int(params["model.layers"])

    (only,) = conducted([LATENT], undefined, 40)
    assert set(counts(only).values()) == {6}
    what = "has test/loss" if lacking == "everywhere" else "gives test/loss for latent size 30"
    assert f"L is given up: no finished run {what}." in " ".join("".join(capfd.readouterr()).split())


def test_a_claim_whose_first_seeds_all_failed_costs_no_more_of_them(
    conducted: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    """It would come back if another claim asked for seeds of the same point, and these ended."""

    def late(params: dict[str, str], seed: int) -> float | None:
        if params["model.layers"] == "4" and seed < 6:
            return None
        return wavering(params, seed)

    *_, last = conducted([claim("D", along="model.layers"), LATENT], late, 13)
    said = " ".join("".join(capfd.readouterr()).split())
    assert "D is given up: no finished run gives test/loss for layers 4." in said
    assert (counts(last)["vae L3 Z30"], counts(last)["vae L4 Z15"]) == (13, 6)


def test_a_claim_on_points_that_are_not_planned_gets_no_seeds(conducted: Any) -> None:
    elsewhere = claim("N", along="model.latent_size", within={"model.layers": 4})
    (only,) = conducted([DEPTH, elsewhere], wavering, 40)
    assert set(counts(only).values()) == {6}


def test_max_seeds_ends_the_rounds_with_what_is_still_open(
    conducted: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    *_, last = conducted([DEPTH, LATENT], wavering, 12)
    assert counts(last)["vae L3 Z10"] == 10, "the next look is at 13"
    out, err = capfd.readouterr()
    assert "max_seeds=12 ends the rounds. Not settled yet: L (13 seeds at least)" in " ".join(
        (out + err).split()
    )


def test_a_claim_that_was_given_up_comes_back_when_its_estimate_allows(
    conducted: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    """Six seeds show next to nothing between 15 and 30 dimensions; seeds that other claims get show much."""

    def late(params: dict[str, str], seed: int) -> float:
        lower = 1.0 + [0.9, -1.1, 1.2, -0.8, 0.1, -0.3][seed % 6]
        higher = 0.05 + (-1.0) ** seed if seed < 6 else 6.0
        return 0.3 * (seed * 7 % 5 - 2) + {"10": -lower, "15": 0.0, "30": higher}[params["model.latent_size"]]

    sizes = {"G": (10, 30), "H": (10, 15), "M": (15, 30)}
    declared = [
        claim(name, expect="better", of={"model.latent_size": of}, than={"model.latent_size": than})
        for name, (of, than) in sizes.items()
    ]
    *_, last = itertools.islice(conducted(declared, late, 22), 3)
    said = " ".join("".join(capfd.readouterr()).split())
    assert "M is given up: it would take" in said
    assert "M comes back: " in said, said
    assert counts(last)["vae L3 Z30"] == counts(last)["vae L3 Z15"] == 10
