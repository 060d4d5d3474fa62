import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from numpy.typing import NDArray
from scipy import stats

from tests.studies.test_comparison import record
from vae_lab.errors import UserError
from vae_lab.files import CONFIG_ROOT
from vae_lab.studies import claims, statistics
from vae_lab.studies.claims import Claim, Verdict, sharing
from vae_lab.studies.claims.contrasts import contrast
from vae_lab.studies.claims.wording import Wording
from vae_lab.studies.plan import Plan
from vae_lab.studies.planned import PlannedRuns
from vae_lab.studies.study import Study

AXES = {
    "model": ["vae", "cvae"],
    "model.layers": ["2", "3", "4"],
    "model.latent_size": ["10", "15", "30"],
}
BASE = {"model.layers": "3", "model.latent_size": "15"}
DEPTH = {"id": "C1", "text": "depth", "metric": "test/loss", "expect": "increasing", "along": "model.layers"}
Row = Mapping[str, Any]


def runs(
    seeds: int, loss: Any, noise: float = 0.3, shared: float = 0.0, seed: int = 0
) -> list[dict[str, Any]]:
    """The report's ten runs for each seed; `loss` gives their mean from model, layers and latent size.

    Runs of one seed share a part of their noise if `shared` says so, which pairing takes out.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for replicate in range(seeds):
        common = shared * rng.normal()
        for model in ("vae", "cvae"):
            for layers, latent in ((3, 15), (2, 15), (4, 15), (3, 10), (3, 30)):
                keys = {"model": model, "model.layers": str(layers), "model.latent_size": str(latent)}
                value = loss(model, layers, latent) + common + noise * rng.normal()
                rows.append({**keys, "seed": str(replicate), "test/loss": value})
    return rows


def judged(claim: dict[str, Any], rows: list[dict[str, Any]], **options: Any) -> Verdict:
    (verdict,) = claims.judge(
        claims.parse([claim]), pd.DataFrame(rows), **{"axes": AXES, "base": BASE, **options}
    )
    return verdict


def of(expect: str, **keys: Any) -> dict[str, Any]:
    return {"id": "X", "text": "a claim", "metric": "test/loss", "expect": expect, **keys}


VAE = {"model": "vae"}
CASES = {  # claim, a loss that makes it true, one that makes it false
    "increasing": (
        of("increasing", along="model.layers", within=VAE),
        lambda m, L, Z: 10 * L,
        lambda m, L, Z: 10 * abs(L - 3),
    ),
    "decreasing": (
        of("decreasing", along="model.layers", within=VAE),
        lambda m, L, Z: -10 * L,
        lambda m, L, Z: 10 * L,
    ),
    "better": (
        of("better", of={"model.latent_size": 15}, than={"model.latent_size": 30}, within=VAE),
        lambda m, L, Z: Z,
        lambda m, L, Z: -Z,
    ),
    "better, higher": (
        of("better", of={"model.latent_size": 15}, than={"model.latent_size": 30}, better="higher"),
        lambda m, L, Z: -Z,
        lambda m, L, Z: Z,
    ),
    "smaller_spread": (
        of("smaller_spread", along="model.latent_size", of={"model": "cvae"}, than=VAE),
        lambda m, L, Z: Z if m == "vae" else 0,
        lambda m, L, Z: Z if m == "cvae" else 0,
    ),
    "best_inside": (
        of("best_inside", along="model.latent_size", within=VAE),
        lambda m, L, Z: abs(Z - 15),
        lambda m, L, Z: Z,
    ),
    "same_trend": (
        {**of("same_trend", along="model.layers", of={"model": "cvae"}), "as": VAE},
        lambda m, L, Z: -L,
        lambda m, L, Z: L if m == "vae" else -L,
    ),
}  # fmt: skip


def test_an_axis_of_two_values_has_one_step_and_a_count_is_called_a_number() -> None:
    rows = [row for row in runs(10, lambda m, L, Z: -L, noise=0.01) if row["model.layers"] != "3"]
    counted = [{**row, "test/active_units": row["test/loss"]} for row in rows]
    claim = {**of("decreasing", along="model.layers", within=VAE), "metric": "test/active_units"}
    verdict = judged(claim, counted, axes=AXES | {"model.layers": ["2", "4"]})
    assert verdict.sentence.startswith("VAE: from layers 2 to 4 the number of active units falls by 2.0")


@pytest.mark.parametrize("sequential", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_each_kind_of_claim_is_supported_refuted_or_undecided(case: str, sequential: bool) -> None:
    claim, true, false = CASES[case]
    supported = judged(claim, runs(14, true), sequential=sequential)
    refuted = judged(claim, runs(14, false), sequential=sequential)
    nothing = judged(claim, runs(14, lambda *_: 0.0, seed=2), sequential=sequential)  # 1 errs by chance
    few = judged(claim, runs(3, true), sequential=sequential)
    assert [verdict.verdict for verdict in (supported, refuted, nothing, few)] == [
        *["supported", "refuted", "undecided", "undecided"]
    ]
    assert supported.effect > 0
    assert supported.agreement == 1.0
    assert supported.needed is None
    assert 0 < supported.low <= supported.effect <= supported.high
    assert few.needed is not None
    assert few.needed.low >= 4
    assert "3 seeds can never reach the level of 0.05" in few.sentence
    assert {verdict.n for verdict in (supported, refuted, nothing)} == {14}


def test_effects_are_in_the_metrics_unit_and_positive_as_claimed() -> None:
    def effect(claim: dict[str, Any], loss: Any) -> float:
        return judged(claim, runs(4, loss, noise=0)).effect

    steep = CASES["increasing"][0], lambda m, L, Z: L**2  # 4, 9, 16: steps of 5 and 7
    assert effect(*steep) == pytest.approx(6)
    assert effect({**steep[0], "expect": "decreasing"}, steep[1]) == pytest.approx(-6)
    assert effect(CASES["better"][0], lambda m, L, Z: Z) == pytest.approx(15)
    spread = math.sqrt(np.var([10, 15, 30], ddof=1) - np.var([5, 7.5, 15], ddof=1))  # in quadrature
    assert effect(CASES["smaller_spread"][0], lambda m, L, Z: Z if m == "vae" else Z / 2) == pytest.approx(
        spread
    )
    assert effect(CASES["best_inside"][0], lambda m, L, Z: abs(Z - 15)) == pytest.approx(5)
    assert effect(CASES["same_trend"][0], lambda m, L, Z: -L * (3 if m == "vae" else 2)) == pytest.approx(2)
    assert effect(CASES["same_trend"][0], lambda m, L, Z: L * (3 if m == "vae" else -2)) == pytest.approx(-2)


def test_the_sentence_says_effect_interval_and_count() -> None:
    verdict = judged(CASES["increasing"][0], runs(10, lambda m, L, Z: 10.8 * L))
    low, high = f"{verdict.low:.2f}", f"{verdict.high:.2f}"
    assert verdict.sentence == (
        f"VAE: each added layer (2, 3, 4) raises the held-out loss by {verdict.effect:.2f} nats/image "
        f"(95 % interval {low} to {high}) in 10 of 10 seeds."
    )


def test_one_step_the_other_way_refutes_a_monotone_claim_and_is_named() -> None:
    verdict = judged(CASES["increasing"][0], runs(10, lambda m, L, Z: {2: 0, 3: 9, 4: 5}[L]))
    assert verdict.verdict == "refuted"
    assert verdict.effect == pytest.approx(2.5, abs=0.5)
    assert verdict.agreement == 0
    assert "from layers 3 to 4 the held-out loss falls by 4" in verdict.sentence


def test_one_flat_step_keeps_a_monotone_claim_undecided() -> None:
    verdict = judged(CASES["increasing"][0], runs(12, lambda m, L, Z: 10.0 * (L > 2)))
    assert verdict.verdict == "undecided"
    assert verdict.low > 0, "the mean step alone would have been enough"
    assert ", the weakest step, from layers 3 to 4, by " in verdict.sentence
    falling = {**CASES["increasing"][0], "expect": "decreasing"}
    verdict = judged(falling, runs(12, lambda m, L, Z: -10.0 * (L > 3)))
    assert re.search(r" changes the held-out loss by -[45]\.\d+ nats", verdict.sentence)
    assert ", the weakest step, from layers 2 to 3, by " in verdict.sentence


@pytest.mark.parametrize("case", ["better", "smaller_spread", "best_inside"])
def test_an_undecided_sentence_does_not_claim_a_lead(case: str) -> None:
    sentence = judged(CASES[case][0], runs(10, lambda *_: 0.0)).sentence
    lead = r" is [+-]\d\.\d+ nats/image \(95 % interval -\S+ to \+\S+\)( in quadrature)?, as claimed in "
    assert re.search(lead, sentence)


def test_p_is_that_of_the_slowest_step_or_of_the_worst() -> None:
    rows = runs(5, lambda m, L, Z: 0.15 * L)
    table = pd.DataFrame(rows).query("model == 'vae' and `model.latent_size` == '15'")
    wide = table.pivot_table(index="seed", columns="model.layers", values="test/loss")
    steps = [(wide["3"], wide["2"]), (wide["4"], wide["3"])]

    def p(alternative: str) -> list[float]:
        exact = {"permutation_type": "independent", "n_resamples": np.inf, "alternative": alternative}
        return [
            2 * float(stats.permutation_test(step, lambda a, b: a.mean() - b.mean(), **exact).pvalue)
            for step in steps
        ]

    expected = min(max(p("greater")), 2 * min(p("less")), 1.0)
    assert judged(CASES["increasing"][0], rows).p == pytest.approx(expected)


def test_p_is_adjusted_over_all_claims_of_the_study() -> None:
    rows = pd.DataFrame(runs(10, lambda m, L, Z: 10 * L))
    declared = [{**DEPTH, "id": f"C{i}", "within": VAE} for i in range(8)]
    for verdict in claims.judge(claims.parse(declared), rows, axes=AXES, base=BASE):
        assert verdict.adjusted_p == pytest.approx(8 * 2 / 20_000)
    many = [{**DEPTH, "id": f"C{i}", "within": VAE} for i in range(26)]
    rows = pd.DataFrame(runs(6, lambda m, L, Z: 10 * L))
    for verdict in claims.judge(claims.parse(many), rows, axes=AXES, base=BASE):
        assert verdict.adjusted_p == pytest.approx(26 * 2 / math.comb(12, 6))
        assert verdict.verdict == "undecided"
        assert verdict.needed == (7, 7, math.inf)


def test_keys_that_a_claim_does_not_name_stay_at_the_base() -> None:
    rows = runs(6, lambda m, L, Z: 10 * L + 1000 * (Z != 15), noise=0)
    assert judged(CASES["increasing"][0], rows).effect == pytest.approx(10)
    named = of("better", of=VAE, than={"model": "cvae"}, within={"model.latent_size": 30})
    rows = runs(6, lambda m, L, Z: Z * (m == "cvae"), noise=0)
    assert judged(named, rows).effect == pytest.approx(30)


def test_crossed_keys_that_a_claim_does_not_name_are_paired_and_averaged() -> None:
    rows = [
        {
            "model.layers": layers,
            "objective.beta": beta,
            "seed": s,
            "test/loss": layers * beta + 50.0 * beta + s,
        }
        for layers in (2, 3)
        for beta in (1, 4.0)
        for s in range(4)
    ]
    axes = {"model.layers": ["2", "3"], "objective.beta": ["1", "4"]}
    whole = judged(DEPTH, rows, axes=axes, base={})
    assert whole.effect == pytest.approx(2.5)
    assert judged(DEPTH, rows[1:], axes=axes, base={}).n == 3, "seed 0 lacks a depth at beta 1"
    one = judged({**DEPTH, "within": {"objective.beta": 4}}, rows, axes=axes, base={})
    assert one.effect == pytest.approx(4)
    assert one.n == 4


def test_missing_and_non_finite_values_make_n_smaller() -> None:
    rows = [
        row for row in runs(10, lambda m, L, Z: 10 * L) if row["seed"] != "9" or row["model.layers"] != "4"
    ]
    for row, value in ((0, math.nan), (10, math.inf), (20, None)):
        assert rows[row]["model"] == "vae"
        assert rows[row]["model.layers"] == "3"
        rows[row]["test/loss"] = value
    verdict = judged(CASES["increasing"][0], rows)
    assert (verdict.verdict, verdict.n) == ("supported", 6)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda rows: [], "No run has finished."),
        (lambda rows: [{**row, "test/loss": math.nan} for row in rows], "gives test/loss for VAE, layers 2."),
        (lambda rows: [r for r in rows if r["model.layers"] != "4"], "gives test/loss for VAE, layers 4."),
        (lambda rows: [r for r in rows if r["model"] != "vae"], "gives test/loss for VAE, layers 2."),
        (
            lambda rows: [r for r in rows if (r["model.layers"] == "4") == (int(r["seed"]) < 2)],
            "No seed has a finished run at every value that is compared.",
        ),
        (
            lambda rows: [{k: v for k, v in r.items() if k != "test/loss"} for r in rows],
            "No finished run has test/loss.",
        ),
    ],
)
def test_without_runs_the_verdict_is_undecided_and_says_so(change: Any, reason: str) -> None:
    left = change(runs(4, lambda m, L, Z: 10 * L))
    verdict = judged(CASES["increasing"][0], left)
    # Four seeds can do between architectures, which only runs of the claim's own show to be compared.
    least = 4 if any(row["model"] == "vae" for row in left) else 6
    assert (verdict.verdict, verdict.n, verdict.p) == ("undecided", 0, 1.0)
    assert verdict.needed is not None
    assert tuple(verdict.needed) == (least, least, math.inf)
    assert verdict.sentence.endswith(reason)
    assert math.isnan(verdict.effect)


@pytest.mark.parametrize("seeds", [1, 2])
@pytest.mark.parametrize("case", CASES)
def test_one_or_two_seeds_are_too_few_and_equal_runs_no_evidence(case: str, seeds: int) -> None:
    claim, true, _ = CASES[case]
    assert judged(claim, runs(seeds, true)).verdict == "undecided"
    equal = judged(claim, runs(12, lambda *_: 100.0, noise=0, shared=0))
    assert (equal.verdict, equal.p, equal.effect, equal.agreement) == ("undecided", 1.0, 0.0, 0.5)
    assert equal.needed is not None
    more = 14 if case == "smaller_spread" else 13  # of more than two values, by pairs of seeds
    assert tuple(equal.needed) == (math.inf, more, math.inf), "no difference yet is no reason to give up"
    assert "more than 1,000 seeds" in equal.sentence


def test_what_one_seed_cannot_say_names_the_seeds_that_it_takes() -> None:
    """Of eleven claims between architectures six seeds can settle each, and a spread takes pairs of them."""
    spread = of("smaller_spread", along="model.latent_size", of={"model": "cvae"}, than=VAE)
    several = [{**DEPTH, "id": f"C{i}", "within": VAE} for i in range(10)] + [spread]
    rows = pd.DataFrame(runs(1, lambda *_: 0.0))
    verdicts = claims.judge(claims.parse(several), rows, axes=AXES, base=BASE)
    assert [verdict.needed.low for verdict in verdicts if verdict.needed] == [6] * 10 + [12]


def test_an_axis_too_short_for_the_claim_is_undecided() -> None:
    short = judged(
        CASES["best_inside"][0], runs(8, lambda *_: 1), axes={**AXES, "model.latent_size": ["10", "15"]}
    )
    assert short.sentence == "Latent size has 2 of the 3 values needed."


def test_seeds_are_ordered_as_numbers_for_the_sequential_test() -> None:
    rows = runs(12, lambda m, L, Z: 1.0 * L, noise=1.5)
    assert judged(DEPTH | {"within": VAE}, rows[::-1], sequential=True) == judged(
        DEPTH | {"within": VAE}, rows, sequential=True
    )


def drawn_study(rng: np.random.Generator, seeds: int, step: float) -> dict[str, NDArray[np.float64]]:
    """Losses (models, seeds, values) of the report's runs along both axes; `step` is from depth 2 to 3."""
    depth = rng.normal(size=(2, seeds, 3)) + rng.normal(size=(1, seeds, 1))
    latent = rng.normal(size=(2, seeds, 3))
    latent[..., 1] = depth[..., 1]  # the base stands on both axes
    depth[..., 1:] += step
    latent += step
    return {"model.layers": depth, "model.latent_size": latent}


