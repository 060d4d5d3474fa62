"""The simulations draw thousands of studies at once: tests take leading axes."""

import itertools
import math
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy import stats
from statsmodels.formula.api import wls
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.multitest import multipletests

from vae_lab.errors import UserError
from vae_lab.studies import statistics
from vae_lab.studies.statistics.sequential import SHARES

STUDIES = 4000
LEVEL = 0.05


def draws(*shape: int, kind: str = "normal", seed: int = 0) -> NDArray[np.float64]:
    """Differences that are symmetric about zero with variance 1 or none at all."""
    rng = np.random.default_rng(seed)
    if kind == "cauchy":
        return rng.standard_cauchy(shape)
    if kind == "growing":  # each ten times as wide as the one before
        return rng.normal(size=shape) * 10.0 ** np.arange(shape[-1])
    return rng.normal(size=shape)


def false_share(rejected: NDArray[np.bool_]) -> tuple[float, float]:
    """Share of rejections, and the most that a true share of LEVEL gives in all but 1 of 1,000 tries."""
    return float(rejected.mean()), float(stats.binom.ppf(0.999, rejected.size, LEVEL) / rejected.size)


def test_the_t_interval_is_scipys() -> None:
    x = draws(7)
    expected = stats.ttest_1samp(x, 0).confidence_interval(0.9)
    interval = statistics.mean_interval(x, 0.9)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))
    assert interval.estimate == pytest.approx(x.mean())
    assert interval.method == "t"


def test_the_sign_flip_test_is_scipys_exact_permutation_test() -> None:
    for n in (2, 5, 9):
        x = draws(n, seed=n) + 0.4
        for alternative, factor, p in (
            ("two-sided", 1, statistics.two_sided(statistics.sign_flip(x))),
            ("greater", 2, statistics.sign_flip(x).up),
            ("less", 2, statistics.sign_flip(x).down),
        ):
            expected = stats.permutation_test(
                (x,), np.sum, permutation_type="samples", n_resamples=np.inf, alternative=alternative
            )
            assert float(p) == pytest.approx(min(1.0, factor * expected.pvalue))


def test_random_signs_come_close_to_all_signs() -> None:
    x = draws(16) + 0.3
    exact = stats.permutation_test((x,), np.sum, permutation_type="samples", n_resamples=np.inf).pvalue
    assert float(statistics.two_sided(statistics.sign_flip(x))) == pytest.approx(exact, rel=0.1)


@pytest.mark.parametrize("n", [1, 2, 6, 13, 14, 30])
def test_the_sign_flip_p_has_its_floor(n: int) -> None:
    p = statistics.sign_flip(np.arange(1.0, n + 1))
    assert float(p.up) >= 2 / 2**n * (1 - 1e-12)
    assert float(p.up) >= 2 / 20_000
    assert float(p.up) <= (2 / 2**n if n <= 13 else 6 / 20_000)  # the observed signs may be drawn again
    assert float(p.down) == 1.0


def test_no_difference_is_no_evidence() -> None:
    for test in (statistics.sign_flip, statistics.anytime_sign_flip):
        for nothing in (np.zeros(8), np.zeros(0)):
            assert tuple(map(float, test(nothing))) == (1.0, 1.0)


def test_tests_keep_leading_axes() -> None:
    x = draws(2, 7, 9)
    for test in (statistics.sign_flip, statistics.anytime_sign_flip):
        p = test(x)
        assert p.up.shape == p.down.shape == (2, 7)
        assert p.up[1, 3] == test(x[1, 3]).up


def test_p_does_not_depend_on_the_unit() -> None:
    x = draws(9)
    for test in (statistics.sign_flip, statistics.anytime_sign_flip):
        assert float(test(x * 1e-6).up) == pytest.approx(float(test(x).up))
        assert float(test(-x).down) == pytest.approx(float(test(x).up))


@pytest.mark.parametrize("kind", ["normal", "cauchy", "growing"])
@pytest.mark.parametrize("n", [6, 10])
def test_sign_flips_err_at_most_at_their_level(kind: str, n: int) -> None:
    p = statistics.two_sided(statistics.sign_flip(draws(STUDIES, n, kind=kind)))
    share, allowed = false_share(p <= LEVEL)
    assert share <= allowed


