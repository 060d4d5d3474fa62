"""Which runs a claim is judged at: of every value it was declared of, and of whatever repeats them."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
import pytest

from tests.studies.test_claims import AXES, BASE, DEPTH, VAE, of, runs
from tests.studies.test_comparison import record
from vae_lab.studies import claims
from vae_lab.studies.claims.scope import declared_values
from vae_lab.studies.plan import Declared, Plan, digest
from vae_lab.studies.study import Study, with_point
from vae_lab.tracking import StoredRun


def rated_runs(rates: Sequence[str], loss: Callable[[str, str, int], float]) -> list[StoredRun]:
    """Six seeds of both models at these learning rates; `loss` is of model, rate and seed."""
    return [
        record(loss=float(loss(model, rate, seed)), model=model, optimizer__lr=rate, seed=str(seed))
        for rate in rates
        for model in ("vae", "cvae")
        for seed in range(6)
    ]


REPEATED = Plan(
    "repeated",
    cross={"model": ["vae", "cvae"]},
    replicate={"data.seed": ["0", "1"], "seed": [str(seed) for seed in range(8)]},
    claims=[of("better", of={"model": "cvae"}, than=VAE)],
)


def repeated_runs(**point: str) -> list[StoredRun]:
    """Eight seeds of both models, each on two drawings of the data, of which the second costs 10 nats."""
    return [
        record(
            loss=100 + 10 * drawing + (-1) ** seed * (0.3 if model == "vae" else -0.3),
            model=model,
            data__seed=str(drawing),
            seed=str(seed),
            **point,
        )
        for drawing in range(2)
        for model in ("vae", "cvae")
        for seed in range(8)
    ]


def test_a_seed_counts_where_it_has_every_value_of_what_else_repeats_its_runs() -> None:
    runs = repeated_runs()
    (whole,) = claims.judge_study(Study(record(), REPEATED, runs))
    assert (whole.verdict, whole.n) == ("undecided", 8)
    one_less = [run for run in runs if run.params != runs[-1].params]
    assert claims.judge_study(Study(record(), REPEATED, one_less))[0].n == 7
    of_cvae = [run for run in runs if (run.params["model"], run.params["data.seed"]) != ("cvae", "1")]
    (half,) = claims.judge_study(Study(record(), REPEATED, of_cvae))
    assert (half.verdict, half.n) == ("undecided", 0), "CVAE was trained on the easy half of the data only"
    assert half.no_value == "No finished run gives test/loss for seed 1 wherever it is averaged"


def test_points_are_compared_on_every_value_of_what_repeats_their_runs() -> None:
    wide = of("better", of={"point": "wide"}, than={"point": "base"})
    plan = msgspec.structs.replace(
        REPEATED,
        also={"wide": {"model.hidden_size": "64"}},
        base={"model.hidden_size": "8"},
        claims=[wide],
    )
    runs = [with_point(run, plan) for size in ("64", "8") for run in repeated_runs(model__hidden_size=size)]
    assert claims.judge_study(Study(record(), plan, runs))[0].n == 8
    easy = [run for run in runs if (run.params["point"], run.params["data.seed"]) != ("wide", "1")]
    assert claims.judge_study(Study(record(), plan, easy))[0].n == 0


def test_dropped_claims_count_and_are_told_apart_also_where_they_cannot_be_read() -> None:
    def study(*former: dict[str, Any]) -> Study:
        entries = [Declared(digest(claim), at=0, seen=0, claim=claim, dropped=14) for claim in former]
        plan = Plan(
            "depth",
            claims=[{**DEPTH, "within": VAE}],
            cross={"model": AXES["model"]},
            one_at_a_time={key: AXES[key] for key in BASE},
            base=BASE,
            replicate={"seed": [str(seed) for seed in range(8)]},
            declared=entries,
        )
        rows = runs(8, lambda m, L, Z: 10.0 * L)
        records = [
            record(loss=row["test/loss"], **{key: text for key, text in row.items() if key != "test/loss"})
            for row in rows
        ]
        return Study(record(), plan, records)

    falling = {**DEPTH, "expect": "decreasing"}
    unreadable = {**DEPTH, "expect": "better", "metric": "own/gap"}
    alone, first = claims.judge_study(study(falling))
    gone = {**DEPTH, "along": "model.width"}
    today, *former = claims.judge_study(study(falling, unreadable, gone))
    assert [verdict.claim.id for verdict in former] == ["C1 before", "C1 before 2", "C1 before 3"]
    assert all(verdict.dropped for verdict in (first, *former))
    assert today.adjusted_p == pytest.approx(2 * alone.adjusted_p), "four claims share the level, not two"
    assert [verdict.verdict for verdict in former] == ["refuted", "undecided", "undecided"]
    assert "No finished run has own/gap" in former[1].sentence
    assert "It cannot be judged any more: claim C1 before 3: model.width" in former[2].sentence


def test_a_dropped_claim_is_judged_at_the_values_of_the_crossed_keys_that_it_was_declared_of() -> None:
    claim = of("better", of=VAE, than={"model": "cvae"})
    then, today = (
        Plan("p", cross={"optimizer.lr": rates, "model": AXES["model"]})
        for rates in (["1", "2"], ["1", "2", "3"])
    )
    former = Declared("", 0, 0, claim, 8, values=declared_values(claim, then))
    plan = msgspec.structs.replace(today, claims=[], declared=[former])
    runs = rated_runs(
        ("1", "2", "3"), lambda m, rate, seed: seed + (m == "cvae") + 50 * (rate == "3") * (m == "vae")
    )
    (verdict,) = claims.judge_study(Study(record(), plan, runs))
    assert verdict.n == 6
    assert verdict.effect == pytest.approx(1)


@pytest.mark.parametrize("moved", ["wide", "base", "gone", ""])
def test_a_dropped_claim_about_a_point_that_is_another_one_now_is_not_judged(moved: str) -> None:
    claim = of("better", of={"point": "wide"}, than={"point": "base"})
    base = {"model.hidden_size": "8", "model.layers": "2"}
    then = Plan("p", also={"wide": {"model.hidden_size": "64"}}, base=base)
    former = Declared("", 0, 0, claim, 8, values=declared_values(claim, then))
    points = {"wide": {"model.hidden_size": "128" if moved == "wide" else "64"}}
    today = msgspec.structs.replace(
        then,
        also={"deep": {"model.layers": "4"}} if moved == "gone" else points,
        base=base | {"model.layers": "3"} if moved == "base" else base,
        declared=[former],
    )
    runs = [
        with_point(
            record(
                loss=seed + 9.0 * bool(settings),
                seed=str(seed),
                **{key.replace(".", "__"): value for key, value in {**today.base, **settings}.items()},
            ),
            today,
        )
        for settings in ({}, *today.also.values())
        for seed in range(8)
    ]
    (verdict,) = claims.judge_study(Study(record(), today, runs))
    assert (verdict.n == 0) == bool(moved)
    reason = "It cannot be judged any more: the point wide has other settings now."
    assert verdict.sentence.startswith(reason) == bool(moved)


def test_a_dropped_claim_about_points_averages_over_what_it_was_declared_to_average_over() -> None:
    claim = of("better", of={"point": "wide"}, than={"point": "base"})
    also, base = {"wide": {"model.hidden_size": "64"}}, {"model.hidden_size": "8"}
    for rates in (["1"], ["1", "2"]):
        then = Plan("p", cross={"optimizer.lr": rates}, also=also, base=base)
        former = Declared("", 0, 0, claim, 8, values=declared_values(claim, then))
        plan = msgspec.structs.replace(then, cross={"optimizer.lr": ["1", "2", "3"]}, declared=[former])
        runs = [
            with_point(
                record(
                    loss=seed + int(rate) * (size == "8"),
                    model__hidden_size=size,
                    optimizer__lr=rate,
                    seed=str(seed),
                ),
                plan,
            )
            for rate in ("1", "2", "3")
            for size in ("8", "64")
            for seed in range(6)
        ]
        (verdict,) = claims.judge_study(Study(record(), plan, runs))
        assert verdict.n == 6
        assert verdict.effect == pytest.approx(np.mean([*map(int, rates)]))


def test_a_point_beyond_a_crossed_axis_does_not_belong_to_what_is_averaged_over() -> None:
    claim = of("better", of=VAE, than={"model": "cvae"})
    plan = Plan(
        "p",
        cross={"optimizer.lr": ["1", "2"], "model": AXES["model"]},
        also={"fast": {"optimizer.lr": "9"}},
        claims=[claim],
    )
    runs = [
        with_point(run, plan)
        for run in rated_runs(("1", "2", "9"), lambda model, rate, seed: seed + (model == "cvae"))
    ]
    (verdict,) = claims.judge_study(Study(record(), plan, runs))
    assert verdict.n == 6
    assert verdict.effect == pytest.approx(1)
