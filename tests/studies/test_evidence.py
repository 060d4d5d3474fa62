"""Which runs a claim's test compares and how, and how many seeds an open claim takes."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.studies.test_claims import AXES, BASE, DEPTH, VAE, judged, of, runs
from vae_lab.studies import claims, statistics
from vae_lab.studies.claims.compared import Design
from vae_lab.studies.claims.evidence import NoEvidence, evidence_for

INSIDE = of("best_inside", along="model.latent_size", within=VAE)


def losses(seeds: int, **by_depth: float) -> list[dict[str, Any]]:
    """Runs of two, three and four layers with these mean losses."""
    means = {2: by_depth["two"], 3: by_depth["three"], 4: by_depth["four"]}
    return runs(seeds, lambda m, L, Z: means[L], noise=0.3)


def test_a_spread_within_one_architecture_is_judged_within_seeds() -> None:
    """Gaps between depths, with and without a warm-up: runs of a depth and seed share first weights."""
    rng = np.random.default_rng(0)
    rows = [
        {
            "model.layers": layers,
            "objective.warmup_epochs": warmup,
            "seed": str(seed),
            "test/loss": rng.normal(),
        }
        for layers in ("2", "4")
        for warmup in ("0", "5")
        for seed in range(6)
    ]
    axes = {"model.layers": ["2", "4"], "objective.warmup_epochs": ["0", "5"]}
    groups = {"of": {"objective.warmup_epochs": 5}, "than": {"objective.warmup_epochs": 0}}
    assert judged(of("smaller_spread", along="model.layers", **groups), rows, axes=axes, base={}).paired
    assert not judged({**DEPTH, "within": groups["of"]}, rows, axes=axes, base={}).paired
    trend = {
        **of("same_trend", along="objective.warmup_epochs", of={"model.layers": 2}),
        "as": {"model.layers": 4},
    }
    assert judged(trend, rows, axes=axes, base={}).paired, "each trend is within one depth"


def test_a_crossed_value_without_runs_leaves_a_claim_open_and_does_not_choose_its_test() -> None:
    rows = [
        {"optimizer.lr": rate, "model": model, "seed": str(seed), "test/loss": float(rate) + 0.1 * seed}
        for rate in ("1", "2")
        for model in ("vae", "cvae")
        for seed in range(8)
    ]
    axes = {"optimizer.lr": ["1", "2"], "model": ["vae", "cvae"]}
    claim = of("better", of={"optimizer.lr": 1}, than={"optimizer.lr": 2})
    assert judged(claim, rows, axes=axes, base={}).verdict == "supported"
    without = [row for row in rows if row["model"] == "vae"]
    verdict = judged(claim, without, axes=axes, base={})
    assert (verdict.verdict, verdict.n) == ("undecided", 0)
    assert verdict.no_value == "No finished run gives test/loss for CVAE wherever it is averaged"
    one_cell = [row for row in rows if row["model"] == "vae" or row["optimizer.lr"] == "1"]
    assert judged(claim, one_cell, axes=axes, base={}).paired
    halves = [row for row in rows if (row["model"] == "vae") == (int(row["seed"]) < 4)]
    apart = judged(claim, halves, axes=axes, base={})
    assert (apart.n, apart.no_value) == (0, ""), "no seed has both models, and a further one may"


def test_a_skewed_step_is_said_wherever_it_stands() -> None:
    rows = losses(10, two=0.0, three=10.0, four=24.0)
    for row in rows:
        if row["model"] == "vae" and row["model.layers"] == "4" and row["seed"] in "01":
            row["test/loss"] += 7.0
    verdict = judged({**DEPTH, "within": VAE}, rows)
    assert verdict.verdict == "supported"
    assert verdict.caution
    assert judged({**DEPTH, "within": VAE}, losses(10, two=0.0, three=10.0, four=24.0)).caution == ""


def test_a_step_within_the_margin_is_counted_among_the_ways_to_settle_a_claim() -> None:
    """Two and three layers differ, three and four do not: some seeds more refute the claim as too small."""
    rows = runs(8, lambda m, L, Z: {2: 0.0, 3: 10.0, 4: 10.0}[L], noise=0.4)
    declared = claims.parse([{**DEPTH, "within": VAE, "margin": 1, "id": f"C{i}"} for i in range(11)])
    verdict = claims.judge(declared, pd.DataFrame(rows), axes=AXES, base=BASE, sequential=True)[0]
    assert verdict.needed is not None
    assert verdict.needed.low <= 22
    more = runs(22, lambda m, L, Z: {2: 0.0, 3: 10.0, 4: 10.0}[L], noise=0.4)
    later = claims.judge(declared, pd.DataFrame(more), axes=AXES, base=BASE, sequential=True)[0]
    assert later.verdict == "refuted"


def test_seeds_needed_are_of_the_level_that_open_claims_share() -> None:
    rows = runs(12, lambda m, L, Z: 10.0 * L + 0.002 * Z, noise=0.3)
    clear = [{**DEPTH, "within": VAE, "id": f"C{i}"} for i in range(10)]
    weak = of("better", of={"model.latent_size": 10}, than={"model.latent_size": 30}, within=VAE)
    alone, *_ = claims.judge(claims.parse([weak]), pd.DataFrame(rows), axes=AXES, base=BASE)
    *settled, last = claims.judge(claims.parse([*clear, weak]), pd.DataFrame(rows), axes=AXES, base=BASE)
    assert {verdict.verdict for verdict in settled} == {"supported"}
    assert last.needed is not None
    assert last.needed == alone.needed


def test_many_inner_values_of_few_claims_are_judged_by_bets() -> None:
    """Three claims of eleven inner values each: swaps at looks cannot reach the level that these share."""
    axes = {"model.latent_size": [str(2 * i) for i in range(13)]}
    frame = pd.DataFrame(
        [
            {"model.latent_size": z, "seed": str(s), "test/loss": 1.0}
            for z in axes["model.latent_size"]
            for s in range(6)
        ]
    )
    (claim,) = claims.parse([of("best_inside", along="model.latent_size")])
    few = Design("seed", axes, {}, sequential=True, claims=1)
    for design, name in (
        (few, statistics.LOOKED.name),
        (few.__class__("seed", axes, {}, True, 3), statistics.BETS.name),
    ):
        judged_by = evidence_for(claim, frame, design)
        assert not isinstance(judged_by, NoEvidence)
        assert judged_by[1].name == name


def test_the_best_inner_value_is_counted_as_the_sentence_names_it() -> None:
    """Two inner values take turns ahead of the ends: neither is so in every seed."""
    rows = [
        {"model.latent_size": z, "seed": str(seed), "test/loss": loss}
        for seed in range(10)
        for z, loss in (
            ("5", 0.0),
            ("10", -4.0 if seed < 7 else 1.0),
            ("15", 1.0 if seed < 7 else -4.0),
            ("20", 0.0),
        )
    ]
    verdict = judged(
        of("best_inside", along="model.latent_size"),
        rows,
        axes={"model.latent_size": ["5", "10", "15", "20"]},
        base={},
    )
    assert verdict.agreement == 0.7


def test_of_several_inner_values_none_is_called_the_best_that_was_not_shown_to_be() -> None:
    """The best in the mean is behind in three seeds; what supports the claim is ahead in all of them."""
    losses = {"5": 0.0, "10": -4.0, "15": -1.0, "20": 0.0}
    rows = [
        {"model.latent_size": z, "seed": str(seed), "test/loss": loss + 0.01 * seed}
        for seed in range(10)
        for z, loss in (losses if seed < 7 else losses | {"10": 1.0}).items()
    ]
    verdict = judged(
        of("best_inside", along="model.latent_size"), rows, axes={"model.latent_size": [*losses]}, base={}
    )
    assert (verdict.verdict, verdict.agreement) == ("supported", 0.7)
    start = "Some inner latent size has a better held-out loss than both ends (5 and 20), by "
    assert verdict.sentence.startswith(start)
    assert "the best in the mean, latent size 10, is ahead in 7 of 10 seeds" in verdict.sentence


def test_an_interval_beyond_zero_has_a_verdict_also_of_the_best_inside() -> None:
    for seed in range(30):
        verdict = judged(INSIDE, runs(7, lambda m, L, Z: 0.01 * Z, seed=seed))
        assert (verdict.high < 0 or verdict.low > 0) == (verdict.p <= 0.05)


@pytest.mark.parametrize("margin", [0.3, 1.0])
def test_negligible_is_said_exactly_where_the_interval_lies_within_the_margin(margin: float) -> None:
    claim = of(
        "better", of={"model.latent_size": 15}, than={"model.latent_size": 30}, within=VAE, margin=margin
    )
    verdicts = [judged(claim, runs(9, lambda m, L, Z: 0.02 * Z, seed=seed)) for seed in range(30)]
    assert {"negligible"} < {verdict.verdict for verdict in verdicts} | {"supported", "undecided"}
    for verdict in verdicts:
        assert (verdict.verdict == "negligible") == (-margin < verdict.low and verdict.high < margin)


def test_of_gaps_with_slopes_of_unlike_sign_as_many_seeds_are_needed_as_of_like_ones() -> None:
    """|b| > |a| does not depend on which way either goes."""
    claim = of("smaller_spread", along="model.latent_size", of={"model": "cvae"}, than=VAE, margin=0.2)
    two = [row for row in runs(8, lambda m, L, Z: Z / 20, noise=0.5) if row["model.latent_size"] != "15"]
    mirrored = [row | {"test/loss": -row["test/loss"]} if row["model"] == "cvae" else row for row in two]
    axes = AXES | {"model.latent_size": ["10", "30"]}
    alike, unlike = (judged(claim, rows, axes=axes) for rows in (two, mirrored))
    assert alike.needed is not None
    assert alike.effect == pytest.approx(unlike.effect)
    assert (alike.needed, alike.soonest) == (unlike.needed, unlike.soonest)


def test_an_interval_of_which_one_bound_is_students_says_that_it_is() -> None:
    """Six paired seeds reject at 5 %, and not at the 2.5 % that each end of the axis has above."""
    rows = [
        {"optimizer.lr": rate, "seed": str(seed), "test/loss": abs(int(rate) - 2) + 0.1 * seed**2 * int(rate)}
        for rate in ("1", "2", "3")
        for seed in range(6)
    ]
    claim = of("best_inside", along="optimizer.lr")
    verdict = judged(claim, rows, axes={"optimizer.lr": ["1", "2", "3"]}, base={})
    assert verdict.paired
    assert ", if normal)" in verdict.sentence


@pytest.mark.parametrize(
    ("cvae", "vae", "words"),
    [
        (-3.0, 0.05, "falls in CVAE and rises in VAE, the weaker trend a step by +0.0"),
        (3.0, -0.05, "rises in CVAE and falls in VAE, the weaker trend a step by -0.0"),
        (-3.0, -0.05, "falls in both CVAE and VAE, the weaker trend a step by -0.0"),
        (-0.05, -0.05, "falls in both CVAE and VAE, the weaker trend a step by -0.0"),
    ],
)
@pytest.mark.parametrize("margin", [None, 1.0])
def test_the_weaker_trend_has_the_sign_that_its_sentence_says(
    cvae: float, vae: float, words: str, margin: float | None
) -> None:
    claim = {**of("same_trend", along="model.layers", of={"model": "cvae"}, margin=margin), "as": VAE}
    steps = {"cvae": cvae, "vae": vae}
    verdict = judged(claim, runs(8, lambda m, L, Z: steps[m] * L, noise=0.02))
    if verdict.verdict in ("supported", "refuted"):  # sizes of what is shown have no sign
        verdict = judged(claim, runs(5, lambda m, L, Z: steps[m] * L, noise=0.02), sequential=True)
    assert verdict.verdict in ("undecided", "negligible")
    assert words in verdict.sentence