def settled(study: Mapping[str, NDArray[np.float64]], declared: list[Claim], test: Any, seeds: int) -> bool:
    """Whether any of the claims gets a verdict from the first `seeds` seeds."""
    evidence = []
    for claim in declared:
        models = [["vae", "cvae"].index(group["model"]) for group in (claim.of, claim.than) if group]
        x = study[claim.along][models or [["vae", "cvae"].index(claim.within["model"])], :seeds]
        evidence.append(contrast(claim, x, Wording(claim, AXES[claim.along]), test))
    results = sharing.settled(evidence, [0.05] * len(evidence))
    return any(result.verdict != sharing.UNDECIDED for result in results)


@pytest.mark.parametrize("step", [0.0, 4.0], ids=["nothing differs", "one of two steps is flat"])
def test_a_study_errs_at_most_at_its_level_in_any_of_its_claims(step: float) -> None:
    """1,000 studies of claims that are neither true nor false; two are of tests that look at every round."""
    known = {claim.id: claim for claim in reference()}
    chosen = ["C1", "C2", "C6 loss", "C7", *(["C8"] if step == 0 else [])]
    # Without their margins, so that every verdict is a wrong one; tests/studies/test_margins.py has those.
    declared = [replace(known[name], margin=None) for name in chosen]
    rng = np.random.default_rng(0)
    studies = [drawn_study(rng, 22, step) for _ in range(1000)]
    allowed = stats.binom.ppf(0.999, len(studies), 0.05)
    fixed = sum(settled(study, declared, statistics.PAIRED, 10) for study in studies)
    assert fixed <= allowed
    # p never rises: what any look settles, the last one does.
    for test, seeds in ((statistics.BETS, 22), (statistics.LOOKED, 13)):
        assert sum(settled(study, declared, test, seeds) for study in studies) <= allowed


