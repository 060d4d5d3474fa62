"""Turns what a class of the user's choice raises for its arguments into one line with the config's key."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

from vae_lab.errors import LabError, UserError, choices, quoted

T = TypeVar("T")


def blaming_keys(
    group: str,
    keys: Mapping[str, Any],
    target: Callable[..., Any],
    build: Callable[[Collection[str]], T],
    *,
    fixed: Collection[str] = (),
    blamed: str | None = None,
    named_by: str = "_target_",
) -> T:
    """Returns what `build` makes of the keys of a group; what it raises becomes one line that names the key.

    Args:
        group: Of the config.
        keys: Its keys and values, `_target_` among them.
        target: The class or function of that name.
        build: Calls it with some of the keys.
        fixed: Names of what else it is given, which no key sets.
        blamed: The key that is named, if `build` is not to be called again without one key or the other.
        named_by: The key that names the class or function.

    Raises:
        UserError: It does not work.
    """
    names = [key for key in keys if not key.startswith("_") and key != named_by]
    try:
        return build(names)
    except LabError:
        raise
    except Exception as error:  # classes of the user's choice raise what they like
        reason = reason_of(error)
        parameters = {name: value for name, value in _parameters(target).items() if name not in fixed}
        _, unexpected, name = reason.rpartition("unexpected keyword argument ")
        name = name.strip("'")
        blamed = blamed or _key_of(names, name) or _key_to_blame(names, parameters, build) or named_by
        valid = choices(name, parameters) if unexpected and parameters else ""
        value = quoted(keys[blamed])
        raise UserError(f"{group}.{blamed}={value}: {reason.rstrip('.')}{valid or '.'}") from error


def reason_of(error: BaseException) -> str:
    """Returns the first line of what an error, or what caused it, says, as the end of a message.

    >>> reason_of(ValueError("no such layer"))
    'no such layer.'
    """
    cause = error.__cause__ or error
    said = next(iter(str(cause).splitlines()), "") or type(cause).__name__
    return f"{quoted(said, 300).rstrip('.')}."


def taken(target: Callable[..., Any], offered: Mapping[str, Any]) -> dict[str, Any]:
    """Returns those of the offered arguments that a class or function takes by name.

    >>> taken(dict.fromkeys, {"image_shape": (1, 28, 28)})
    {}
    """
    names = _parameters(target)
    return {name: value for name, value in offered.items() if name in names}


def _parameters(target: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Returns what a class or function takes by name; nothing if it does not say.

    A class that passes `**arguments` on takes those of its base, too.
    """
    named: dict[str, inspect.Parameter] = {}
    for owner in target.__mro__ if isinstance(target, type) else (target,):
        try:
            parameters = inspect.signature(owner).parameters
        except (ValueError, TypeError):
            break
        variable = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        named = {name: value for name, value in parameters.items() if value.kind not in variable} | named
        if all(value.kind != inspect.Parameter.VAR_KEYWORD for value in parameters.values()):
            break
    return named


def _key_of(keys: Sequence[str], name: str) -> str | None:
    """Returns the key of an argument's name, as it stands in the config."""
    return next((key for key in keys if key.rpartition(".")[2] == name), None)


def _key_to_blame(
    keys: Sequence[str],
    parameters: Mapping[str, inspect.Parameter],
    build: Callable[[Collection[str]], object],
) -> str | None:
    """Returns the key without which it works, else the only one that must be there."""
    needed = [key for key in keys if key in parameters and parameters[key].default is inspect.Parameter.empty]
    for key in keys:
        if key in needed:
            continue
        try:
            build([other for other in keys if other != key])
        except Exception:  # then it is not this one
            continue
        return key
    return needed[0] if len(needed) == 1 else None
