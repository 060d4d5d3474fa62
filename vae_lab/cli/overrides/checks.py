"""The line after `train` or `evaluate`: checked before Hydra composes it, and what Hydra raises in words."""

from __future__ import annotations

import itertools
import logging
import traceback
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import IConfigRepository
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, Override, OverrideType, ValueType
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from vae_lab.cli.overrides import complaints
from vae_lab.cli.overrides.line import Line, config_loader
from vae_lab.cli.overrides.own_configs import check_own_configs
from vae_lab.cli.overrides.spelling import as_text, remarks, spelled_as_text, unread
from vae_lab.config import (
    NOTHING,
    STUDY_GROUPS,
    TEXT_KEYS,
    checked_plan,
    known_key,
    takes_list,
    unknown_key,
    valid_keys,
)
from vae_lab.errors import UserError, choices, quoted
from vae_lab.jobs import grammar
from vae_lab.jobs.commands import MULTIRUN_PARTS, is_of
from vae_lab.jobs.lines.grid import listed

log = logging.getLogger(__name__)

LONGEST = 1000  # characters of a message, most of which name the valid choices
COMPOSING = (  # the parts of Hydra that have done their work before the lab's begins
    *("hydra._internal.config_loader_impl", "hydra.core.override_parser.overrides_parser"),
    "hydra.core.plugins",
)


def checked_lines(line: Line) -> list[Line]:
    """Checks what can be said of every override before the config is composed.

    Returns:
        The lines to be run one after another, spelled so that Hydra reads what is meant: one for each study,
        where several are asked for. Each says whether it is a multirun.

    Raises:
        UserError: An override of a key that does not exist, of a group with what is no option, or with a list
            of values or of a launcher for a single run; or a file of the user's own that would be ignored.
        HydraException: An override is not of the form KEY=VALUE, the search path is no list of folders, or a
            line that does not say so itself cannot be composed to see whether it is a multirun.
    """
    loader = config_loader(line)
    overrides = OverridesParser.create(config_loader=loader).parse_overrides(line.overrides)
    folders = [text for text in line.overrides if text.startswith("hydra.searchpath=")]
    # Copied once for all checks: a copy takes as long as the checks themselves.
    _, repository = loader._parse_overrides_and_create_caching_repo(line.primary, folders)
    check_own_configs(repository)
    spellings = _spellings(line, loader, overrides, repository)
    lines = [line._replace(overrides=list(texts)) for texts in itertools.product(*spellings)]
    if len(lines) == 1:
        for remark in remarks(overrides):
            log.warning(remark)
    if len(lines) > 1 and line.multirun is not None:
        for study in lines:  # a mistake in one is told before another has been trained
            _compose(loader, study)
    lines = [study._replace(multirun=_is_multirun(study, loader, overrides)) for study in lines]
    for study in lines:
        _check_search(study, loader, overrides)
        _check_single(study, overrides)
        for override, text in zip(overrides, study.overrides, strict=True):
            if not study.multirun and grammar.PARSER.parse_override(text).is_sweep_override():
                raise _needs_multirun(override) if study.trains else _shows_one(override)
    return lines


def _spellings(
    line: Line, loader: ConfigLoaderImpl, overrides: Sequence[Override], repository: IConfigRepository
) -> list[list[str]]:
    """Returns how Hydra is given each override; in several spellings where each is a study."""
    spellings, groups = [], []
    for override in overrides:
        key, spelling = override.key_or_group, [spelled_as_text(override) or str(override.input_line)]
        # With the groups within it, since a group need not have options of its own.
        options = [] if "." in key else repository.get_group_options(key, None)
        if options:
            spelling = _options(override, options)
            groups.append(override)
        elif key.partition(".")[0] != "hydra" and not known_key(key):
            raise unknown_key(key)
        spellings.append(spelling)
    late = _known_late(line, loader, overrides, groups)
    return [
        [f"++{text}" for text in spelling] if override.key_or_group in late else spelling
        for override, spelling in zip(overrides, spellings, strict=True)
    ]


