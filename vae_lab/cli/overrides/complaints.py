"""What Hydra complains of, as one line that names the value and says what is written instead."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from hydra.errors import MissingConfigException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from vae_lab.cli.overrides.own_configs import config_files
from vae_lab.config import ruled_keys
from vae_lab.errors import choices, quoted

STUDY_FILE = re.compile(r"(sweeps|experiments)/(.+)")
ADVICE = (
    (
        re.compile(r"In '((?:sweeps|experiments)/[^']+)': Could not override '\w+/([^'@]+)"),
        r"\1: the group needs a slash, as in `- override /\2: OPTION`; without one it is sought below the "
        r"group of the file.",
    ),
    (
        re.compile(r"In '([^']+)': Could not override 'hydra/(\w+)@"),
        r"\1: sets hydra/\2 too late, as it is chosen before this file; choose it on the command line or in "
        r"a study's file.",
    ),
    (
        re.compile(r"unexpected keyword argument '(\w+)'.*full_key: (hydra\.\w+)"),
        r"\2.\1: unknown key.",
    ),
)


def no_option(error: MissingConfigException, words: Sequence[str], folder: str | None) -> str:
    """Returns what is wrong with the name of a config that is not there.

    Args:
        error: Hydra's.
        words: The line's overrides, one of which may name it.
        folder: The user's own folder of configs.
    """
    missing = str(error.missing_cfg_file)
    if error.options is None:
        return f"{missing}: no such file in the config folders."
    group, _, option = missing.rpartition("/")
    typed = [word for word in words if word.replace("=", "/", 1) == missing]
    if typed:
        group, _, option = typed[0].partition("=")
    elif match := STUDY_FILE.match(group):
        return f"{missing}: in a file of {match[1]} the defaults say `- override /{match[2]}: {option}`."
    for file in config_files(Path(folder), ".yml") if folder is not None else []:
        if file.with_suffix("").as_posix().endswith(f"/{missing}"):
            return f"{file}: Hydra reads files that end in .yaml; give it that ending."
    return f"{group}={quoted(option)}: no such option{choices(option, error.options)}"


def absent(word: str, group: str, node: object, *, multirun: bool) -> str:
    """Returns what is wrong with an override of a key that is not in the config, with the one that works.

    Args:
        word: The override.
        group: The key above.
        node: Its value in the config.
        multirun: Whether some of the runs may have the key.

    Examples:
        >>> print(absent("optimizer.wd=1", "optimizer", DictConfig({"lr": 1.0}), multirun=False))
        optimizer.wd=1: optimizer has no such key. Valid: lr. To add it write +optimizer.wd=1
    """
    rule = dict(ruled_keys()).get(group)
    if rule is not None and not isinstance(node, DictConfig):
        return f"{word}: {group} is set as a whole and must be {rule.text}."
    names = [str(name) for name in node] if isinstance(node, DictConfig) else []
    names = [name for name in names if not name.startswith("_")]
    leaf = word.partition("=")[0].rpartition(".")[2]
    added = f" To add it write {shlex.quote(('++' if multirun else '+') + word)}"
    if leaf in names:
        return f"{word}: has keys that {group}.{leaf} has not.{added}"
    valid = choices(leaf, names)
    return f"{word}: {group} has no such key{valid}{'' if 'did you mean' in valid else added}"


def reason(error: Exception) -> str:
    """Returns what an exception says, on one line and without Hydra's advice to look elsewhere."""
    cause = str(error.__cause__) if isinstance(error.__cause__, OmegaConfBaseException) else ""
    lines = [text.strip() for text in f"{error}\n{cause}".splitlines() if text.strip()]
    elsewhere = ("See https", "Set the environment")
    said = " ".join(text for text in dict.fromkeys(lines) if not text.startswith(elsewhere))
    return said or type(error).__name__


def advice(said: str) -> str | None:
    """Returns what is written instead, for what Hydra says of a file; None where that says it.

    >>> print(advice("TypeError(\\"unexpected keyword argument 'x'\\") full_key: hydra.launcher"))
    hydra.launcher.x: unknown key.
    """
    for pattern, instead in ADVICE:
        if match := pattern.search(said):
            return match.expand(instead)
    return None
