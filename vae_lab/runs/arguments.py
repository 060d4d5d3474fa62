"""What a class of the user's choice says of its arguments, as one line that names the config's key."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

from vae_lab.errors import LabError, UserError, choices, quoted

T = TypeVar("T")


def used(
    group: str,
    given: Mapping[str, Any],
    target: Callable[..., Any],
    make: Callable[[Collection[str]], T],
    *,
    fixed: Collection[str] = (),
    blamed: str | None = None,
) -> T:
    """What `make` gives for the keys of a group; what is said of them becomes one line that names the key.

    Args:
        group: of the config.
        given: its keys and values, `_target_` among them.
        target: the class or function of that name.
        make: calls it with some of the keys.
        fixed: names of what else it is given, which no key sets.
        blamed: the key that is named, if `make` is not to be called again without one key or the other.

    Raises:
        UserError: it does not work.
    """
    keys = [key for key in given if not key.startswith("_")]
    try:
        return make(keys)
    except LabError:
        raise
    except Exception as error:  # classes of the user's choice raise what they like
        cause = error.__cause__ or error
        reason = quoted(next(iter(str(cause).splitlines()), "") or type(cause).__name__, 300)
        names = {key: each for key, each in _arguments(target).items() if key not in fixed}
        _, unexpected, name = reason.rpartition("unexpected keyword argument ")
        blamed = blamed or _called(keys, name.strip("'")) or _blamed(keys, names, make)
        valid = choices(name.strip("'"), names) if unexpected and names else ""
        value = quoted(given[blamed])
        raise UserError(f"{group}.{blamed}={value}: {reason.rstrip('.')}{valid or '.'}") from error


def _arguments(target: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """What a class or function takes by name; nothing if it does not say.

    A class that passes `**arguments` on takes those of its base, too.
    """
    found: dict[str, inspect.Parameter] = {}
    for each in target.__mro__ if isinstance(target, type) else (target,):
        try:
            own = inspect.signature(each).parameters
        except (ValueError, TypeError):
            break
        rest = [parameter.kind for parameter in own.values()]
        named = (key for key in own if own[key].kind not in (own[key].VAR_KEYWORD, own[key].VAR_POSITIONAL))
        found = {key: own[key] for key in named} | found
        if inspect.Parameter.VAR_KEYWORD not in rest:
            break
    return found


def _called(keys: Sequence[str], name: str) -> str | None:
    """The key of an argument's name, as it stands in the config."""
    return next((key for key in keys if key.rpartition(".")[2] == name), None)


def _blamed(
    keys: Sequence[str],
    names: Mapping[str, inspect.Parameter],
    make: Callable[[Collection[str]], object],
) -> str:
    """The key without which it works, else the only one that must be there, else what names the class."""
    needed = [key for key in keys if key in names and names[key].default is inspect.Parameter.empty]
    for key in keys:
        if key in needed:
            continue
        try:
            make([each for each in keys if each != key])
        except Exception:  # then it is not this one
            continue
        return key
    return needed[0] if len(needed) == 1 else "_target_"