def reference() -> list[Claim]:
    text = (CONFIG_ROOT / "experiments" / "reference.yaml").read_text()
    return claims.parse(yaml.safe_load(text)["study"]["claims"])


def test_the_reports_eight_claims_are_declared_and_can_be_judged() -> None:
    declared = {claim.id: claim for claim in reference()}
    assert {f"C{i}" for i in range(1, 9)} <= set(declared)
    assert {declared[name].metric for name in ("C1", "C2", "C6 loss", "C7", "C8")} == {"test/loss"}
    assert {declared[name].metric for name in ("C3", "C4", "C5", "C6")} == {"eval/recognizable_share"}
    rows = [
        {**row, "eval/recognizable_share": 1 - row["test/loss"] / 100, "eval/sharpness": row["test/loss"]}
        for row in runs(14, lambda m, L, Z: 10 * L + abs(Z - 15) * (0.5 if m == "cvae" else 1), shared=0)
    ]
    verdicts = claims.judge(list(declared.values()), pd.DataFrame(rows), axes=AXES, base=BASE)
    assert {verdict.claim.id for verdict in verdicts if verdict.verdict == "refuted"} == {"C3", "C4"}
    assert {verdict.claim.id for verdict in verdicts if verdict.verdict == "undecided"} == set()


def test_a_study_is_judged_from_its_plan_and_its_finished_runs() -> None:
    plan = Plan(
        name="depth",
        one_at_a_time={"model.layers": ["2", "3"]},
        base={"model.layers": "3"},
        replicate={"seed": ["0", "1"]},
        claims=[DEPTH],
    )
    records = [
        record(loss=10.0 * layers + 0.1 * s * layers, model__layers=str(layers), seed=str(s))
        for layers in (2, 3)
        for s in range(7)
    ]
    (verdict,) = claims.judge_study(Study(record(), plan, [*records, record("FAILED", model__layers="4")]))
    assert (verdict.verdict, verdict.n) == ("supported", 7)
    with pytest.raises(UserError, match="other: the study declares no claims"):
        claims.judge_study(Study(record(), Plan(name="other"), records))


