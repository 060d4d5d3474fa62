"""The sentences of verdicts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from vae_lab.metrics import CATALOGUE, Metric
from vae_lab.studies.claims.declared import Claim
from vae_lab.studies.comparison import key_name
from vae_lab.studies.study import POINT

METRIC_NAMES = {
    "test/negative_elbo": "held-out negative ELBO",
    "test/iwae_bound": "importance-weighted bound",
    "test/active_units": "number of active units",
    "test/collapsed_units": "number of collapsed units",
}
TIE = 0.5  # how far a replicate agrees with a claim that is neither so nor the other way round in it
STEPS = {"model.layers": "each added layer"}  # where the axis is whole numbers without gaps


@dataclass(frozen=True)
class Wording:
    """The sentence of a claim's verdict: its names, and the values that it is about."""

    claim: Claim
    axis: Sequence[str]
    step: int = 0  # index of the step or the inner value that the sentence is about
    end: int = 0  # 0 for the first value of the axis, 1 for the last
    weakest: int = 0  # index of the step that support waits for
    flattest: int = 0  # index of the step that is most clearly within the margin
    signs: tuple[float, float] = (0.0, 0.0)  # of both groups' trends

    @property
    def metric(self) -> str:
        """The metric as a reader calls it."""
        return metric_name(self.claim.metric, self.claim.own)

    @property
    def unit(self) -> str:
        """The metric's unit with a space before it, if it is known and more than `of Z`."""
        known = self.claim.own or CATALOGUE.get(self.claim.metric)
        return f" {known.unit}" if known and known.unit and not known.unit.startswith("of ") else ""

    @property
    def falls_as_claimed(self) -> bool:
        """Whether the metric falls where the claim's effect is positive."""
        first, second = self.signs
        stronger = second if abs(first) <= abs(second) else first  # which the weaker trend is held against
        return self.claim.expect == "decreasing" or stronger < 0

    @property
    def axis_name(self) -> str:
        """The axis as a reader calls it."""
        return key_name(self.claim.along)

    def configuration(self, group: Mapping[str, str], value: str = "") -> str:
        """A group, and a value of the axis in it: `CVAE, latent size 15`."""
        return named({**self.claim.within, **group, **({self.claim.along: value} if value else {})})

    def supported(self, size: str) -> str:
        """What supports the claim; `size` is its effect with interval."""
        match self.claim.expect:
            case "increasing" | "decreasing" if len(self.axis) == 2:
                verb = "rises" if self.claim.expect == "increasing" else "falls"
                return f"{self._step(0)} the {self.metric} {verb} by {size}"
            case "increasing" | "decreasing":
                verb = "raises" if self.claim.expect == "increasing" else "lowers"
                return f"{self._each_step()} {verb} the {self.metric} by {size}"
            case "better":
                return self._lead(self.claim.of, self.claim.than, size)
            case "equal":
                return f"{self._both()} differ in {self.metric} by {size}, less than {self._margin()},"
            case "smaller_spread":
                return self._spread(self.claim.of, self.claim.than, size)
            case "best_inside":
                best = named({self.claim.along: self.axis[self.step]})
                ends = f"({self.axis[0]} and {self.axis[-1]})"
                if len(self.axis) == 3:
                    return f"the {self.metric} is best at {best}, ahead of the ends {ends} by at least {size}"
                # Which of several it is has not been tested, and the one that was shown may be another.
                inner = f"some inner {self.axis_name} has a better {self.metric} than both ends {ends}"
                return f"{inner}, by {size}; the best in the mean, {best}, is ahead"
        return self._trends(size)

    def refuted(self, size: str) -> str:
        """What refutes the claim; `size` is the effect against it."""
        match self.claim.expect:
            case "increasing" | "decreasing":
                verb = "falls" if self.claim.expect == "increasing" else "rises"
                return f"{self._step(self.step)} the {self.metric} {verb} by {size}"
            case "better":
                return self._lead(self.claim.than, self.claim.of, size)
            case "equal":
                return f"{self._both()} differ in {self.metric} by {size}, more than {self._margin()},"
            case "smaller_spread":
                return self._spread(self.claim.than, self.claim.of, size)
            case "best_inside":
                inner, end = self._inner_and_end()
                lead = f"{end} has a better {self.metric} than {inner} by {size}"
                return f"no inner {self.axis_name} is best: {lead}"
        return self._trends(size)

    def negligible(self, size: str) -> str:
        """What shows that there is no difference that matters; sizes here and below are signed."""
        match self.claim.expect:
            case "increasing" | "decreasing":
                steps = "" if len(self.axis) == 2 else " in every step"
                change = f"{self._each_step()} changes the {self.metric} by {size}"
                return f"{change}, less than {self._margin()}{steps}"
            case "smaller_spread":
                groups = f"{named(self.claim.of)} and {named(self.claim.than)}"
                lead = f"the {self._extent()} differs between {groups} by {self._rooted(size)}"
                return f"{lead}, less than {self._margin()}"
            case "best_inside":
                ends = f"{self.axis[0]} and {self.axis[-1]}"
                lead = f"the lead of the best inside over the ends ({ends}) is {size}"
                return f"no {self.axis_name} is ahead in {self.metric} by {self._margin()}: {lead}"
            case "same_trend":
                return f"{self._trends(size)}, both less than {self._margin()}"
        return f"{self._both()} differ in {self.metric} by {size}, less than {self._margin()}"

    def refuted_as_small(self, size: str) -> str:
        """What shows that a part of the claimed difference is too small to matter."""
        if self.claim.expect == "best_inside":
            best, end = self._inner_and_end()
            lead = self._signed_lead(f"{best}, the best inside,", f"{end}, the better end,", size)
            return f"no inner {self.axis_name} is best by {self._margin()}: {lead}"
        change = f"{self._step(self.flattest)} the {self.metric} changes by {size}"
        return f"{change}, less than {self._margin()}"

    def undecided(self, size: str, weakest: str) -> str:
        """What leaves the claim undecided; sizes are signed, positive if they are as claimed.

        Args:
            size: the effect; of steps and trends it is the metric's own change.
            weakest: the same of the contrast that support waits for.
        """
        match self.claim.expect:
            case "increasing" | "decreasing":
                change = f"{self._each_step()} changes the {self.metric} by {size}"
                if len(self.axis) == 2:  # one step, which is its own weakest
                    return change
                return f"{change}, the weakest step, {self._step(self.weakest)}, by {weakest}"
            case "better":
                return self._signed_lead(named(self.claim.of), named(self.claim.than), size)
            case "equal":
                return f"{self._both()} differ in {self.metric} by {size}, held against {self._margin()}"
            case "smaller_spread":
                groups = f"{named(self.claim.of)} is smaller than in {named(self.claim.than)}"
                return f"the amount by which the {self._extent()} in {groups} is {self._rooted(size)}"
            case "best_inside":
                best, end = self._inner_and_end()
                return self._signed_lead(f"{best}, the best inside,", f"{end}, the better end,", size)
        return self._trends(size)

    def _both(self) -> str:
        return f"{named(self.claim.of)} and {named(self.claim.than)}"

    def _margin(self) -> str:
        return f"the margin of {self.claim.margin:g}{self.unit}"

    def _signed_lead(self, first: str, second: str, size: str) -> str:
        return f"the lead of {first} over {second} in {self.metric} is {size}"

    def _step(self, index: int) -> str:
        return f"from {self.axis_name} {self.axis[index]} to {self.axis[index + 1]}"

    def _inner_and_end(self) -> tuple[str, str]:
        inner, end = self.axis[self.step], self.axis[-self.end]
        return named({self.claim.along: inner}), named({self.claim.along: end})

    def _lead(self, better: Mapping[str, str], worse: Mapping[str, str], size: str) -> str:
        return f"{named(better)} has a better {self.metric} than {named(worse)} by {size}"

    def _each_step(self) -> str:
        listed = ", ".join(self.axis)
        gaps = {float(b) - float(a) for a, b in zip(self.axis, self.axis[1:], strict=False)}
        if gaps == {1.0} and self.claim.along in STEPS:
            return f"{STEPS[self.claim.along]} ({listed})"
        return f"each step up in {self.axis_name} ({listed})"

    def _spread(self, less: Mapping[str, str], more: Mapping[str, str], size: str) -> str:
        return (
            f"the {self._extent()} is smaller in {named(less)} than in {named(more)}, by {self._rooted(size)}"
        )

    def _rooted(self, size: str) -> str:
        """A size that is the root of a difference of variances, but for a gap between two values."""
        return size if len(self.axis) == 2 else f"{size} in quadrature"

    def _extent(self) -> str:
        if len(self.axis) == 2:
            return f"gap in mean {self.metric} between {self.axis_name} {self.axis[0]} and {self.axis[1]}"
        return f"standard deviation of the mean {self.metric} over {self.axis_name} ({', '.join(self.axis)})"

    def _trends(self, size: str) -> str:
        verbs = ["rises" if sign > 0 else "falls" if sign < 0 else "stays" for sign in self.signs]
        along = f"along {self.axis_name} ({', '.join(self.axis)}) the {self.metric}"
        weaker = f"the weaker trend a step by {size}"
        first, second = named(self.claim.of), named(self.claim.than)
        if verbs[0] == verbs[1]:
            return f"{along} {verbs[0]} in both {first} and {second}, {weaker}"
        return f"{along} {verbs[0]} in {first} and {verbs[1]} in {second}, {weaker}"


