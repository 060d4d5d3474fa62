"""What is meant by the words of a line, where Hydra would read something else in them or nothing at all."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Sequence

from hydra.core.override_parser.types import ChoiceSweep, Override
from hydra.errors import HydraException, OverrideParseException

from vae_lab.config import TEXT_KEYS, known_key, ruled_keys
from vae_lab.errors import UserError, quoted
from vae_lab.jobs.grammar import PARSER, in_quotes, written

FOLDER_KEY = "data.root"  # of texts, the one whose commas may be a part of it
LIST = re.compile(r"(?:choice\()?([^()\[\]{}'\"\\]*)\)?")  # values with commas, none in quotes or brackets
LONGEST = 300  # characters of a line that is proposed


def spelled_as_text(override: Override) -> str | None:
    """Returns an override with its value in quotes, None where Hydra reads what is typed without them.

    `study.name=1.10` is no number, and `data.root=a,b` not two folders if there is one of that name.

    Raises:
        UserError: Quotes are needed, and it is not clear where.
    """
    if override.key_or_group not in TEXT_KEYS or override.is_delete():
        return None
    typed = str(override.input_line)
    key, _, value = typed.partition("=")
    value = value.strip()
    if isinstance(override.value(), int | float):
        return f"{key}={in_quotes(value)}"
    if not isinstance(override._value, ChoiceSweep):
        return None
    if override.key_or_group == FOLDER_KEY and os.path.exists(os.path.expanduser(value)):
        return f"{key}={in_quotes(value)}"
    if not any(isinstance(item, int | float) for item in override._value.list):
        return None
    parts = LIST.fullmatch(value)
    if parts is None:
        raise UserError(f"{quoted(typed)}: {override.key_or_group} takes texts; put each in quotes.")
    return f"{key}={','.join(written(part.strip(), of_text=True) for part in parts[1].split(','))}"


def remarks(overrides: Sequence[Override]) -> Iterator[str]:
    """Yields what is to be said of overrides that leave something of the line undone."""
    given: dict[str, list[Override]] = {}
    for override in overrides:
        given.setdefault(str(override.get_key_element()).lstrip("+~"), []).append(override)
    for key, several in given.items():
        *earlier, last = several
        replaced = [
            quoted(override.input_line) for override in earlier if not isinstance(override.value(), dict)
        ]
        if replaced:
            text = f"{', '.join(replaced)} {'is' if len(replaced) == 1 else 'are'} replaced"
            text += f" by {quoted(last.input_line)}."
            if not any(override.is_sweep_override() or override.is_delete() for override in several):
                listed = ",".join(override.get_value_string() for override in several)
                text += f" For runs with each of them: -m {quoted(f'{key}={listed}')}"
            yield text
        if isinstance(last._value, ChoiceSweep):
            values = list(last.sweep_string_iterator())
            for value in dict.fromkeys(value for value in values if values.count(value) > 1):
                yield (
                    f"{quoted(last.input_line)}: {quoted(value)} several times is one run; runs are repeated "
                    "with other seeds, as in seeds=5."
                )


def unread(error: OverrideParseException) -> str:
    """Returns what is wrong with a word that is not of Hydra's grammar, and the word that works.

    Examples:
        >>> print(unread(OverrideParseException("data.root=größe", "")))
        data.root=größe: must stand in quotes to be read as one text; write 'data.root="größe"'.
        >>> print(unread(OverrideParseException("model.layers=3;4", "")))
        model.layers=3;4: must be a whole number from 1 to 1000.
    """
    typed = str(error.override)
    key, equals, value = typed.partition("=")
    if not equals or not value.strip():
        return f"{quoted(typed)}: not of the form KEY=VALUE, which has no spaces."
    if value.rstrip().endswith(","):
        return (
            f"{quoted(typed)}: ends with a comma; a list of values is written without spaces, as in seed=0,1."
        )
    plain = key.lstrip("+~")
    rule = dict(ruled_keys()).get(plain)
    if rule is not None and plain not in TEXT_KEYS:
        return f"{quoted(typed)}: must be {rule.text}."
    reason = str(error.message).splitlines()
    if known_key(plain.split("@")[0]) and _is_read(quoted_word := f"{key}={in_quotes(value.strip())}"):
        function = next((text for text in reason if text.startswith("Unknown function")), "")
        cause = f"{function.lower()}; as" if function else "must stand in quotes to be read as"
        return f"{quoted(typed)}: {cause} one text; write {quoted(shlex.quote(quoted_word), LONGEST)}."
    return f"{quoted(typed)}: not of the form KEY=VALUE: {reason[0] if reason else ''}"


def as_text(word: str) -> str:
    """Returns a word of a line with its value in quotes, as a shell takes it.

    >>> print(as_text("data.root=a,b"))
    'data.root="a,b"'
    """
    key, _, value = word.partition("=")
    return shlex.quote(f"{key}={in_quotes(value.strip())}")


def _is_read(word: str) -> bool:
    try:
        PARSER.parse_overrides([word])
    except HydraException:
        return False
    return True


def no_flag(arguments: Sequence[str]) -> UserError | None:
    """Returns the error for a key that is written as a flag, if there is one in a line.

    >>> print(no_flag(["--model.layers", "3"]))
    --model.layers: is no flag; keys are set without dashes, as in model.layers=3
    """
    for word, following in zip(arguments, [*arguments[1:], ""], strict=True):
        key, equals, value = word.lstrip("-").partition("=")
        if word.startswith("-") and known_key(key.replace("-", "_")):
            given = value if equals else following if following[:1] not in ("", "-") else "VALUE"
            shown = quoted(f"{key.replace('-', '_')}={given}")
            return UserError(f"{quoted(word)}: is no flag; keys are set without dashes, as in {shown}")
    return None
