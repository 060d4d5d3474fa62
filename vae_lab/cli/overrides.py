"""The line after `train` or `evaluate`: checked before Hydra composes it, and what Hydra raises in words."""

from __future__ import annotations

import itertools
import traceback
import warnings
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_automatic_config_search_path, get_args_parser
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, ValueType
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from vae_lab.config import NOTHING, STUDY_GROUPS, check_size, known_key, unknown_key
from vae_lab.errors import UserError, choices, quoted
from vae_lab.files import CONF
from vae_lab.runs.grid import listed

CONFIG = "config"  # the lab's, which names no further folders of configs
LONGEST = 1000  # characters of a message, most of which name the valid choices
CONFIG_DEPTHS = ("*.yaml", "*/*.yaml", "*/*/*.yaml")  # of the files in a folder of configs
COMPOSING = (  # the parts of Hydra that have done their work before the lab's begins
    *("hydra._internal.config_loader_impl", "hydra.core.override_parser.overrides_parser"),
    "hydra.core.plugins",
)


class Line(NamedTuple):
    """Overrides, and the configs that they are composed with."""

    overrides: list[str]
    config_name: str = CONFIG
    config_path: str = str(CONF)
    config_dir: str | None = None  # a folder of further configs
    multirun: bool | None = None  # None where the composed config says so itself


def parse_line(arguments: list[str]) -> Line:
    """Returns what Hydra's own parser makes of a line, which would refuse it with a page of usage.

    Raises:
        UserError: A flag does not exist or is not taken, or a folder of configs would fill the memory.
    """

    def refuse(message: str) -> NoReturn:
        raise UserError(f"{quoted(message, 300)}. All flags: vae-lab train --hydra-help")

    parser = get_args_parser()
    parser.error = refuse  # type: ignore[method-assign]
    flags = parser.parse_args(arguments)
    if flags.config_dir is not None:
        _check_folder(Path(flags.config_dir))
    if flags.experimental_rerun is not None:
        raise UserError(
            "--experimental-rerun: would unpickle a file, which can run any code. Every run's page in MLflow "
            "has the command that trains it again."
        )
    line = Line(flags.overrides, config_dir=flags.config_dir, multirun=flags.multirun or None)
    if flags.config_name is not None:
        line = line._replace(config_name=flags.config_name)
    if flags.config_path is not None:  # where it is relative, Hydra takes it so from this folder
        line = line._replace(config_path=str(Path(__file__).parent / flags.config_path))
    if flags.cfg is not None or flags.info is not None:
        line = line._replace(multirun=False)
    return line


def _check_folder(folder: Path) -> None:
    for depth in CONFIG_DEPTHS:
        for file in filter(Path.is_file, sorted(folder.glob(depth))):
            try:
                check_size(file.read_text(), str(file))
            except (OSError, ValueError, RecursionError, yaml.YAMLError):
                continue  # Hydra says so if it is to read the file


def config_loader(line: Line) -> ConfigLoader:
    """Returns Hydra's reader of the configs of a line."""
    path = create_automatic_config_search_path(None, None, line.config_path)
    if line.config_dir is not None:
        folder = f"file://{Path(line.config_dir).absolute()}"
        path.prepend("command-line", folder, anchor=SearchPathQuery(provider="schema"))
    return ConfigLoaderImpl(path)


def checked_lines(line: Line) -> list[Line]:
    """Checks what can be said of every override before the config is composed.

    Returns:
        The lines to be run one after another: one for each study, where several are asked for.

    Raises:
        UserError: An override of a key that does not exist, of a group with what is no option, or with a list
            of values for a single run.
        HydraException: An override is not of the form KEY=VALUE, or the search path is no list of folders.
    """
    loader = config_loader(line)
    overrides = OverridesParser.create(config_loader=loader).parse_overrides(line.overrides)
    folders = [text for text in line.overrides if text.startswith("hydra.searchpath=")]
    primary = None if line.config_path == str(CONF) and line.config_name == CONFIG else line.config_name
    spellings: list[list[str]] = []  # of each override; several where each is a study
    for override in overrides:
        key, spelling = override.key_or_group, [str(override.input_line)]
        # With the groups within it, since a group need not have options of its own.
        options = "." not in key and loader.get_group_options(key, None, primary, folders)
        if options:
            spelling = _options(override, options)
        elif key.partition(".")[0] != "hydra" and not known_key(key):
            raise unknown_key(key)
        spellings.append(spelling)
    lines = [line._replace(overrides=list(texts)) for texts in itertools.product(*spellings)]
    if len(lines) > 1:
        for study in lines:  # a mistake in one is told before another has been trained
            _compose(loader, study)
    swept = [override for override in overrides if override.is_sweep_override()]
    several = next((override for override in swept if override.key_or_group not in STUDY_GROUPS), None)
    if several is not None and not all(_is_multirun(study, loader) for study in lines):
        raise _needs_multirun(several)
    return lines


def _options(override: Override, options: list[str]) -> list[str]:
    """Returns what a choice of a group is for Hydra: one text, or one for each of several studies.

    What is no name is refused; a wrong name is left to Hydra, whose error is the same for a study's YAML.
    """
    key: str = override.get_key_element()
    value: Any = override.value()
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
        message += f"; for one list write {override.key_or_group}=[{override.get_value_string()}]"
    return UserError(f"{message}.")


def _is_multirun(line: Line, loader: ConfigLoader) -> bool:
    if line.multirun is not None:
        return line.multirun
    return bool(_compose(loader, line).hydra.mode == RunMode.MULTIRUN)


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
        group, _, option = error.missing_cfg_file.rpartition("/")
        if error.options is None:
            return f"{error.missing_cfg_file}: no such file in the config folders."
        return f"{group}={option}: no such option{choices(option, error.options)}"
    if isinstance(error, OverrideParseException):
        return f"{quoted(error.override)}: not of the form KEY=VALUE: {error.message.splitlines()[0]}"
    override = first_failing(line)
    if isinstance(error.__cause__, ConfigKeyError | ConfigAttributeError):
        key = override.partition("=")[0] if override else error.__cause__.full_key
        return f"{key}: nothing of that name is in it; to add it, write a plus before the key."
    reason = _reason(error)
    return reason if override is None or override in reason else f"{override}: {reason}"


def _reason(error: Exception) -> str:
    """Returns what an exception says, on one line and without Hydra's advice to look elsewhere."""
    cause = str(error.__cause__) if isinstance(error.__cause__, OmegaConfBaseException) else ""
    lines = [text.strip() for text in f"{error}\n{cause}".splitlines() if text.strip()]
    advice = ("See https", "Set the environment")
    reason = " ".join(text for text in dict.fromkeys(lines) if not text.startswith(advice))
    return reason or type(error).__name__


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
