"""Values in the grammar of Hydra's overrides: a text in quotes where it would be read as another value."""

from __future__ import annotations

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException

PARSER = OverridesParser.create()


def in_quotes(text: str) -> str:
    """Returns a text in the quotes with which the grammar takes it as it is.

    >>> print(in_quotes("größe"), in_quotes("it's"), in_quotes('"a"'))
    "größe" "it's" '"a"'
    """
    return QuotedString(text, Quote.single if '"' in text else Quote.double).with_quotes()


def without_quotes(value: str) -> str:
    """Returns the text that a value in quotes stands for, and any other value as it is.

    >>> print(without_quotes('"größe"'), without_quotes("[400,200]"))
    größe [400,200]
    """
    return str(read(value).value()) if value[:1] in ("'", '"') else value


def read(value: str, key: str = "_") -> Override:
    """Returns an override that sets a key to a value.

    Raises:
        OverrideParseException: The value is none of the grammar.
    """
    (override,) = PARSER.parse_overrides([f"{key}={value}"])
    return override


def written(item: object, *, of_text: bool = False) -> str:
    """Returns a value of a YAML file in the grammar.

    Args:
        item: The value.
        of_text: Whether its key takes texts only, so that the text `1e3` is no number.

    >>> print(written([16, None, True]), written("1e3"), written("1e3", of_text=True), written("a,b"))
    [16,null,true] 1e3 "1e3" "a,b"
    """
    if item is None:
        return "null"
    if isinstance(item, bool):
        return str(item).lower()
    if isinstance(item, list):
        return f"[{','.join(written(part, of_text=of_text) for part in item)}]"
    if isinstance(item, dict):
        return f"{{{','.join(f'{key}:{written(part, of_text=of_text)}' for key, part in item.items())}}}"
    if isinstance(item, str) and not _stands_for_itself(item, of_text=of_text):
        return in_quotes(item)
    return str(item)


def _stands_for_itself(text: str, *, of_text: bool) -> bool:
    try:
        override = read(text)
    except HydraException:
        return False
    return not override.is_sweep_override() and (not of_text or override.value() == text)