@pytest.mark.parametrize("kind", ["normal", "cauchy", "growing"])
def test_the_anytime_test_errs_at_most_at_its_level_however_often_one_looks(kind: str) -> None:
    x = draws(STUDIES, 60, kind=kind)
    ever = statistics.two_sided(statistics.anytime_sign_flip(x)) <= LEVEL  # p keeps the smallest so far
    share, allowed = false_share(ever)
    assert share <= allowed


def test_looking_again_at_a_fixed_test_errs_far_above_its_level() -> None:
    x = draws(STUDIES, 13)
    looks = [statistics.two_sided(statistics.sign_flip(x[:, :n])) <= LEVEL for n in range(6, 14)]
    share, allowed = false_share(np.logical_or.reduce(looks))
    assert share > 1.5 * allowed


def test_the_anytime_p_never_rises_with_more_replicates() -> None:
    x = draws(50, 20) + 0.5
    p = np.stack([statistics.anytime_sign_flip(x[:, :n]).up for n in range(1, 21)])
    assert (np.diff(p, axis=0) <= 0).all()


def test_a_planted_effect_is_found() -> None:
    x = draws(STUDIES, 10) + 1.5  # in standard deviations of a difference
    assert (statistics.sign_flip(x).up <= LEVEL).mean() > 0.95
    assert (statistics.sign_flip(x).down <= LEVEL).mean() == 0
    x = draws(STUDIES, 20) + 1.5
    assert (statistics.anytime_sign_flip(x).up <= LEVEL).mean() > 0.95


def test_an_effect_without_noise_costs_the_anytime_test_few_replicates_more() -> None:
    for contrasts in (1, 10):
        needed = statistics.least_replicates(LEVEL, contrasts)
        first = next(
            n for n in range(1, 30) if statistics.anytime_sign_flip(np.ones(n)).up <= LEVEL / contrasts
        )
        assert needed <= first <= needed + 2
        assert statistics.least_replicates(LEVEL, contrasts, statistics.BETS) == first


def test_rounds_grow_and_are_the_looks() -> None:
    done = [6]
    while done[-1] < 80:
        done.append(statistics.next_look(done[-1], 200) or 0)
    assert tuple(done[:9]) == statistics.LOOKS
    assert done[9:] == [55, 69, 87]
    assert sum(SHARES) == pytest.approx(1)


@pytest.mark.parametrize("kind", ["normal", "cauchy"])
def test_swaps_at_looks_err_at_most_at_their_level_over_all_looks(kind: str) -> None:
    pair = statistics.Pair(draws(STUDIES, 22, kind=kind), draws(STUDIES, 22, kind=kind)[::-1])
    ever = statistics.two_sided(statistics.LOOKED.directions(pair)) <= LEVEL  # p is the smallest so far
    share, allowed = false_share(ever)
    assert share <= allowed


def test_swaps_at_looks_settle_a_clear_effect_at_the_first_and_more_than_bets_do() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 1000, 22)) + np.array([1.8, 0.0])[:, None, None]
    for n, least, lead in ((6, 0.15, 0.1), (10, 0.35, 0.3), (22, 0.85, 0.0)):
        pair = statistics.Pair(first[:, :n], second[:, :n])
        swaps, bets = (
            (test.directions(pair).up <= LEVEL / 11).mean() for test in (statistics.LOOKED, statistics.BETS)
        )
        assert swaps > least
        assert swaps > bets + lead
    clear = statistics.Pair(np.arange(6.0) + 10, np.arange(6.0))
    assert statistics.two_sided(statistics.LOOKED.directions(clear)) <= LEVEL / 11
    assert statistics.least_replicates(LEVEL, 11, statistics.LOOKED) == 6