def _known_late(
    line: Line, loader: ConfigLoader, overrides: Sequence[Override], groups: Sequence[Override]
) -> set[str]:
    """Returns the keys that only some of the points have: those of one of several options of a group.

    Hydra looks for them in the config before any of these has been chosen, and does not find them. Several
    are asked for on the line, or by the space of a search.
    """
    several = {override.key_or_group: override.is_sweep_override() for override in groups}
    late = {
        override.key_or_group
        for override in overrides
        if override.type == OverrideType.CHANGE
        and override.key_or_group not in valid_keys()
        and _may_be_late(override.key_or_group, several)
    }
    if not late:
        return late
    base = _compose(loader, line._replace(overrides=[str(override.input_line) for override in groups]))
    of_search = dict.fromkeys(map(str, OmegaConf.select(base, "search.space") or ()), True)
    return {
        key
        for key in late
        if (of_search | several).get(key.partition(".")[0]) and OmegaConf.select(base, key) is None
    }


def _may_be_late(key: str, several: Mapping[str, bool]) -> bool:
    """Returns whether a key is below a group of which the line asks for several options, or for none."""
    group, dot, _ = key.partition(".")
    return bool(dot) and group != "hydra" and several.get(group, True)


def _options(override: Override, options: list[str]) -> list[str]:
    """Returns what a choice of a group is for Hydra: one text, or one for each of several studies.

    What is no name is refused; a wrong name is left to Hydra, whose error is the same for a study's YAML.
    """
    key: str = override.get_key_element()
    value: Any = override.value()
    if key.startswith("+") and (key.lstrip("+") in STUDY_GROUPS or known_key(key.lstrip("+"))):
        typed = quoted(override.input_line)
        raise UserError(f"{typed}: an option is chosen without a plus, as in {typed.lstrip('+')}")
    if override.is_delete() and value is None:
        return [str(override.input_line)]
    if override.is_sweep_override() and not (isinstance(value, Glob) and key not in STUDY_GROUPS):
        names = value.filter(sorted({*options} - {NOTHING})) if isinstance(value, Glob) else listed(override)
        if not names:
            raise UserError(f"{quoted(override.input_line)}: must be one value at least.")
        names = [_option(override, None if name == "null" else name, options) for name in names]
        return [f"{key}={name}" for name in (names if key in STUDY_GROUPS else [",".join(names)])]
    name = _option(override, value, options)
    return [str(override.input_line) if value is not None else f"{key}={name}"]


def _option(override: Override, value: object, options: list[str]) -> str:
    if value is None and NOTHING in options:
        return NOTHING
    if not isinstance(value, str | list | dict | Glob):
        shown = "null" if value is None else value
        named = f"{override.key_or_group}={quoted(shown)}"
        raise UserError(f"{named}: no such option{choices(shown, options)}")
    return str(value)


def _needs_multirun(override: Override) -> UserError:
    message = f"{quoted(override.input_line)}: to train each of these add -m"
    if override.value_type == ValueType.SIMPLE_CHOICE_SWEEP:  # of the form A,B
        key, choice = override.key_or_group, override.value()
        assert isinstance(choice, ChoiceSweep)
        values = choice.list
        if key in TEXT_KEYS:
            message += f"; for one text with a comma write {as_text(str(override.input_line))}"
        elif takes_list(key, values):
            message += f"; for one list write {key}=[{override.get_value_string()}]"
    return UserError(f"{message}.")


def _shows_one(override: Override) -> UserError:
    return UserError(f"{quoted(override.input_line)}: shown is the config of one run; name one value.")


def _check_search(line: Line, loader: ConfigLoader, overrides: Sequence[Override]) -> None:
    """Raises a UserError for a key of a search on a line that is none."""
    of_search = [override for override in overrides if override.key_or_group.partition(".")[0] == "search"]
    if not of_search:
        return
    sweeper = _compose(loader, line).hydra.runtime.choices["hydra/sweeper"]
    if sweeper != "search" or not line.multirun:
        raise UserError(
            f"{quoted(of_search[0].input_line)}: is of a search; add -m hydra/sweeper=search, or leave it "
            "out."
        )