def test_rounds_go_on_until_every_claim_is_settled() -> None:
    clear = judged(CASES["increasing"][0], runs(12, lambda m, L, Z: 10 * L), sequential=True)
    open_ = judged(CASES["increasing"][0], runs(12, lambda *_: 0.0), sequential=True)
    untrained = judged(CASES["increasing"][0], runs(0, lambda *_: 0.0), sequential=True)
    assert tuple(untrained.needed or ()) == (6, 6, math.inf)
    assert claims.round_target([untrained], 0, 40) == 6
    assert claims.round_target([clear, open_], 13, 40) == 17
    within_seeds = replace(open_, paired=True, looks=())
    pairs_of_seeds = replace(open_, looks=tuple(2 * look for look in statistics.LOOKS))
    assert claims.round_target([clear, open_, within_seeds], 35, 40) == 40
    assert claims.round_target([clear, open_], 35, 40) is None, "the next look at samples is at 44"
    assert claims.round_target([clear, within_seeds], 40, 40) is None
    assert claims.round_target([clear, clear], 12, 40) is None
    assert claims.round_target([open_, pairs_of_seeds], 10, 12) == 12, "six pairs of seeds are a look"
    assert claims.round_target([open_, pairs_of_seeds], 17, 20) == 20
    assert claims.round_target([pairs_of_seeds], 6, 40) == 12, "nothing is to be seen at 8 and 10"
    assert claims.round_target([open_], 44, 100) is None, "the last look at samples is at 44"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"expect": "incresing"},
            r"claim C1: expect=incresing: .* did you mean increasing\? Valid: best_inside",
        ),
        ({"expect": None}, r"claim C1: expect is missing\. Valid values: increasing, decreasing"),
        ({"along": None}, r"claim C1: along is missing"),
        ({"text": ""}, r"claim C1: text is missing"),
        ({"metric": None}, r"claim C1: metric is missing"),
        ({"wihtin": VAE}, r"claim C1: wihtin: not a key of expect=increasing; did you mean within\?"),
        ({"of": VAE}, r"claim C1: of: not a key of expect=increasing"),
        ({"within": "vae"}, r"claim C1: within=vae: must map parameters to one value each"),
        ({"within": {"model": ["vae", "cvae"]}}, r"within=.*: must map parameters to one value each"),
        ({"within": {"model.layers": 2}}, r"claim C1: model\.layers: is the axis of the claim"),
        ({"level": 5}, r"claim C1: level=5: must be a number between 0 and 1"),
        ({"level": True}, r"claim C1: level=True"),
        ({"better": "more"}, r"claim C1: better=more: must be lower or higher"),
        ({"id": "C/1?"}, r"claim C/1\?: id: must be letters, digits"),
        (
            {"expect": "best_inside", "metric": "eval/recognisable_share"},
            r"metric=eval/recognisable_share: whether less or more .* did you mean eval/recognizable_share\?",
        ),
        (
            {"expect": "smaller_spread", "of": VAE, "than": VAE},
            r"claim C1: of=\{'model': 'vae'\}: both groups are the same",
        ),
        (
            {"expect": "smaller_spread", "of": VAE, "than": {"model": "cvae"}, "within": VAE},
            r"claim C1: model: stands in within and in a group",
        ),
    ],
)
def test_mistakes_in_a_claim_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        claims.parse([DEPTH | change])