def test_more_contrasts_than_looks_can_settle_are_left_to_bets() -> None:
    tests = [statistics.anytime(statistics.UNPAIRED, LEVEL, contrasts) for contrasts in (1, 11, 31, 32)]
    assert tests == [statistics.LOOKED] * 3 + [statistics.BETS]
    assert statistics.anytime(statistics.PAIRED, LEVEL) is statistics.BETS
    assert statistics.least_replicates(LEVEL, 32, statistics.LOOKED) == math.inf


def test_the_interval_of_all_looks_covers_at_every_one() -> None:
    x, y = draws(300, 17), draws(300, 17)[::-1]
    missed = 0
    for first, second in zip(x, y, strict=True):
        pairs = [statistics.Pair(first[:n], second[:n]) for n in (6, 8, 10, 13, 17)]
        intervals = [statistics.swap_sequence(pair) for pair in pairs]
        missed += any(not interval.low <= 0 <= interval.high for interval in intervals)
        rejects = [bool(statistics.two_sided(statistics.LOOKED.directions(pair)) <= LEVEL) for pair in pairs]
        assert [not interval.low <= 0 <= interval.high for interval in intervals] == rejects
    assert missed <= stats.binom.ppf(0.999, len(x), LEVEL)
    short = statistics.swap_sequence(statistics.Pair(x[0, :5], y[0, :5]))
    assert short[1:] == (-math.inf, math.inf, "none")
    assert statistics.swap_sequence(statistics.Pair(x[0] + 9, y[0])).low > 5


@pytest.mark.parametrize(("n", "kind"), [(3, "normal"), (6, "normal"), (10, "normal"), (20, "exponential")])
def test_the_paired_interval_covers_the_mean(n: int, kind: str) -> None:
    rng = np.random.default_rng(n)
    truth = 1.0
    tries = 250
    hits = 0
    for _ in range(tries):
        x = rng.normal(truth, 2.0, n) if kind == "normal" else rng.exponential(truth, n)
        interval = statistics.sign_flip_interval(x)
        hits += interval.low <= truth <= interval.high
    lowest = 0.95 if kind == "normal" else 0.92  # skewed data are covered a little less
    assert hits >= stats.binom.ppf(0.001, tries, lowest)
    assert hits <= stats.binom.ppf(0.9999, tries, 0.98)


def test_intervals_invert_their_test_from_where_it_can_reject() -> None:
    methods = [statistics.sign_flip_interval(draws(n)).method for n in (1, 2, 5, 6)]
    assert methods == ["none", "t", "t", "inverted"]
    methods = [statistics.swap_interval(sampled(n)).method for n in (1, 2, 3, 4)]
    assert methods == ["none", "t", "t", "inverted"]
    for test in (statistics.PAIRED, statistics.UNPAIRED):
        for n in (6, 8, 10, 16):
            pair = sampled(n, shift=0.7)
            for level in (0.05, 0.2):
                interval = test.interval(pair, 1 - level)
                width = interval.high - interval.low
                for bound, outwards in ((interval.low, -1), (interval.high, 1)):
                    inside, outside = (
                        float(statistics.two_sided(test.directions(pair.less(bound + step * width))))
                        for step in (-1e-6 * outwards, 1e-6 * outwards)
                    )
                    assert outside <= level < inside
    x = draws(200)
    expected = stats.ttest_1samp(x, 0).confidence_interval()
    interval = statistics.sign_flip_interval(x)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=0.01)


def sampled(n: int, shift: float = 0.0, seed: int = 0) -> statistics.Pair:
    """Two samples of n, the first higher by `shift` standard deviations."""
    rng = np.random.default_rng(seed)
    return statistics.Pair(rng.normal(shift, 1, n), rng.normal(0, 1, n))


@pytest.mark.parametrize("n", [2, 4, 7, 8])
def test_swaps_between_samples_are_scipys_exact_permutation_test(n: int) -> None:
    pair = sampled(n, shift=0.8, seed=n)
    for alternative, p in (("greater", statistics.swap(pair).up), ("less", statistics.swap(pair).down)):
        expected = stats.permutation_test(
            pair, lambda a, b, axis: a.mean(axis) - b.mean(axis), vectorized=True,
            permutation_type="independent", n_resamples=np.inf, alternative=alternative,
        )  # fmt: skip
        assert float(p) == pytest.approx(min(1.0, 2 * expected.pvalue))


