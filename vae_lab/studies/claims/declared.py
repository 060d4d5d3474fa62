"""A claim as a study's YAML declares it, and the checks of that declaration."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec

from vae_lab.config.references import Value
from vae_lab.errors import UserError, choices
from vae_lab.metrics import CATALOGUE, HIGHER, LOWER, Metric, metric_named
from vae_lab.studies.values import canonical, recorded

COMMON = ("id", "text", "metric", "expect", "within", "level", "margin", "better", "explanation")
EXPECTATIONS: dict[str, tuple[str, ...]] = {  # what each needs besides
    "increasing": ("along",),
    "decreasing": ("along",),
    "better": ("of", "than"),
    "equal": ("of", "than", "margin"),
    "smaller_spread": ("along", "of", "than"),
    "best_inside": ("along",),
    "same_trend": ("along", "of", "as"),
}
DIRECTIONS: dict[str, str] = {  # which way is better; metrics that are not here have no better way
    **{key: metric.better for key, metric in CATALOGUE.items() if metric.better},
    "eval/sharpness": HIGHER,  # towards 1, that of real images, which samples of a VAE stay below
}
NEED_DIRECTION = ("better", "best_inside")
LEVEL = Annotated[float, msgspec.Meta(gt=0, lt=1)]
MARGIN = Annotated[float, msgspec.Meta(gt=0, lt=1e300)]
LEVEL_RULE = "a number between 0 and 1, such as 0.05"
MARGIN_RULE = "a positive number in the metric's unit, such as 1"


@dataclass(frozen=True)
class Claim:
    """A statement about a metric that runs can support, refute or show to make no difference that matters.

    Groups map parameter keys to the one value that a run must have, as text.
    """

    id: str
    text: str
    metric: str
    expect: str  # one of EXPECTATIONS
    along: str = ""  # the axis, a parameter key
    of: Mapping[str, str] = field(default_factory=dict)  # the group that the claim is about
    than: Mapping[str, str] = field(default_factory=dict)  # the group beside it: `than` or `as` in the YAML
    within: Mapping[str, str] = field(default_factory=dict)
    level: float = 0.05  # of a wrong verdict on any claim of the study
    margin: float | None = None  # the smallest difference that would matter, in the metric's unit
    lower_is_better: bool = True
    explanation: str = ""  # what would explain an effect, if the claim is true; several claims can share one
    own: Metric | None = None  # what a metric of the user's own says of itself


def parse(declared: Sequence[Any], own: Iterable[Metric] = ()) -> list[Claim]:
    """Returns the claims of a study's YAML.

    Args:
        declared: what the YAML has.
        own: the metrics of the user's own that claims can be about, too.

    Raises:
        UserError: a claim lacks a key, has one too many, or a value that is not valid.

    Examples:
        >>> depth = {"id": "C1", "text": "Depth raises the loss.", "metric": "test/loss",
        ...          "expect": "increasing", "along": "model.layers", "within": {"model": "vae"}}
        >>> (claim,) = parse([depth])
        >>> claim.along, claim.level, claim.lower_is_better
        ('model.layers', 0.05, True)
        >>> parse([{**depth, "expect": "incresing"}])
        Traceback (most recent call last):
        vae_lab.errors.UserError: claim C1: expect=incresing: no such expectation; did you mean ...
    """
    claims: dict[str, Claim] = {}
    measures = {metric.key: metric for metric in own}
    for number, entry in enumerate(declared, start=1):
        if not isinstance(entry, Mapping):
            raise UserError(
                f"claim {number}: {entry!r} is no mapping; write {{id: C{number}, text: ..., ...}}."
            )
        claim = _parse(entry, str(entry.get("id", f"number {number}")), measures)
        if claim.id in claims:
            raise UserError(f"claim {claim.id}: id={claim.id} is taken by another claim of the study.")
        claims[claim.id] = claim
    return list(claims.values())


def check_measured(claims: Sequence[Claim], evaluation: Mapping[Any, Any]) -> None:
    """Raises a UserError for the first claim that no number of seeds can settle: no run has its metric.

    Args:
        claims: of a study that adds seeds until they are settled.
        evaluation: the group `evaluation` of its runs.
    """
    for claim, key in unmeasured(claims, evaluation):
        raise UserError(
            f"seeds=auto: claim {claim.id} is about {claim.metric}, which is not measured with "
            f"{key}=0: no number of seeds would settle it. Add evaluation=full."
        )


def unmeasured(claims: Iterable[Claim], evaluation: Mapping[Any, Any]) -> list[tuple[Claim, str]]:
    """Returns the claims on what no run measures, each with the key that would add it.

    Args:
        claims: of a study.
        evaluation: the group `evaluation` of its runs.

    Examples:
        >>> claim = Claim("C3", "Clearer.", "eval/sharpness", "increasing", along="model.layers")
        >>> [key for _, key in unmeasured([claim], {"samples": 0})]
        ['evaluation.samples']
    """
    needs = [(claim, metric_named(claim.metric).needs) for claim in claims]
    return [(claim, f"evaluation.{count}") for claim, count in needs if count and not evaluation[count]]


def _parse(entry: Mapping[str, Any], name: str, own: Mapping[str, Metric]) -> Claim:
    expect = _check_keys(entry, name)
    metric = str(entry["metric"])
    known = own[metric].better if metric in own else DIRECTIONS.get(metric)
    better = _better(entry, metric, expect, name, known or None)
    if not re.fullmatch(r"[\w .:/-]{1,100}", str(entry["id"])):  # it becomes part of a tag's name
        raise UserError(f"claim {name}: id: must be letters, digits, spaces and . : / - only, 100 at most.")
    claim = Claim(
        id=str(entry["id"]),
        text=str(entry["text"]),
        metric=metric,
        expect=expect,
        along=str(entry.get("along", "")),
        of=_group(entry, "of", name),
        than=_group(entry, "as" if "as" in EXPECTATIONS[expect] else "than", name),
        within=_group(entry, "within", name),
        level=_number_in(entry.get("level", Claim.level), LEVEL, f"claim {name}: level", LEVEL_RULE),
        margin=_margin(entry, name),
        lower_is_better=better != HIGHER,
        explanation=str(entry.get("explanation") or ""),
        own=own.get(metric),
    )
    _check_groups(claim, name)
    return claim


def _check_keys(entry: Mapping[str, Any], name: str) -> str:
    """Returns the claim's expectation, once it has every key that this needs and no other."""
    _check_given(entry, "expect", name, "values", EXPECTATIONS)
    expect = str(entry["expect"])
    if expect not in EXPECTATIONS:
        raise UserError(f"claim {name}: expect={expect}: no such expectation{choices(expect, EXPECTATIONS)}")
    valid = (*COMMON, *EXPECTATIONS[expect])
    for key in entry:
        if key not in valid:
            raise UserError(f"claim {name}: {key}: not a key of expect={expect}{choices(key, valid)}")
    for key in ("id", "text", "metric", *EXPECTATIONS[expect]):
        _check_given(entry, key, name, "keys", valid)
    return expect