def _check_single(line: Line, overrides: Sequence[Override]) -> None:
    """Raises a UserError for what only a multirun heeds, such as a launcher, on the line of a single run."""
    if line.multirun or not line.trains:
        return
    for override in overrides:
        key, value = override.key_or_group, override.value()
        keys = [f"{key}.{part}" for part in value] if isinstance(value, dict) else [key]
        if any(is_of(text, (*MULTIRUN_PARTS, "max_seeds")) for text in keys):
            raise UserError(f"{quoted(override.input_line)}: is of a multirun; add -m, or leave it out.")


def _is_multirun(line: Line, loader: ConfigLoader, overrides: Sequence[Override]) -> bool:
    if line.multirun is None:
        return bool(_compose(loader, line).hydra.mode == RunMode.MULTIRUN)
    for override in overrides if line.multirun else ():
        if override.key_or_group == "hydra.mode" and override.value() == RunMode.RUN.name:
            raise UserError(f"{quoted(override.input_line)}: contradicts -m; leave one of them out.")
    return line.multirun


def is_of_composing(error: Exception) -> bool:
    """Returns whether an error is of Hydra's reading of the line and the YAML, not of what came after it."""
    if isinstance(error, HydraException | OmegaConfBaseException):
        return True
    modules = [str(frame.f_globals.get("__name__")) for frame, _ in traceback.walk_tb(error.__traceback__)]
    return any(module in COMPOSING for module in modules) or not any(
        module.startswith(("vae_lab.", "hydra_plugins.vae_lab.")) and module != "vae_lab.cli.train"
        for module in modules
    )


def explained(error: Exception, line: Line) -> str:
    """Returns what was raised while Hydra composed a config as one line: value, rule and valid choices."""
    return quoted(_explained(error, line), LONGEST)


def _explained(error: Exception, line: Line) -> str:
    if isinstance(error, RecursionError):
        return "a value or a YAML file is nested too deeply to be read."
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"{mark.name}, line {mark.line + 1}: is no YAML that is safe to load: {error.problem}."
    if isinstance(error, MissingConfigException) and error.missing_cfg_file is not None:
        return complaints.no_option(error, line.overrides, line.config_dir)
    if isinstance(error, OverrideParseException):
        return unread(error)
    override = first_failing(line)
    if isinstance(error.__cause__, ConfigKeyError | ConfigAttributeError):
        return _absent(override, str(error.__cause__.full_key), line)
    said = complaints.reason(error)
    named = said if override is None or override in said else f"{override}: {said}"
    return complaints.advice(said) or named


def _absent(override: str | None, key: str, line: Line) -> str:
    """Returns what is wrong with an override of a key that is not in the config."""
    named = [word for word in line.overrides if word.partition("=")[0] == key]  # the one of a list of values
    word = override or next(iter(named), None)
    group = "" if word is None else word.partition("=")[0].rpartition(".")[0]
    if word is None or not group:
        return _wrong_with_files(line) or f"{word or key}: sets what {key} is not among."
    before = line._replace(overrides=line.overrides[: line.overrides.index(word)])
    node = OmegaConf.select(_compose(config_loader(line), before), group)
    return complaints.absent(word, group, node, multirun=line.multirun is True)


def _wrong_with_files(line: Line) -> str:
    """Returns what the files of a line have wrong without the keys that it sets; empty if nothing."""
    files = [word for word in line.overrides if "." not in word.partition("=")[0]]
    composed = _compose(config_loader(line), line._replace(overrides=files))
    try:
        checked_plan(DictConfig({key: composed._get_node(key) for key in composed if key != "hydra"}))
    except UserError as error:
        return str(error)
    return ""


def first_failing(line: Line) -> str | None:
    """Returns the first override with which the line cannot be composed any more; None if all of it can.

    Not all of what Hydra raises says which override it is about.
    """
    loader = config_loader(line)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for count in range(len(line.overrides) + 1):
            try:
                _compose(loader, line._replace(overrides=line.overrides[:count]))
            except Exception:
                return line.overrides[count - 1] if count else None
    return None


def _compose(loader: ConfigLoader, line: Line) -> DictConfig:
    return loader.load_configuration(
        line.config_name, line.overrides, RunMode.MULTIRUN, validate_sweep_overrides=False
    )
