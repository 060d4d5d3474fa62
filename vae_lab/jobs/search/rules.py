"""The rules of a search, read from its config, and which commands go on with the same search."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from vae_lab import config
from vae_lab.jobs.search.engine import Rules
from vae_lab.jobs.search.objectives import directions
from vae_lab.jobs.search.space import Space

USUAL_ETA = 3.0  # of `halving`, not written down: what was begun before eta was told apart goes on


def rules_of(settings: DictConfig) -> Rules:
    """Returns how a search goes about it, by its checked config."""
    search = settings.search
    return Rules(
        length=settings.train.epochs,
        directions=directions(search.metrics),
        trials=search.trials,
        epochs=search.epochs,
        first=search.first,
        eta=search.eta,
        sampler=search.sampler,
        sampler_options=_plain(search.sampler_options),
        pruner=search.pruner,
        pruner_options=_plain(search.pruner_options),
        seed=search.seed,
    )


def _plain(node: DictConfig) -> dict[str, Any]:
    values = OmegaConf.to_container(node, resolve=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def digest(space: Space, settings: DictConfig, rules: Rules, belongs_to: Sequence[object]) -> str:
    """Returns what two commands share that go on with the same trials, if code and data are the same, too.

    That are space, base, objectives and rules, and whose they are; not how many trials and epochs there
    will be.

    Args:
        space: Of the search.
        settings: Of the first point.
        rules: Of the search.
        belongs_to: The experiment, the moment at which it was made, and the owner. So another store's
            experiment of the same name is another one, and that of a store that was moved is the same.
    """
    said = [
        *(repr(space), config.config_fingerprint(settings), [*settings.search.metrics]),
        *(rules.rungs, rules.sampler, rules.pruner, rules.seed, *belongs_to),
    ]
    if further := _further(rules):
        said.append(json.dumps(further, sort_keys=True, default=str))
    return hashlib.sha256(json.dumps(said, default=str).encode()).hexdigest()[:8]


def _further(rules: Rules) -> dict[str, Any]:
    """Returns what else chooses among trials, as far as it is not what searches usually have."""
    options = {"sampler_options": rules.sampler_options, "pruner_options": rules.pruner_options}
    further: dict[str, Any] = {key: dict(value) for key, value in options.items() if value}
    if rules.pruner == "halving" and rules.eta != USUAL_ETA:  # else it makes the rungs and nothing more
        further["eta"] = rules.eta
    return further
