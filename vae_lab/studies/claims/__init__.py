"""Claims of a study: how its YAML declares them, and what its runs say to each."""

from vae_lab.studies.claims.declared import DIRECTIONS, EXPECTATIONS, Claim, check_measured, parse, unmeasured
from vae_lab.studies.claims.explained import Explanation, explanation_summary, explanations
from vae_lab.studies.claims.history import judge_plan, judge_study, verdicts_of
from vae_lab.studies.claims.sharing import NEGLIGIBLE, REFUTED, SUPPORTED, UNDECIDED
from vae_lab.studies.claims.verdicts import Verdict, judge, round_target, runs_frame
from vae_lab.studies.claims.wording import decimals, metric_name

__all__ = [
    "DIRECTIONS",
    "EXPECTATIONS",
    "NEGLIGIBLE",
    "REFUTED",
    "SUPPORTED",
    "UNDECIDED",
    "Claim",
    "Explanation",
    "Verdict",
    "check_measured",
    "decimals",
    "explanation_summary",
    "explanations",
    "judge",
    "judge_plan",
    "judge_study",
    "metric_name",
    "parse",
    "round_target",
    "runs_frame",
    "unmeasured",
    "verdicts_of",
]
