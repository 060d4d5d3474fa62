"""What a run of a search will come to at its full length: a Gaussian process over settings and epochs.

As in freeze-thaw optimization (Swersky, Snoek & Adams 2014), learning curves of all trials are one data set:
what paused early says something of its own end and of its neighbours', and the gain of a further segment can
be weighed against that of a new trial.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

Numbers = NDArray[np.float64]

BOLDNESS = 2.0  # standard deviations below the mean: so much a run may turn out better than it looks
MOST_SEEN = 1000  # values; the work grows with their third power
REFIT = 8  # values that come in between two fits of the scales
SCALES = (0.15, 0.3, 0.6, 1.2, 2.4)  # of a setting, whose range is 1
TIMES = (0.2, 0.4, 0.8, 1.6)  # of the logarithm of epochs, whose range is 1
NOISES = (0.001, 0.01, 0.05)
SHARES = (  # of the variance: settings for good and over time, the run's own for good and over time
    *((0.5, 0.5, 0.05, 0.05), (0.5, 0.5, 0.2, 0.2), (0.8, 0.2, 0.05, 0.05)),
    *((0.2, 0.8, 0.05, 0.05), (0.2, 0.8, 0.2, 0.2)),
)


class Seen(NamedTuple):
    """One value of a learning curve."""

    number: int  # of the trial
    point: tuple[float, ...]  # its settings, each from 0 to 1
    epoch: int
    value: float  # the lower the better


class Prior(NamedTuple):
    """How alike two values of learning curves are taken to be."""

    scales: tuple[float, ...]  # a setting each
    time: float = 0.4
    noise: float = 0.01
    shares: tuple[float, ...] = (0.5, 0.5, 0.1, 0.15)

    def covariance(self, left: Places, right: Places) -> Numbers:
        """Returns the covariances between two sets of places, (left, right)."""
        apart = ((left.points[:, None] - right.points[None]) / self.scales) ** 2
        settings = _matern(np.sqrt(apart.sum(2)))
        times = _matern(np.abs(left.times[:, None] - right.times[None]) / self.time)
        same = left.numbers[:, None] == right.numbers[None]
        shared, shared_in_time, own, own_in_time = self.shares
        covariance: Numbers = settings * (shared + shared_in_time * times) + same * (
            own + own_in_time * times
        )
        return covariance


class Places(NamedTuple):
    """Where learning curves have values, or where they are asked for."""

    points: Numbers  # (places, settings)
    times: Numbers  # (places,), 0 at the first epoch and 1 at the last
    numbers: NDArray[np.int64]  # (places,), of the trials


class Forecast:
    """Says how good each of several runs may be at the end.

    Args:
        epochs: The full length of a run.

    Examples:
        Two settings were followed to the end; of two that paused, the one near the better of them may be
        better:

        >>> curve = lambda number, at, *values: [Seen(number, (at,), e, v) for e, v in zip((1, 3, 9), values)]
        >>> seen = [*curve(0, 0.0, 120, 90, 80), *curve(1, 1.0, 110, 105, 104), *curve(2, 0.1, 119, 91)]
        >>> seen += curve(3, 0.9, 111, 104)
        >>> bounds = Forecast(9).bounds(seen, [(0.1,), (0.9,)], [2, 3], under_way=[])
        >>> bool(bounds[0] < bounds[1])
        True
    """

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs
        self._fitted: tuple[Sequence[Seen], Prior] = ((), Prior(()))  # the last fit, and what it was to

    def bounds(
        self,
        seen: Sequence[Seen],
        points: Sequence[tuple[float, ...]],
        numbers: Sequence[int],
        under_way: Collection[Seen],
        boldness: float = BOLDNESS,
    ) -> Numbers:
        """Returns what each run may come to at the end if it turns out well, (runs,); the lower the better.

        The unit is that of the values' logarithm above the best one, so only their order says something.

        Args:
            seen: Values of all trials, in the order in which they came in.
            points: The settings that are asked about.
            numbers: Their trials, -1 for a new one.
            under_way: What is trained now, with no value yet: its expected value is taken for seen, so that
                two workers do not go after the same.
            boldness: How many standard deviations better than expected.
        """
        asked = self._places(
            [Seen(n, point, self.epochs, 0.0) for n, point in zip(numbers, points, strict=True)]
        )
        if not seen:
            return np.zeros(len(points))
        prior = self._prior(seen)
        known, values = self._furthest(seen)
        if under_way:
            waiting = self._places([*under_way])
            expected, _ = _posterior(prior, known, values, waiting)
            known = Places(*(np.concatenate(pair) for pair in zip(known, waiting, strict=True)))
            values = np.concatenate([values, expected])
        mean, deviation = _posterior(prior, known, values, asked)
        return mean - boldness * deviation

    def _furthest(self, seen: Sequence[Seen]) -> tuple[Places, Numbers]:
        """Returns where the values are that tell most of ends, and the values."""
        furthest = sorted(seen, key=lambda one: (-one.epoch, one.value, one.number))[:MOST_SEEN]
        return self._places(furthest), _compressed(furthest)

    def _places(self, seen: Sequence[Seen]) -> Places:
        epochs = np.array([one.epoch for one in seen], dtype=float)
        return Places(
            np.array([one.point for one in seen], dtype=float),
            np.log(epochs) / max(np.log(self.epochs), 1e-9),
            np.array([one.number for one in seen], dtype=np.int64),
        )

    def _prior(self, seen: Sequence[Seen]) -> Prior:
        """Returns scales and shares as they were fitted to the last multiple of `REFIT` values.

        Each fit begins from the same scales. So it follows from the values alone, and a search that was
        killed goes on with what it would have had.
        """
        first = seen[: len(seen) // REFIT * REFIT] if len(seen) > REFIT else []
        if first != self._fitted[0] or not self._fitted[1].scales:
            prior = Prior((0.5,) * len(seen[0].point))
            self._fitted = first, _fitted(prior, *self._furthest(first)) if first else prior
        return self._fitted[1]


def _fitted(prior: Prior, known: Places, values: Numbers) -> Prior:
    """Returns a prior whose scales and shares were chosen one after the other by the marginal likelihood."""
    for _ in range(2):
        for place in range(len(prior.scales)):
            before, after = prior.scales[:place], prior.scales[place + 1 :]
            options = [prior._replace(scales=(*before, scale, *after)) for scale in SCALES]
            prior = _likeliest(options, known, values)
        prior = _likeliest([prior._replace(time=time) for time in TIMES], known, values)
        prior = _likeliest([prior._replace(noise=noise) for noise in NOISES], known, values)
        prior = _likeliest([prior._replace(shares=shares) for shares in SHARES], known, values)
    return prior


def _compressed(seen: Sequence[Seen]) -> Numbers:
    """Returns values on a scale on which the differences between good ones count, standardized.

    Early losses lie tens of nats above late ones; what is looked for is tenths of nats between the best.
    """
    values = np.array([one.value for one in seen])
    newest: dict[int, Seen] = {}
    for one in seen:
        if one.number not in newest or one.epoch > newest[one.number].epoch:
            newest[one.number] = one
    spread = np.median([one.value for one in newest.values()]) - values.min()
    logs = np.log(values - values.min() + max(0.25 * spread, 1e-3 * max(abs(values.min()), 1e-3)))
    standardized: Numbers = (logs - np.median(logs)) / (logs.std() + 1e-9)
    return standardized


def _matern(distance: Numbers) -> Numbers:
    """Returns the Matérn covariance of smoothness 3/2 at a distance in units of its scale."""
    scaled = np.sqrt(3) * distance
    covariance: Numbers = (1 + scaled) * np.exp(-scaled)
    return covariance


def _solved(prior: Prior, known: Places, values: Numbers) -> tuple[tuple[Numbers, bool], Numbers, float]:
    """Returns the factor of the covariance, the weights of the values, and the variance of the process."""
    factor = cho_factor(prior.covariance(known, known) + prior.noise * np.eye(len(values)), lower=True)
    weights = cho_solve(factor, values)
    return factor, weights, float(values @ weights) / len(values)


def _likeliest(options: Sequence[Prior], known: Places, values: Numbers) -> Prior:
    def likelihood(prior: Prior) -> float:
        factor, _, variance = _solved(prior, known, values)
        return float(-0.5 * len(values) * np.log(max(variance, 1e-6)) - np.log(np.diag(factor[0])).sum())

    return max(options, key=likelihood)


def _posterior(prior: Prior, known: Places, values: Numbers, asked: Places) -> tuple[Numbers, Numbers]:
    """Returns mean and standard deviation at the places asked for, each (places,)."""
    factor, weights, variance = _solved(prior, known, values)
    between = prior.covariance(asked, known)
    left = sum(prior.shares) - (between * cho_solve(factor, between.T).T).sum(1)
    return between @ weights, np.sqrt(np.maximum(left, 1e-9) * max(variance, 0.05))
