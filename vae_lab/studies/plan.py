"""What a multirun sets out to do, as its parent run keeps it, and whether what is read back has that form."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from vae_lab.config import check_reference
from vae_lab.errors import UserError, quoted

PLAN_FILE = "study.json"


@dataclass(frozen=True)
class Plan:
    """What a multirun set out to do; kept on its parent run as `study.json`."""

    name: str
    question: str | None = None
    cross: dict[str, list[str]] = field(default_factory=dict)
    one_at_a_time: dict[str, list[str]] = field(default_factory=dict)
    replicate: dict[str, list[str]] = field(default_factory=dict)
    also: dict[str, dict[str, str]] = field(default_factory=dict)  # further points: name to parameters
    base: dict[str, str] = field(default_factory=dict)  # of each key of one_at_a_time and also, uncrossed
    reference: dict[str, Any] | None = None
    claims: list[dict[str, Any]] = field(default_factory=list)
    sequential: bool = False  # whether seeds were added while looking at the verdicts
    oracle: dict[str, Any] | None = None
    runs: list[list[str]] = field(default_factory=list)  # fingerprint and name of each

    def to_json(self) -> str:
        """The plan as text for `from_json`."""
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """The plan in a text of `to_json`.

        Raises:
            ValueError: the text is damaged, or of another form.
        """
        try:
            plan = cls(**json.loads(text))
            if plan.reference is not None:
                check_reference(plan.reference)
        except (TypeError, RecursionError, UserError) as error:
            raise ValueError(str(error)) from error
        for key, fits in _FORMS.items():
            if not fits(getattr(plan, key)):
                raise ValueError(f"{key}={quoted(getattr(plan, key))} has another form")
        return plan


def _texts(found: Any) -> bool:
    return isinstance(found, dict) and all(isinstance(each, str) for each in found.values())


def _lists(found: Any) -> bool:
    return isinstance(found, dict) and all(
        isinstance(each, list) and all(isinstance(value, str) for value in each) for each in found.values()
    )


def _pairs(found: Any) -> bool:
    return isinstance(found, list) and all(
        isinstance(each, list) and len(each) == 2 and all(isinstance(text, str) for text in each)
        for each in found
    )


def _is_oracle(found: Any) -> bool:
    return found is None or (
        isinstance(found, dict)
        and found.keys() == {"metric", "shares", "points"}
        and isinstance(found["metric"], str)
        and isinstance(found["shares"], list)
        and all(isinstance(share, float) and 0 < share < 1 for share in found["shares"])
        and isinstance(found["points"], list)
        and all(isinstance(point, str) for point in found["points"])
    )


_FORMS: dict[str, Callable[[Any], bool]] = {  # of the fields of a plan that was read back
    "name": lambda found: isinstance(found, str),
    "question": lambda found: found is None or isinstance(found, str),
    **dict.fromkeys(("cross", "one_at_a_time", "replicate"), _lists),
    "also": lambda found: isinstance(found, dict) and all(map(_texts, found.values())),
    "base": _texts,
    "claims": lambda found: isinstance(found, list) and all(isinstance(each, dict) for each in found),
    "sequential": lambda found: isinstance(found, bool),
    "oracle": _is_oracle,
    "runs": _pairs,
}