def test_random_swaps_come_close_to_all() -> None:
    pair = sampled(9, shift=0.9, seed=4)
    expected = stats.ttest_ind(*pair).pvalue
    assert float(statistics.two_sided(statistics.swap(pair))) == pytest.approx(expected, rel=0.15)
    assert statistics.swap(statistics.Pair(draws(3, 9), draws(3, 9, seed=1))).up.shape == (3,)


@pytest.mark.parametrize("kind", ["normal", "cauchy", "exponential"])
@pytest.mark.parametrize("n", [6, 10])
def test_swaps_err_at_most_at_their_level_where_samples_are_alike(kind: str, n: int) -> None:
    """Also skewed ones, of which sign flips err in every tenth."""
    rng = np.random.default_rng(n)
    both = (
        rng.exponential(size=(2, 2000, n)) if kind == "exponential" else draws(2, 2000, n, kind=kind, seed=n)
    )
    p = statistics.two_sided(statistics.swap(statistics.Pair(*both)))
    share, allowed = false_share(p <= LEVEL)
    assert share <= allowed


def test_sign_flips_of_skewed_differences_err_in_every_tenth_study_and_are_known_as_skewed() -> None:
    x = np.random.default_rng(0).exponential(size=(STUDIES, 10)) - 1
    wrong = (statistics.two_sided(statistics.sign_flip(x)) <= LEVEL).mean()
    assert 0.08 < wrong < 0.13
    known = np.mean([statistics.is_skewed(row) for row in x[:300]])
    assert known > 0.4
    normal = draws(300, 10)
    assert np.mean([statistics.is_skewed(row) for row in normal]) < 0.1
    assert not statistics.is_skewed([0.0, 0.0, 9.0])
    assert not statistics.is_skewed([1.0] * 10)


def test_unequal_spread_costs_swaps_little_of_their_level() -> None:
    """Samples of one size, one three times as wide: 6 % at ten seeds and 7 % at six, for 5."""
    rng = np.random.default_rng(0)
    for n, most in ((6, 0.085), (10, 0.075)):
        pair = statistics.Pair(rng.normal(size=(STUDIES, n)), 3 * rng.normal(size=(STUDIES, n)))
        assert (statistics.two_sided(statistics.swap(pair)) <= LEVEL).mean() < most


def test_a_difference_at_the_margin_is_called_negligible_at_most_at_the_level() -> None:
    for test, n in (
        *((statistics.PAIRED, n) for n in (6, 10)),
        *((statistics.UNPAIRED, n) for n in (6, 10)),
        (statistics.BETS, 40),
        (statistics.LOOKED, 22),
    ):
        rng = np.random.default_rng(n)
        both = rng.normal(size=(2, 2000, n))
        both[0] += 1.0
        p = statistics.within(statistics.Pair(*both), 1.0, test)
        share, allowed = false_share(p <= LEVEL)
        assert share <= allowed


def test_what_lies_within_the_margin_is_found_as_often_as_by_two_t_tests() -> None:
    rng = np.random.default_rng(1)
    both = 0.5 * rng.normal(size=(2, 500, 10))
    for test, t_test in (
        (statistics.PAIRED, lambda a, b, **side: stats.ttest_1samp(a - b, 0, axis=-1, **side)),
        (statistics.UNPAIRED, lambda a, b, **side: stats.ttest_ind(a, b, axis=-1, **side)),
    ):
        p = statistics.within(statistics.Pair(*both), 1.0, test)
        low = t_test(both[0] - 1, both[1], alternative="less").pvalue
        high = t_test(both[0] + 1, both[1], alternative="greater").pvalue
        tost = 2 * np.maximum(low, high)  # on the two-sided scale, as p
        assert ((p <= LEVEL) == (tost <= LEVEL)).mean() > 0.97
        assert (p <= LEVEL).mean() > 0.95