def named(group: Mapping[str, str]) -> str:
    """A group as a reader calls it.

    Examples:
        >>> named({"model": "cvae", "model.latent_size": "15"})
        'CVAE, latent size 15'
    """
    return ", ".join(
        value.upper() if key == "model" else value if key == POINT else f"{key_name(key)} {value}"
        for key, value in group.items()
    )


def counted(n: int, thing: str) -> str:
    """A number of things.

    Examples:
        >>> counted(1, "seed"), counted(3, "seed")
        ('1 seed', '3 seeds')
    """
    return f"{n} {thing}{'' if n == 1 else 's'}"


def in_so_many(agreement: Iterable[float], replicates: str) -> str:
    """In how many replicates it is so: 1 where it is, 0.5 for a tie.

    Examples:
        >>> in_so_many([1, 0, 0.5, 1], "4 seeds")
        'in 2 of 4 seeds, tied in 1'
    """
    values = list(agreement)
    ties = f", tied in {values.count(TIE)}" if TIE in values else ""
    return f"in {values.count(1)} of {replicates}{ties}"


def sentence(claim: Claim, clause: str) -> str:
    """A clause as a sentence that begins with the claim's scope."""
    scope = named(claim.within)
    start = f"{scope}: {clause}" if scope else clause
    return f"{start[0].upper()}{start[1:]}."


def metric_name(key: str, own: Metric | None = None) -> str:
    """A metric as a reader calls it; one of the user's own says so itself.

    Examples:
        >>> metric_name("test/loss"), metric_name("eval/recognizable_share")
        ('held-out loss', 'recognizable share')
    """
    if own is not None:
        return own.heading
    known = CATALOGUE[key].heading if key in CATALOGUE else key.rpartition("/")[2].replace("_", " ")
    return METRIC_NAMES.get(key, known)


def decimals(estimate: float, low: float, high: float) -> int:
    """Digits after the point that show an interval's half width, or else an estimate, to two figures.

    Examples:
        >>> decimals(11.87, 11.0, 13.5), decimals(0.0083, -0.02, 0.03)
        (1, 3)
    """
    scale = (high - low) / 2 if math.isfinite(high - low) and high > low else abs(estimate)
    return max(0, 1 - math.floor(math.log10(scale))) if scale > 0 else 2