def _check_given(entry: Mapping[str, Any], key: str, name: str, what: str, valid: Iterable[str]) -> None:
    if entry.get(key) in (None, "", {}):
        raise UserError(f"claim {name}: {key} is missing. Valid {what}: {', '.join(valid)}.")


def _better(entry: Mapping[str, Any], metric: str, expect: str, name: str, known: str | None) -> str | None:
    """Which way of the claim's metric is better; None where it need not be known."""
    better: str | None = entry.get("better", known)
    if "better" in entry and better not in (LOWER, HIGHER):
        raise UserError(f"claim {name}: better={better}: must be {LOWER} or {HIGHER}.")
    if better is None and expect in NEED_DIRECTION:
        raise UserError(
            f"claim {name}: metric={metric}: whether less or more of it is better is not known; "
            f"add better: {LOWER} or better: {HIGHER}{choices(metric, DIRECTIONS)}"
        )
    return better


def _margin(entry: Mapping[str, Any], name: str) -> float | None:
    margin = entry.get("margin")
    return None if margin is None else _number_in(margin, MARGIN, f"claim {name}: margin", MARGIN_RULE)


def _number_in(value: Any, form: Any, key: str, rule: str) -> float:
    try:
        return float(msgspec.convert(value, form))
    except msgspec.ValidationError:
        raise UserError(f"{key}={value}: must be {rule}.") from None


def _group(entry: Mapping[str, Any], key: str, name: str) -> dict[str, str]:
    group = entry.get(key, {})
    try:
        return {param: recorded(value) for param, value in msgspec.convert(group, dict[str, Value]).items()}
    except msgspec.ValidationError:
        raise UserError(
            f"claim {name}: {key}={group}: must map parameters to one value each, as in {{model: vae}}."
        ) from None


def _check_groups(claim: Claim, name: str) -> None:
    of, than = ({key: canonical(value) for key, value in some.items()} for some in (claim.of, claim.than))
    if of and of == than:
        raise UserError(f"claim {name}: of={dict(claim.of)}: both groups are the same.")
    for key in (*claim.of, *claim.than, *claim.within):
        if key == claim.along:
            raise UserError(
                f"claim {name}: {key}: is the axis of the claim and cannot be fixed to one value too."
            )
        if key in claim.within and key in {**claim.of, **claim.than}:
            raise UserError(f"claim {name}: {key}: stands in within and in a group; say it once.")
