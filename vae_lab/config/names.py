"""The names of runs and models, and the flat parameters that a run records of its config."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from typing import Any

from omegaconf import DictConfig, Node, OmegaConf

from vae_lab.config.schema import BUILT_IN_MODEL, BUILT_IN_OBJECTIVE, LONGEST_NAME, NOTHING, Config

RECORDED = ("data", "model", "objective", "optimizer", "scheduler", "train", "evaluation", "seed")
SHOWN_IN_EVERY_NAME = (
    *("model", "model.layers", "model.encoder_layers", "model.decoder_layers", "model.latent_size"),
    "seed",
)


def is_of_all_runs(key: str) -> bool:
    """Returns whether a key is of a multirun or a search as a whole: no run is told from another by it.

    Args:
        key: Of the schema or below one of its keys, or a config group's; with or without a plus.

    >>> [is_of_all_runs(key) for key in ("model.layers", "fault", "seeds", "+tracking.uri", "optimizer")]
    [False, False, True, True, False]
    """
    first = re.split(r"[.@]", key.lstrip("+~"), maxsplit=1)[0]
    return first in {item.name for item in fields(Config)} - {*RECORDED, "fault"}


def layers(config: DictConfig) -> tuple[int, int]:
    """Returns the numbers of layers of the encoder and of the decoder.

    >>> model = {"layers": 3, "encoder_layers": None, "decoder_layers": 5}
    >>> layers(OmegaConf.create({"model": model}))
    (3, 5)
    """
    model = config.model
    return (
        model.layers if model.encoder_layers is None else model.encoder_layers,
        model.layers if model.decoder_layers is None else model.decoder_layers,
    )


def model_name(config: DictConfig) -> str:
    """Returns `vae` or `cvae`; for a class of the user's own, its name in lower case.

    >>> model_name(OmegaConf.create({"model": {"_target_": "my_models.Ladder"}}))
    'ladder'
    """
    if config.model._target_ == BUILT_IN_MODEL:
        return "cvae" if config.model.conditional else "vae"
    return str(config.model._target_).rpartition(".")[2].lower()


def objective_name(config: DictConfig) -> str:
    """Returns the likelihood's name; with a loss or a likelihood of the user's own, that of its class.

    What a class is given belongs to the name: losses of several options are not one loss.

    >>> objective = {"likelihood": "bernoulli", "_target_": "my_losses.Tighter", "options": {"draws": 5}}
    >>> objective_name(OmegaConf.create({"objective": objective | {"likelihood_options": {}}}))
    'tighter(draws=5)'
    """
    loss = config.objective
    parts = []
    for target, options, own in (
        (loss._target_, loss.options, loss._target_ != BUILT_IN_OBJECTIVE),
        (loss.likelihood, loss.likelihood_options, "." in loss.likelihood),
    ):
        if own:
            given = ",".join(
                f"{key}={value}" for key, value in flatten(OmegaConf.to_container(options)) if key
            )
            parts.append(str(target).rpartition(".")[2].lower() + (f"({given})" if given else ""))
    return " ".join(parts) or str(loss.likelihood)


def run_name(config: DictConfig, varied: Mapping[str, str] | None = None) -> str:
    """Returns a name whose telling part comes first.

    Args:
        config: A checked config.
        varied: Key and value of what else tells the run apart from its neighbours.

    >>> model = {"layers": 3, "encoder_layers": None, "decoder_layers": None, "latent_size": 15}
    >>> model |= {"_target_": "vae_lab.models.VAE", "conditional": False}
    >>> config = OmegaConf.create({"model": model, "seed": 0})
    >>> run_name(config)
    'vae L3 Z15 s0'
    >>> run_name(config, {"model.layers": "3", "objective.beta": "4"})
    'beta=4 vae L3 Z15 s0'
    """
    fault = config.get("fault", NOTHING)
    telling = {} if fault == NOTHING else {"fault": fault}
    telling |= {key: value for key, value in (varied or {}).items() if key not in SHOWN_IN_EVERY_NAME}
    varied_parts = [f"{key.rpartition('.')[2]}={value}" for key, value in telling.items()]
    encoder, decoder = layers(config)
    depth = f"L{encoder}" if encoder == decoder else f"L{encoder}+{decoder}"
    return " ".join(
        [*varied_parts, model_name(config), depth, f"Z{config.model.latent_size}", f"s{config.seed}"]
    )


def quotable(name: str) -> str:
    r"""Returns a name as it can stand in Hydra's quotes: one printable line, no longer than a run's name.

    >>> quotable("it's ${seed}\n")
    'its $seed}'
    """
    printable = "".join(sign for sign in name if sign.isprintable() and sign != "'").replace("${", "$")
    return printable[:LONGEST_NAME].rstrip("\\ ")


def plain(config: DictConfig, keys: Iterable[str]) -> dict[str, Any]:
    """Returns some keys of a config with their values as plain mappings, lists, texts and numbers.

    >>> plain(OmegaConf.create({"model": {"layers": 3}, "seed": 0, "sweep": {}}), ["model", "seed"])
    {'model': {'layers': 3}, 'seed': 0}
    """
    values = {}
    for key in keys:
        node = config._get_node(key)
        assert isinstance(node, Node), key
        values[key] = OmegaConf.to_container(node) if OmegaConf.is_config(node) else node._value()
    return values


def parameters(config: DictConfig) -> dict[str, str]:
    """Returns the flat parameters of a run: dotted keys with their values as text, and each group's name."""
    flat = dict(flatten(plain(config, RECORDED)))
    for group in ("optimizer", "scheduler"):
        if config[group] is not None:
            flat[group] = str(config[group]._target_).rpartition(".")[2].lower()
    named = {
        "model": model_name(config),
        "data": str(config.data.name),
        "objective": objective_name(config),
        "fault": config.fault,
    }
    return named | flat


def flatten(node: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yields the leaves of nested mappings as dotted keys and texts.

    >>> list(flatten({"model": {"layers": 3, "options": {}}, "scheduler": None}))
    [('model.layers', '3'), ('scheduler', 'null')]
    """
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from flatten(value, f"{prefix}.{key}" if prefix else str(key))
    elif node != {}:
        yield prefix, "null" if node is None else str(node)