def test_few_or_equal_differences_have_an_interval_too() -> None:
    assert math.isnan(statistics.sign_flip_interval([]).estimate)
    assert statistics.sign_flip_interval([2.0])[:3] == (2.0, -math.inf, math.inf)
    assert statistics.sign_flip_interval([2.0] * 10)[:3] == pytest.approx((2.0, 2.0, 2.0))
    assert statistics.sign_flip_interval([0.0] * 10)[:3] == (0.0, 0.0, 0.0)


def test_a_confidence_sequence_covers_at_every_look() -> None:
    x = draws(120, 24)
    missed = [
        any(not interval.low <= 0 <= interval.high for interval in map(statistics.confidence_sequence, looks))
        for looks in ([row[:n] for n in (7, 12, 24)] for row in x)
    ]
    assert np.sum(missed) <= stats.binom.ppf(0.999, len(x), LEVEL)
    assert statistics.confidence_sequence(x[0, :4])[1:3] == (-math.inf, math.inf)
    assert statistics.confidence_sequence(x[0] + 3).method == "anytime"
    assert statistics.confidence_sequence(x[0] + 3).low > 1.5


def test_the_probability_of_better_counts_ties_half() -> None:
    assert statistics.probability_of_better([1.0, 2.0, 0.0, -1.0]) == 0.625
    assert math.isnan(statistics.probability_of_better([]))


def test_holm_is_statsmodels() -> None:
    for p in ([0.01, 0.04, 0.03, 0.5], [0.02], [0.2, 0.2, 0.9, 1.0, 0.01]):
        assert statistics.holm(p) == pytest.approx(multipletests(p, method="holm")[1])
    assert statistics.holm([]) == []


def test_holm_keeps_the_level_over_a_study_of_ten_contrasts() -> None:
    p = statistics.two_sided(statistics.sign_flip(draws(1000, 10, 10)))
    any_false = np.array([min(statistics.holm(list(row))) <= LEVEL for row in p])
    share, allowed = false_share(any_false)
    assert share <= allowed
    assert (p.min(-1) <= LEVEL).mean() > 4 * LEVEL  # without Holm


@pytest.mark.parametrize(
    ("contrasts", "level", "n"), [(1, 0.05, 6), (10, 0.05, 9), (1, 1 / 16, 5), (8, 0.01, 11)]
)
def test_the_least_replicates_are_those_whose_floor_reaches_the_level(
    contrasts: int, level: float, n: int
) -> None:
    assert statistics.least_replicates(level, contrasts) == n
    assert 2 / 2**n <= level / contrasts < 2 / 2 ** (n - 1)


def test_replicates_for_power_grow_with_noise_and_never_end_without_an_effect() -> None:
    x = stats.norm.ppf((np.arange(40) + 0.5) / 40)  # mean 0, standard deviation about 1
    zero = np.zeros(40)
    few, many = (
        statistics.replicates_for_power(statistics.Pair(x + shift, zero), LEVEL) for shift in (1.0, 0.25)
    )
    assert few.estimate == pytest.approx(8 + 2, abs=1)
    assert many.estimate == pytest.approx(16 * 7.85, rel=0.1)
    assert few.low < few.estimate < few.high < many.low < many.estimate < many.high
    none = statistics.replicates_for_power(statistics.Pair(np.array([1.0, -1.0]), np.zeros(2)), LEVEL)
    assert tuple(none) == (math.inf, 6, math.inf)
    clear = statistics.replicates_for_power(statistics.Pair(np.ones(2), np.zeros(2)), LEVEL)
    assert tuple(clear) == (6, 6, 6)


