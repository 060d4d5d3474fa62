"""What differences between runs are worth: intervals, sign-flip tests, Holm, ANOVA, ties, anytime tests.

Shapes: n replicates (seeds), * any leading axes. Tests come on the two-sided scale in both directions:
`up` at a level of 0.05 errs with probability 0.025 where nothing differs. See docs/statistics.md.
"""

from vae_lab.studies.statistics.differences import (
    Directions,
    Interval,
    least_replicates,
    mean_interval,
    paired_interval,
    probability_of_better,
    replicates_for_power,
    sign_flip,
    two_sided,
)
from vae_lab.studies.statistics.factors import holm, importance, tied_with_best
from vae_lab.studies.statistics.sequential import anytime_sign_flip, confidence_sequence, next_round

__all__ = [
    "Directions",
    "Interval",
    "anytime_sign_flip",
    "confidence_sequence",
    "holm",
    "importance",
    "least_replicates",
    "mean_interval",
    "next_round",
    "paired_interval",
    "probability_of_better",
    "replicates_for_power",
    "sign_flip",
    "tied_with_best",
    "two_sided",
]
