"""What differences between runs are worth: tests and their intervals, margins, Holm, power, ANOVA, ties.

Shapes: n replicates (seeds), * any leading axes. Tests come on the two-sided scale in both directions:
`up` at a level of 0.05 errs with probability 0.025 where nothing differs. See docs/statistics.md.
"""

from vae_lab.studies.statistics.differences import (
    PAIRED,
    UNPAIRED,
    Array,
    Directions,
    Interval,
    Margins,
    Pair,
    Test,
    beside,
    chosen_test,
    is_of_architecture,
    is_skewed,
    mean_interval,
    probability_of_better,
    sign_flip,
    sign_flip_interval,
    swap,
    swap_interval,
    two_sided,
    within,
)
from vae_lab.studies.statistics.factors import holm, importance, tied_with_best
from vae_lab.studies.statistics.power import Needed, least_replicates, replicates_for_power
from vae_lab.studies.statistics.sequential import (
    BETS,
    LOOKED,
    LOOKS,
    anytime,
    anytime_sign_flip,
    confidence_sequence,
    next_look,
    swap_sequence,
)

__all__ = [
    "BETS",
    "LOOKED",
    "LOOKS",
    "PAIRED",
    "UNPAIRED",
    "Array",
    "Directions",
    "Interval",
    "Margins",
    "Needed",
    "Pair",
    "Test",
    "anytime",
    "anytime_sign_flip",
    "beside",
    "chosen_test",
    "confidence_sequence",
    "holm",
    "importance",
    "is_of_architecture",
    "is_skewed",
    "least_replicates",
    "mean_interval",
    "next_look",
    "probability_of_better",
    "replicates_for_power",
    "sign_flip",
    "sign_flip_interval",
    "swap",
    "swap_interval",
    "swap_sequence",
    "tied_with_best",
    "two_sided",
    "within",
]