def test_mistakes_over_several_claims_are_named() -> None:
    with pytest.raises(UserError, match="claim C1: id=C1 is taken"):
        claims.parse([DEPTH, DEPTH])
    with pytest.raises(UserError, match=r"claim 2: 'C2' is no mapping"):
        claims.parse([DEPTH, "C2"])


def test_a_parameter_that_no_run_has_is_named() -> None:
    with pytest.raises(UserError, match=r"claim C1: model\.layer: .* did you mean model\.layers\?"):
        judged(DEPTH | {"along": "model.layer"}, runs(2, lambda *_: 0.0))
    with pytest.raises(UserError, match=r"claim C1: along=model: its value cvae is no number"):
        judged(DEPTH | {"along": "model"}, runs(2, lambda *_: 0.0))


def test_groups_are_compared_by_value_and_can_have_none() -> None:
    rows = [
        {"scheduler": schedule, "model.conditional": "True", "seed": str(seed), "test/loss": loss + seed}
        for schedule, loss in (("null", 0.0), ("steplr", 5.0))
        for seed in range(6)
    ]
    groups = {"of": {"scheduler": None}, "than": {"scheduler": "steplr"}}
    claim = of("better", within={"model.conditional": True}, **groups)
    assert judged(claim, rows, axes={}, base={}).effect == pytest.approx(5)
    crossed = {"axes": {"model.conditional": ["true"]}, "base": {}}
    assert judged(of("better", **groups), rows, **crossed).effect == pytest.approx(5)
    planned = PlannedRuns([{"scheduler": "null", "objective.beta": "1.0"}], [], [])
    planned.check_group("claim X: of", {"scheduler": None, "objective.beta": 1})
    with pytest.raises(UserError, match="scheduler=None: no run of that value is planned"):
        PlannedRuns([{"scheduler": "steplr"}], [], []).check_group("claim X: of", {"scheduler": None})
    with pytest.raises(UserError, match="both groups are the same"):
        claims.parse([of("better", of={"objective.beta": 1}, than={"objective.beta": 1.0})])


def test_a_claim_about_points_is_open_until_a_run_of_one_has_finished() -> None:
    claim: dict[str, Any] = {"id": "E", "text": "Wide is better.", "metric": "test/loss", "expect": "better"}
    claim |= {"of": {"point": "wide"}, "than": {"point": "base"}}
    points = {"wide": {"model.layers": "9"}}
    plan = Plan("p", also=points, base={"model.layers": "4"}, replicate={"seed": ["0"]}, claims=[claim])
    (verdict,) = claims.judge_study(Study(record(), plan, [record("FINISHED", model__layers="2", seed="0")]))
    assert verdict.verdict == "undecided"
    assert "wide" in verdict.sentence