@pytest.mark.parametrize(
    ("test", "contrasts", "effect"),
    [
        *((test, 11, 1.25) for test in (statistics.PAIRED, statistics.UNPAIRED, statistics.LOOKED)),
        *((statistics.BETS, *case) for case in ((11, 1.25), (8, 1.0), (1, 1.0), (1, 0.5))),
        *((statistics.PAIRED, *case) for case in ((1, 1.5), (31, 2.0))),
        *((statistics.LOOKED, *case) for case in ((8, 1.0), (11, 2.0))),
    ],
)
def test_the_replicates_that_are_said_to_be_needed_have_the_power(
    test: statistics.Test, contrasts: int, effect: float
) -> None:
    """Differences with a standard deviation of 1; of a test with looks the one before the last has less."""
    large = statistics.Pair(stats.norm.ppf((np.arange(4000) + 0.5) / 4000) + effect, np.zeros(4000))
    n = int(statistics.replicates_for_power(large, LEVEL, contrasts, test=test).estimate)
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=(2, 1000, n)) * (1 if test.paired else math.sqrt(0.5))
    pair = statistics.Pair(first + effect, second * (not test.paired))
    one_less = statistics.Pair(pair.first[:, : n - 1], pair.second[:, : n - 1])
    power, of_fewer = ((test.directions(some).up <= LEVEL / contrasts).mean() for some in (pair, one_less))
    assert power > 0.72
    assert of_fewer < 0.82
    assert test.looks or power < 0.88 or of_fewer < 0.72, "one replicate makes much of it"
    assert not test.looks or n in test.looks


def swaps_needed(effect: float, contrasts: int = 1) -> float:
    """Replicates that show two samples apart whose differences have m / s `effect`."""
    quantiles = stats.norm.ppf((np.arange(4000) + 0.5) / 4000) * math.sqrt(0.5)
    samples = statistics.Pair(quantiles + effect, np.random.default_rng(0).permutation(quantiles))
    return statistics.replicates_for_power(samples, LEVEL, contrasts, test=statistics.UNPAIRED).estimate


@pytest.mark.parametrize("n", [6, 10])
@pytest.mark.parametrize("wider", [1.0, 3.0])
def test_the_range_of_replicates_needed_covers_as_it_says(n: int, wider: float) -> None:
    """Two samples whose differences have m / s = 1; whole numbers of replicates cover a little more."""
    rng, scales = np.random.default_rng(0), np.array([1.0, wider]) / math.hypot(1.0, wider)
    needed_by_all, covered = swaps_needed(1.0), 0
    for first, second in rng.normal(size=(1000, 2, n)) * scales[:, None]:
        needed = statistics.replicates_for_power(
            statistics.Pair(first + 1.0, second), LEVEL, test=statistics.UNPAIRED
        )
        covered += needed.low <= needed_by_all <= needed.high
    assert 0.77 < covered / 1000 < 0.87


@pytest.mark.parametrize("contrasts", [6, 12, 15, 18])
def test_samples_of_which_only_one_parting_is_rare_enough_must_not_overlap(contrasts: int) -> None:
    """Effects of 2 s: six replicates of which one parting is rare enough would show 65 % of them."""
    rng, shown = np.random.default_rng(1), {}
    n = int(swaps_needed(2.0, contrasts))
    first, second = rng.normal(size=(2, 2000, n)) * math.sqrt(0.5)
    for count in (n, n - 1):
        pair = statistics.Pair(first[:, :count] + 2.0, second[:, :count])
        shown[count] = (statistics.UNPAIRED.directions(pair).up <= LEVEL / contrasts).mean()
    assert shown[n] > 0.78
    assert shown[n - 1] < 0.78


def test_an_effect_too_small_for_bets_or_for_the_last_look_needs_no_number_of_replicates() -> None:
    small = statistics.Pair(stats.norm.ppf((np.arange(400) + 0.5) / 400) + 0.2, np.zeros(400))
    for test in (statistics.BETS, statistics.LOOKED):
        assert statistics.replicates_for_power(small, LEVEL, test=test).estimate == math.inf
    assert statistics.next_replicates(44, statistics.LOOKED) == math.inf
    x = draws(200, 1000) + 0.2
    ever = np.asarray(statistics.BETS.directions(statistics.Pair(x, np.zeros_like(x))).up) <= LEVEL
    assert ever.mean() < 0.5


def grid(seeds: int = 3, **effects: float) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "depth.of.it": depth,
            "width": width,
            "loss": effects.get("depth", 0) * depth
            + effects.get("width", 0) * width
            + effects.get("both", 0) * depth * width
            + effects.get("noise", 0.0) * rng.normal(),
        }
        for depth in (-1, 1)
        for width in (-1, 1)
        for _ in range(seeds)
    )


