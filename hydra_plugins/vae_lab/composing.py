"""Points of a multirun composed in a copy: Hydra itself composes once for each choice of config groups."""

from __future__ import annotations

import functools
import pickle
from collections.abc import Sequence

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from vae_lab import config


class Composer:
    """Composes points as Hydra does, in 0.6 ms instead of 70 where they differ in values only.

    Hydra reads the files of the chosen groups anew for each point, and sets the values of keys at the end.
    Here the files are read once for each choice of groups and typed by the schema, and the values set in a
    copy, which is unpickled: that takes a fifth of `copy.deepcopy`. What cannot be done so is left to Hydra,
    and so is the message where a point cannot be composed.

    Args:
        loader: Hydra's.
        master: The composed config of the multirun.
        parser: Hydra's parser of overrides.
    """

    def __init__(self, loader: ConfigLoader, master: DictConfig, parser: OverridesParser) -> None:
        self._loader, self._master = loader, master
        # The points of a grid share their overrides.
        self._parsed = functools.cache(lambda text: parser.parse_overrides([text])[0])
        self._bases: dict[tuple[str, ...], bytes] = {}
        self._options = functools.cache(loader.get_group_options)  # lists folders
        # Folders that a config adds to the search path are known to Hydra while it composes, and only then.
        self._leaves_all_to_hydra = bool(OmegaConf.select(master, "hydra.searchpath"))

    def __call__(self, overrides: Sequence[str]) -> DictConfig:
        """Returns the config of a point, without Hydra's own node."""
        try:
            parsed = [self._parsed(override) for override in overrides]
            if not self._leaves_all_to_hydra and all(map(_is_typed_alike, parsed)):
                return self._in_a_copy(parsed)
        except Exception:  # Hydra tells it better
            pass
        return without_hydra(self._loader.load_sweep_config(self._master, [*overrides]))

    def _in_a_copy(self, parsed: Sequence[Override]) -> DictConfig:
        groups = [override for override in parsed if self._chooses(override)]
        chosen = tuple(str(override.input_line) for override in groups)
        if chosen not in self._bases:
            base = config.typed(without_hydra(self._loader.load_sweep_config(self._master, [*chosen])))
            OmegaConf.set_struct(base, True)  # as Hydra does: a new key takes a plus
            self._bases[chosen] = pickle.dumps(base)
        point: DictConfig = pickle.loads(self._bases[chosen])
        values = [override for override in parsed if override not in groups]
        ConfigLoaderImpl._apply_overrides_to_config(values, point)
        OmegaConf.set_struct(point, None)
        return point

    def _chooses(self, override: Override) -> bool:
        """Returns whether an override chooses an option of a config group, as Hydra's defaults list asks."""
        return bool(self._options(override.key_or_group)) and not isinstance(override.value(), dict)


def _is_typed_alike(override: Override) -> bool:
    """Returns whether a typed config takes or refuses an override as one does that is typed afterwards.

    It would make a text of a number, and would be given keys that the schema does not have.
    """
    key, value = override.key_or_group, override.value()
    if key in config.TEXT_KEYS:
        return isinstance(value, str)
    adds = override.is_add() or override.is_force_add()
    return not adds or (config.known_key(key) and not isinstance(value, dict))


def without_hydra(composed: DictConfig) -> DictConfig:
    """Returns a composed config without Hydra's own node."""
    return DictConfig({key: composed._get_node(key) for key in composed if key != "hydra"})
