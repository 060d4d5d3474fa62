"""The published values of a study's `reference`: the form that they must have to stand beside ours."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from vae_lab.errors import UserError, choices, quoted

KEYS = ("source", "metric", "at", "conditions", "note", "values", "landmarks")
LANDMARK = ("source", "metric", "value", "epochs")


def check_reference(reference: Any) -> None:
    """Holds the `reference` of a study against the form that its tables read.

    Raises:
        UserError: a part of it has another form.
    """
    if not isinstance(reference, Mapping):
        raise _wrong("", reference, f"a mapping with {', '.join(KEYS)}")
    for key in reference:
        if key not in KEYS:
            raise UserError(f"study.reference.{quoted(key)}: unknown key{choices(key, KEYS)}")
    for key in ("source", "metric", "note"):
        if not isinstance(reference.get(key, ""), str):
            raise _wrong(key, reference[key], "a text")
    _check_flat("conditions", reference.get("conditions", {}))
    at = reference.get("at", [])
    if not isinstance(at, list) or not all(isinstance(each, int) and each >= 1 for each in at):
        raise _wrong("at", at, "a list of epochs from 1")
    if at and not reference.get("metric"):
        raise UserError("study.reference.metric: must be given, since study.reference.at is.")
    for each in _mappings("values", reference.get("values", [])):
        epochs = each.get("epochs")
        if not isinstance(epochs, list) or not epochs or not all(map(_is_number, epochs)):
            raise _wrong("values", each, "mappings whose epochs are a list of numbers, one an epoch")
        _check_flat("values", {key: value for key, value in each.items() if key != "epochs"})
    for each in _mappings("landmarks", reference.get("landmarks", [])):
        if {*each} != {*LANDMARK} or not (_is_number(each["value"]) and _is_number(each["epochs"])):
            raise _wrong("landmarks", each, f"mappings of {', '.join(LANDMARK)}, the last two numbers")


def _mappings(key: str, found: Any) -> list[Mapping[str, Any]]:
    if not isinstance(found, list) or not all(isinstance(each, Mapping) for each in found):
        raise _wrong(key, found, "a list of mappings")
    return found


def _check_flat(key: str, found: Any) -> None:
    if not isinstance(found, Mapping) or any(isinstance(each, list | Mapping) for each in found.values()):
        raise _wrong(key, found, "parameters with one value each, as in {model: vae}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _wrong(key: str, value: Any, rule: str) -> UserError:
    return UserError(f"study.reference{f'.{key}' if key else ''}={quoted(value)}: must be {rule}.")