def test_importance_is_the_share_of_variance_of_each_factor_and_interaction() -> None:
    shares = statistics.importance(grid(depth=3, width=1, both=2), "loss", ["depth.of.it", "width"])
    assert dict(shares) == pytest.approx(
        {"depth.of.it": 9 / 14, "width": 1 / 14, "depth.of.it x width": 4 / 14, "residual": 0}, abs=1e-9
    )
    noisy = statistics.importance(grid(seeds=400, depth=1, noise=1), "loss", ["depth.of.it", "width"])
    assert noisy["depth.of.it"] == pytest.approx(0.5, abs=0.05)
    assert noisy["residual"] == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("seeds", [1, 3, None])
def test_importance_is_that_of_statsmodels(seeds: int | None) -> None:
    rng = np.random.default_rng(5)
    cells = [*itertools.product(range(3), range(2), range(4))]
    frame = pd.DataFrame(
        [cell for cell in cells for _ in range(seeds or rng.integers(1, 5))], columns=["a", "b", "c"]
    )
    frame["loss"] = rng.normal(size=len(frame)) + frame.a * frame.b
    terms = "a + b + c + a:b + a:c + b:c" + " + a:b:c" * (seeds != 1)
    # Combinations weigh the same: where they have as many runs, this is ordinary least squares.
    weights = 1 / frame.groupby(["a", "b", "c"])["loss"].transform("size")
    fit = wls("loss ~ " + re.sub("([abc])", r"C(\1)", terms), frame, weights=weights).fit()
    squares = anova_lm(fit, typ=2)["sum_sq"].to_numpy()
    shares = statistics.importance(frame.sample(frac=1, random_state=0), "loss", ["a", "b", "c"])
    assert shares.to_numpy() == pytest.approx(squares / squares.sum(), abs=1e-12)
    assert [*shares.index[:4]] == ["a", "b", "c", "a x b"]


