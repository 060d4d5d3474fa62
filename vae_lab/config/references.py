"""The published values of a study's `reference`: the form that they must have to stand beside ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from vae_lab.errors import UserError, choices, quoted

Value = str | bool | int | float | None  # of a parameter, as YAML has it
Number = Annotated[float, Meta(ge=-1e300, le=1e300)]  # which leaves out nan and the infinities
Curve = Annotated[list[Number], Meta(min_length=1)]

RULES = {  # what each key must be, for the message
    "source": "a text",
    "metric": "a text",
    "at": "a list of epochs from 1",
    "conditions": "parameters with one value each, as in {model: vae}",
    "note": "a text",
    "values": "mappings of parameters to one value each, whose epochs are a list of numbers, one an epoch",
    "landmarks": "mappings of source, metric, value and epochs, the last two numbers",
}


class Landmark(Struct, frozen=True, forbid_unknown_fields=True):
    """A single published number."""

    source: str
    metric: str
    value: Number
    epochs: Number


class Reference(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Published values of a study's configurations, and what a run must be to stand beside them."""

    source: str = "published"
    metric: str = ""
    at: list[Annotated[int, Meta(ge=1)]] = []  # epochs at which ours and the published ones are shown
    conditions: dict[str, Value] = {}  # parameters that a run must have
    note: str = ""
    values: list[dict[str, Value | Curve]] = []  # a configuration's parameters and its `epochs`
    landmarks: list[Landmark] = []

    def __post_init__(self) -> None:
        if self.at and not self.metric:
            raise UserError("study.reference.metric: must be given, since study.reference.at is.")
        for entry in self.values:
            if [key for key, value in entry.items() if isinstance(value, list)] != ["epochs"]:
                raise _unfit("values", entry)

    def curves(self) -> list[tuple[dict[str, Value], list[float]]]:
        """The parameters of each configuration, and its values, one an epoch."""
        return [
            (
                {key: value for key, value in entry.items() if not isinstance(value, list)},
                next(value for value in entry.values() if isinstance(value, list)),
            )
            for entry in self.values
        ]


def parse_reference(declared: object) -> Reference:
    """Returns the reference that a study's YAML declares.

    Raises:
        UserError: a part of it has another form.

    Examples:
        >>> reference = {"source": "report", "values": [{"model": "vae", "epochs": [150, 108.9]}]}
        >>> parse_reference(reference).curves()
        [({'model': 'vae'}, [150.0, 108.9])]
        >>> parse_reference({"conditions": 3})
        Traceback (most recent call last):
        vae_lab.errors.UserError: study.reference.conditions=3: must be parameters with one value each, ...
    """
    if not isinstance(declared, Mapping):
        raise UserError(f"study.reference={quoted(declared)}: must be a mapping with {', '.join(RULES)}.")
    forms = {field.name: field.type for field in msgspec.structs.fields(Reference)}
    for key, value in declared.items():
        if key not in forms:
            raise UserError(f"study.reference.{quoted(key)}: unknown key{choices(key, forms)}")
        try:
            msgspec.convert(value, forms[key])
        except msgspec.ValidationError as error:
            raise _unfit(key, value, str(error)) from None
    return msgspec.convert(declared, Reference)


def _unfit(key: str, value: object, reason: str = "") -> UserError:
    detail = f" ({quoted(reason)})" if " - at " in reason else ""  # where in a list or a mapping
    return UserError(f"study.reference.{key}={quoted(value)}: must be {RULES[key]}{detail}.")
