"""Seeds for open claims only, simulated: how often a study errs, and how many runs it saves."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from vae_lab.studies import statistics
from vae_lab.studies.statistics.sequential import wealth

LEVEL, STUDIES, CLAIMS = 0.05, 2000, 6
Array = NDArray[Any]


class Outcome(NamedTuple):
    """What became of the studies."""

    wrong: Array  # (studies,): whether any verdict is
    settled: Array  # (studies, claims)
    runs: Array  # (studies,)


def bets(x: Array) -> tuple[Array, Array]:
    """Returns p (studies, claims, seeds) of claim k after each seed, for it and against it, by bets."""
    up, down = (np.maximum.accumulate(side, axis=-1) for side in wealth(np.diff(x, axis=1)))
    return np.minimum(1, 2 / up), np.minimum(1, 2 / down)


def swaps(x: Array) -> tuple[Array, Array]:
    """The same by swaps at looks."""
    up, down = (np.ones((*x.shape[:1], CLAIMS, x.shape[-1])) for _ in range(2))
    for part in np.array_split(np.arange(len(x)), max(1, len(x) // 100)):
        for look in looks(x.shape[-1]):
            pair = statistics.Pair(x[part, 1:, :look], x[part, :-1, :look])
            for p, values in zip((up, down), statistics.LOOKED.directions(pair), strict=True):
                p[part, :, look - 1 :] = values[..., None]
    return up, down


TESTS = {"bets": (bets, 35), "swaps at looks": (swaps, 13)}


def looks(most: int) -> list[int]:
    """The seeds after each round."""
    return [look for look in statistics.LOOKS if look <= most]


def adjusted(p: Array) -> Array:
    """Holm's p over the last axis."""
    order = np.argsort(p, axis=-1)
    steps = np.take_along_axis(p, order, -1) * np.arange(p.shape[-1], 0, -1)
    result = np.empty_like(p)
    np.put_along_axis(result, order, np.minimum(1, np.maximum.accumulate(steps, axis=-1)), -1)
    return result


def conducted(
    x: Array, effects: Array, *, selective: bool, giving_up: bool = False, test: str = "bets"
) -> Outcome:
    """Conducts studies whose claim k is that configuration k + 1 has more than k.

    A configuration between two open claims goes on, so that a settled claim between two open ones, too, has
    ever more pairs, and one beside a claim that is given up has fewer than its neighbour.

    Args:
        x: values (studies, configurations, seeds).
        effects: the true difference of each claim; of one that is zero, any verdict is wrong.
        selective: whether only configurations of open claims get more seeds.
        giving_up: whether claims whose effect is much too small for all seeds are not followed further.
        test: a key of `TESTS`.
    """
    d, most = np.diff(x, axis=1), x.shape[-1]
    p_up, p_down = TESTS[test][0](x)
    counts = np.full(x.shape[:2], looks(most)[0])
    given_up = np.zeros(d.shape[:2], dtype=bool)
    for look in looks(most):
        n = np.minimum(counts[:, 1:], counts[:, :-1])
        last = (n - 1)[..., None]
        seen = [np.take_along_axis(p, last, -1)[..., 0] for p in (p_up, p_down)]
        settled = adjusted(np.minimum(*seen)) <= LEVEL
        if look == most:
            break
        if giving_up:
            mean = d[..., :look].mean(-1) / d[..., :look].std(-1, ddof=1)
            given_up |= ~settled & (n == look) & (np.abs(mean) + 1.28 / np.sqrt(look) < 0.5)
        is_open = ~settled & ~given_up
        further = np.zeros_like(counts, dtype=bool)
        further[:, 1:] |= is_open
        further[:, :-1] |= is_open
        if not selective:
            further[:] = is_open.any(1, keepdims=True)
        counts[further] = looks(most)[looks(most).index(look) + 1]
    says = np.where(seen[0] < seen[1], 1, -1)
    return Outcome((settled & (says != np.sign(effects))).any(1), settled, counts.sum(1))


def drawn(effects: Array, shape: str, seed: int, most: int = 35) -> Array:
    rng = np.random.default_rng(seed)
    size = (STUDIES, CLAIMS + 1, most)
    noise = rng.normal(size=size) if shape == "normal" else rng.standard_cauchy(size=size)
    means = np.concatenate([[0.0], np.cumsum(effects)])
    return np.asarray(means[:, None] + noise)


@pytest.mark.parametrize(
    ("test", "shape", "giving_up"),
    [
        *(("bets", shape, giving_up) for shape in ("normal", "Cauchy") for giving_up in (False, True)),
        ("swaps at looks", "normal", True),
    ],
)
@pytest.mark.parametrize("clear", [0, 3], ids=["nothing differs", "half of the claims are clear"])
def test_a_study_that_stops_claim_by_claim_errs_at_most_at_its_level(
    clear: int, test: str, shape: str, giving_up: bool
) -> None:
    """2,000 studies each; clear claims settle first and leave the others the larger part of Holm's level."""
    effects = np.where(np.arange(CLAIMS) % 2 < bool(clear), 1000.0, 0.0)
    x = drawn(effects, shape, clear, TESTS[test][1])
    outcome = conducted(x, effects, selective=True, giving_up=giving_up, test=test)
    assert outcome.wrong.sum() <= stats.binom.ppf(0.999, STUDIES, LEVEL)
    if clear and shape == "normal":
        assert outcome.settled[:, ::2].all()


def test_seeds_for_open_claims_only_save_runs_and_settle_as_much() -> None:
    effects = np.array([8.0, 8.0, 8.0, 1.2, 8.0, 8.0])
    x = drawn(effects, "normal", 1)
    common, selective = (conducted(x, effects, selective=chosen) for chosen in (False, True))
    assert np.array_equal(selective.settled, common.settled)
    assert selective.runs.mean() < 0.7 * common.runs.mean()


def test_a_settled_claim_stays_settled_whatever_seeds_its_configurations_get() -> None:
    """Its p never rises, and neither does Holm's with it, as pairs are only ever added at the end."""
    effects = np.array([3.0, 0.0, 3.0, 0.0, 3.0, 0.0])
    d = np.diff(drawn(effects, "normal", 2), axis=1)
    p = 2 / np.maximum.accumulate(np.maximum(*wealth(d)), axis=-1)
    rng = np.random.default_rng(0)
    most, before = p.shape[-1], np.full(p.shape[:2], 9)
    for _ in range(5):
        after = np.minimum(most, before + rng.integers(0, 8, before.shape))
        earlier, later = (
            adjusted(np.take_along_axis(p, (counts - 1)[..., None], -1)[..., 0]) for counts in (before, after)
        )
        assert np.all(later <= earlier)
        before = after


def test_giving_up_hardly_ever_gives_up_what_would_have_been_settled() -> None:
    """A claim is given up where an effect as large as may be has no fair chance to be shown by the most."""
    rng, most = np.random.default_rng(0), 22
    for effect in (0.0, 0.8):
        given_up = lost = 0
        for d in rng.normal(size=(300, most)) + effect:
            p = 2 / np.maximum.accumulate(np.maximum(*wealth(d)))
            for n in looks(most)[:-1]:
                if p[n - 1] <= LEVEL:
                    break
                seen = statistics.Pair(d[:n], np.zeros(n))
                fewest = statistics.replicates_for_power(
                    seen, LEVEL, power=statistics.FAIR_CHANCE, test=statistics.BETS
                ).low
                if fewest > most:
                    given_up += 1
                    lost += p[-1] <= LEVEL
                    break
        assert lost <= 0.02 * 300
        assert given_up > 0.7 * 300 or effect > 0