def test_importance_adds_up_to_all_variance_however_many_runs_a_combination_has() -> None:
    counts, means = (10, 2, 2, 10), (4.0, 1.0, 2.0, 9.0)
    rng = np.random.default_rng(0)
    runs = [rng.normal(mean, 1, count) for mean, count in zip(means, counts, strict=True)]
    frame = pd.DataFrame(
        {"a": cell // 2, "b": cell % 2, "loss": loss} for cell in range(4) for loss in runs[cell]
    )
    shares = statistics.importance(frame, "loss", ["a", "b"])
    within, between = np.mean([values.var() for values in runs]), np.var([values.mean() for values in runs])
    assert shares.sum() == pytest.approx(1)
    assert shares["residual"] == pytest.approx(within / (within + between))
    tripled = pd.concat([frame, frame[frame.a == 1], frame[frame.a == 1]])
    assert statistics.importance(tripled, "loss", ["a", "b"]).to_numpy() == pytest.approx(shares.to_numpy())


def test_with_one_run_a_combination_the_interaction_is_the_residual() -> None:
    shares = statistics.importance(grid(1, depth=3, both=1), "loss", ["depth.of.it", "width"])
    assert dict(shares) == pytest.approx({"depth.of.it": 0.9, "width": 0, "residual": 0.1}, abs=1e-9)


@pytest.mark.parametrize(
    ("change", "factors", "message"),
    [
        (lambda frame: frame[3:], ["depth.of.it", "width"], r"1 of 4 .* such as depth\.of\.it=-1, width=-1"),
        (lambda frame: frame, ["depth.of.it", "widht"], r"widht: .* did you mean width\?"),
        (lambda frame: frame[frame.width == 1], ["width"], r"width: has 1 value"),
        (lambda frame: frame.assign(loss=1.0), ["width"], "no variance"),
        (lambda frame: frame.assign(loss=math.nan), ["width"], "width: has 0 value"),
    ],
)
def test_importance_needs_a_full_grid(change: Any, factors: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        statistics.importance(change(grid(depth=1)), "loss", factors)


def test_importance_refuses_keys_of_too_many_interactions_and_takes_any_number_of_values() -> None:
    keys = [*"abcdefghij"]
    binary = pd.DataFrame(itertools.product(range(2), repeat=10), columns=keys).assign(loss=range(1024))
    with pytest.raises(
        UserError, match=r"a, b, .*: they have 1,022 terms.* at most 1,000 .* Compare fewer keys"
    ):
        statistics.importance(binary, "loss", keys)
    fine = pd.DataFrame(itertools.product(range(40), repeat=2), columns=["a", "b"])
    shares = statistics.importance(fine.assign(loss=fine.a + fine.b), "loss", ["a", "b"])
    assert dict(shares) == pytest.approx({"a": 0.5, "b": 0.5, "residual": 0}, abs=1e-12)


def test_configurations_that_no_other_beats_are_best_together() -> None:
    rng = np.random.default_rng(1)
    seeds = rng.normal(0, 5, 12)  # what runs of one seed share does not blur the comparison
    means = {"a": 100.0, "b": 100.05, "c": 103.0}
    values = {
        name: {s: mean + seeds[s] + rng.normal(0, 0.3) for s in range(12)} for name, mean in means.items()
    }
    assert statistics.tied_with_best(values, lower_is_better=True) == {"a", "b"}
    assert statistics.tied_with_best(values, lower_is_better=False) == {"c"}
    few = {name: {s: runs[s] for s in range(4)} for name, runs in values.items()}
    assert statistics.tied_with_best(few, lower_is_better=True) == {"a", "b", "c"}
    assert statistics.tied_with_best({"a": {0: 1.0}, "b": {0: math.nan}}, lower_is_better=True) == {"a"}


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("test", [statistics.PAIRED, statistics.UNPAIRED])
def test_the_tied_are_those_down_to_the_worst_that_no_other_beats(test: statistics.Test, lower: bool) -> None:
    rng = np.random.default_rng(3)
    sign = 1 if lower else -1
    for _ in range(30):
        means = rng.choice([0.0, 0.5, 2.0], 6)
        values = {
            i: {seed: mean + rng.normal(0, 1) for seed in range(10) if rng.random() > 0.1}
            for i, mean in enumerate(means)
        }

        def beats(rival: int, row: int, values: dict[int, dict[int, float]] = values) -> bool:
            seeds = values[row].keys() & values[rival].keys()
            own, other = (np.array([sign * values[i][seed] for seed in sorted(seeds)]) for i in (row, rival))
            p = float(test.directions(statistics.Pair(own, other)).up)
            return own.mean() > other.mean() and p <= LEVEL / 5 and test.floor(len(seeds)) <= LEVEL / 5

        order = sorted(values, key=lambda i: sign * np.mean([*values[i].values()]))
        unbeaten = [
            k for k, row in enumerate(order) if not any(beats(rival, row) for rival in values if rival != row)
        ]
        tied = statistics.tied_with_best(values, lower_is_better=lower, test=test)
        assert tied == set(order[: max(unbeaten) + 1])


@pytest.mark.parametrize("test", [statistics.PAIRED, statistics.UNPAIRED])
def test_the_best_is_among_the_tied_with_its_probability(test: statistics.Test) -> None:
    rng = np.random.default_rng(2)
    lost = 0
    for _ in range(300):
        values = {i: dict(enumerate(rng.normal(0, 1, 8))) for i in range(4)}
        lost += 0 not in statistics.tied_with_best(values, lower_is_better=True, test=test)
    assert lost <= stats.binom.ppf(0.999, 300, LEVEL)


def test_rows_of_several_architectures_are_told_apart_by_fewer_seeds() -> None:
    rng = np.random.default_rng(0)
    rows = {mean: dict(enumerate(mean + rng.normal(0, 0.3, 5))) for mean in (100.0, 110.0, 120.0)}
    assert statistics.tied_with_best(rows, lower_is_better=True) == set(rows)
    assert statistics.tied_with_best(rows, lower_is_better=True, test=statistics.UNPAIRED) == {100.0}
