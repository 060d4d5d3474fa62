"""Values of parameters: as runs record them, and which of them are equal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache


def is_number(value: str | float) -> bool:
    """Whether a value is a finite number, or the text of one.

    Examples:
        >>> [is_number(value) for value in ("15", 0.1, "nan", "vae")]
        [True, True, False, False]
    """
    try:
        return math.isfinite(float(value))
    except ValueError:
        return False


def recorded(value: object) -> str:
    """A value that a YAML declares, as a run records it.

    Examples:
        >>> recorded(None), recorded(True), recorded(4.0)
        ('null', 'True', '4.0')
    """
    return "null" if value is None else str(value)


def canonical(value: object) -> str:
    """A value as text by which equal numbers are equal, and YAML's true is Python's.

    Examples:
        >>> canonical(4), canonical("4.0"), canonical("vae"), canonical("true")
        ('4', '4', 'vae', 'True')
    """
    return _canonical_text(str(value))


@lru_cache(maxsize=100_000)  # a study asks the same few values for each of its runs
def _canonical_text(text: str) -> str:
    if text in ("true", "false"):
        return text.capitalize()
    return f"{float(text):.12g}" if is_number(text) else text


def has_values(params: Mapping[str, str], declared: Mapping[str, object]) -> bool:
    """Whether a run's parameters are what a YAML declares, however it writes the values.

    Examples:
        >>> params = {"objective.beta": "1.0", "scheduler": "null"}
        >>> has_values(params, {"objective.beta": 1, "scheduler": None}), has_values(params, {"model": "vae"})
        (True, False)
    """
    return all(
        key in params and canonical(params[key]) == canonical(recorded(value))
        for key, value in declared.items()
    )
