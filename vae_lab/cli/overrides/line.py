"""The line after `train` as Hydra's own parser reads it, and Hydra's reader of its configs."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_automatic_config_search_path, get_args_parser
from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery

from vae_lab.cli.overrides.spelling import no_flag
from vae_lab.errors import UserError, quoted
from vae_lab.files import CONF

VERSION_BASE = "1.3"  # the version of Hydra whose ways of composing it has
CONFIG = "config"  # the lab's, which names no further folders of configs
TRAINING = {"overrides", "run", "multirun", "config_path", "config_name", "config_dir"}  # and no other flag


class Line(NamedTuple):
    """Overrides, and the configs that they are composed with."""

    overrides: list[str]
    config_name: str = CONFIG
    config_path: str = str(CONF)
    config_dir: str | None = None  # a folder of further configs
    multirun: bool | None = None  # None where the composed config says so itself
    trains: bool = True  # False where Hydra is to show something instead

    @property
    def primary(self) -> str | None:
        """The primary config, if it may name further folders of configs: None for the lab's own."""
        return None if (self.config_path, self.config_name) == (str(CONF), CONFIG) else self.config_name


def flags_first(arguments: Sequence[str]) -> list[str]:
    """Returns a line with its flags before its overrides, as Hydra needs them: between these it takes none.

    Raises:
        UserError: A flag does not exist.

    Examples:
        >>> flags_first(["seed=0,1", "-m", "data=digits", "--config-dir", "mine", "model=own"])
        ['-m', '--config-dir', 'mine', 'seed=0,1', 'data=digits', 'model=own']
    """
    overrides = _parsed(arguments).overrides
    flags, left = [], list(overrides)
    for word in reversed(arguments):  # a flag's value that reads like an override comes before it
        if left and word == left[-1]:
            left.pop()
        else:
            flags.append(word)
    return [*reversed(flags), *overrides]


def _parsed(arguments: Sequence[str]) -> Namespace:
    """Returns what Hydra's own parser makes of a line, which would refuse it with a page of usage."""

    def refuse(message: str) -> NoReturn:
        raise no_flag(arguments) or UserError(
            f"{quoted(message, 300)}. All flags: vae-lab train --hydra-help"
        )

    parser = get_args_parser()
    parser.error = refuse  # type: ignore[method-assign]
    return parser.parse_intermixed_args(list(arguments))


def parse_line(arguments: Sequence[str]) -> Line:
    """Returns a line as Hydra reads it.

    Raises:
        UserError: A flag does not exist or is not taken, or its folder does not exist.
    """
    flags = _parsed(arguments)
    if flags.experimental_rerun is not None:
        raise UserError(
            "--experimental-rerun: would unpickle a file, which can run any code. Every run's page in MLflow "
            "has the command that trains it again."
        )
    if flags.config_dir is not None and not Path(flags.config_dir).is_dir():
        raise UserError(f"--config-dir {quoted(flags.config_dir)}: no such folder.")
    line = Line(flags.overrides, config_dir=flags.config_dir, multirun=flags.multirun or None)
    given = (name for name, value in vars(flags).items() if value not in (None, False))
    line = line._replace(trains=TRAINING.issuperset(given))
    if flags.config_name is not None:
        line = line._replace(config_name=flags.config_name)
    if flags.config_path is not None:  # where it is relative, Hydra takes it from the folder of `train`
        package = flags.config_path.startswith("pkg://")
        path = flags.config_path if package else str(Path(__file__).parents[1] / flags.config_path)
        line = line._replace(config_path=path)
    if not line.trains:
        line = line._replace(multirun=False)
    elif flags.run and flags.multirun:
        raise UserError("--run: contradicts -m; leave one of them out.")
    return line


def config_loader(line: Line) -> ConfigLoaderImpl:
    """Returns Hydra's reader of the configs of a line."""
    version.setbase(VERSION_BASE)
    return ConfigLoaderImpl(search_path(line))


def search_path(line: Line) -> ConfigSearchPath:
    """Returns the folders of a line's configs, the first before the others."""
    path = create_automatic_config_search_path(None, None, line.config_path)
    if line.config_dir is not None:
        folder = f"file://{Path(line.config_dir).absolute()}"
        path.prepend("command-line", folder, anchor=SearchPathQuery(provider="schema"))
    return path
