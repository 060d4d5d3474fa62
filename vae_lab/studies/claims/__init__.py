"""Claims of a study: how its YAML declares them, and what its runs say to each."""

from vae_lab.studies.claims.declared import DIRECTIONS, EXPECTATIONS, Claim, check_measured, parse
from vae_lab.studies.claims.explained import Explanation, explanations, surviving
from vae_lab.studies.claims.verdicts import Verdict, frame, judge, judge_study, round_target
from vae_lab.studies.claims.wording import decimals, metric_name

__all__ = [
    "DIRECTIONS",
    "EXPECTATIONS",
    "Claim",
    "Explanation",
    "Verdict",
    "check_measured",
    "decimals",
    "explanations",
    "frame",
    "judge",
    "judge_study",
    "metric_name",
    "parse",
    "round_target",
    "surviving",
]
