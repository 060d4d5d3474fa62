"""A user's own folders of configs: looked through before Hydra reads them."""

from __future__ import annotations

from pathlib import Path

import yaml
from hydra._internal.config_repository import IConfigRepository
from hydra.plugins.config_source import ConfigSource

from vae_lab.config import check_size
from vae_lab.errors import UserError
from vae_lab.files import CONF

DEPTHS = ("*", "*/*", "*/*/*")  # of the files in a folder of configs
OF_USERS = ("command-line", "hydra.searchpath")  # how Hydra calls who gave a folder: how these begin


def check_own_configs(repository: IConfigRepository) -> None:
    """Looks through the folders of configs that a line or its primary config adds to the lab's.

    Args:
        repository: Hydra's reader of all these folders.

    Raises:
        UserError: A file would fill the memory, or would be ignored, since the lab has one of its name.
    """
    sources = repository.get_sources()
    for i, source in enumerate(sources):
        if source.scheme() == "file" and source.provider.startswith(OF_USERS):
            labs = [other for other in sources[:i] if _is_labs(other)]
            for file in config_files(Path(source.path)):
                _check_file(file)
                _check_shown(file, file.relative_to(source.path).with_suffix("").as_posix(), labs)


def config_files(folder: Path, suffix: str = ".yaml") -> list[Path]:
    """Returns the files of a folder of configs."""
    files = (file for depth in DEPTHS for file in sorted(folder.glob(depth + suffix)))
    return [file for file in files if file.is_file()]


def _is_labs(source: ConfigSource) -> bool:
    """Returns whether a source is the lab's or Hydra's own; the main one is a user's with --config-path."""
    return not source.provider.startswith(OF_USERS) and (
        source.provider != "main" or source.path == str(CONF)
    )


def _check_file(file: Path) -> None:
    try:
        check_size(file.read_text(encoding="utf-8"), str(file))
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return  # Hydra says so if it is to read the file


def _check_shown(file: Path, option: str, labs: list[ConfigSource]) -> None:
    source = next((source for source in labs if source.is_config(option)), None)
    if source is None or _holds(source, option, file):
        return
    group, _, name = option.rpartition("/")
    shown = f"{group}={name}" if group else f"{name}.yaml"
    raise UserError(
        f"{file}: would be ignored, since the lab's own {shown} goes before it; give it another name, such "
        f"as my_{name}.yaml."
    )


def _holds(source: ConfigSource, option: str, file: Path) -> bool:
    """Returns whether a source has the same file, or one of the same content."""
    other = Path(source.path, f"{option}.yaml")
    return other.is_file() and other.read_bytes() == file.read_bytes()
