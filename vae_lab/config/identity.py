"""What a config is called, what is recorded of it, and the fingerprint of its result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from vae_lab.config.schema import BUILT_IN_MODEL, LONGEST_NAME

SHOWN_IN_EVERY_NAME = (
    *("model", "model.layers", "model.encoder_layers", "model.decoder_layers", "model.latent_size"),
    "seed",
)


def layers(config: DictConfig) -> tuple[int, int]:
    """Layers of the encoder and of the decoder."""
    model = config.model
    return (
        model.layers if model.encoder_layers is None else model.encoder_layers,
        model.layers if model.decoder_layers is None else model.decoder_layers,
    )


def model_name(config: DictConfig) -> str:
    """`vae` or `cvae`; for a class of the user's own, its name in lower case."""
    if config.model._target_ == BUILT_IN_MODEL:
        return "cvae" if config.model.conditional else "vae"
    return str(config.model._target_).rpartition(".")[2].lower()


def run_name(config: DictConfig, varied: Mapping[str, str] | None = None) -> str:
    """A name whose telling part comes first, as in `beta=4 vae L3 Z15 s0`.

    Args:
        config: a checked config.
        varied: key and value of what else tells the run apart from its neighbours.
    """
    extra = [
        f"{key.rpartition('.')[2]}={value}"
        for key, value in (varied or {}).items()
        if key not in SHOWN_IN_EVERY_NAME
    ]
    encoder, decoder = layers(config)
    depth = f"L{encoder}" if encoder == decoder else f"L{encoder}+{decoder}"
    return " ".join([*extra, model_name(config), depth, f"Z{config.model.latent_size}", f"s{config.seed}"])


def quotable(name: str) -> str:
    """A name as it can stand in Hydra's quotes: one printable line, as long as a run's name can be."""
    kept = "".join(sign for sign in name if sign.isprintable() and sign != "'").replace("${", "$")
    return kept[:LONGEST_NAME].rstrip("\\ ")


def parameters(config: DictConfig) -> dict[str, str]:
    """The flat parameters of a run: dotted keys and their values as text, and each group by name."""
    kept = OmegaConf.masked_copy(
        config, ["data", "model", "objective", "optimizer", "scheduler", "train", "evaluation", "seed"]
    )
    flat = dict(flatten(OmegaConf.to_container(kept), ""))
    for group in ("optimizer", "scheduler"):
        if config[group] is not None:
            flat[group] = str(config[group]._target_).rpartition(".")[2].lower()
    named = {
        "model": model_name(config),
        "data": str(config.data.name),
        "objective": config.objective.likelihood,
    }
    return named | flat


def flatten(node: Any, prefix: str) -> Iterator[tuple[str, str]]:
    """The leaves of nested mappings as dotted keys and texts."""
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from flatten(value, f"{prefix}.{key}" if prefix else str(key))
    elif node != {}:
        yield prefix, "null" if node is None else str(node)


def fingerprint(config: DictConfig) -> str:
    """Twelve hex digits of what determines a run's result; two runs that share them are the same run.

    Where it runs and how it is kept and asked about do not enter: tracking, study, sweep, data.root,
    train.device, train.threads, and of the evaluation all that can be measured later.
    """
    groups = ["data", "model", "objective", "optimizer", "scheduler", "train", "seed"]
    relevant = OmegaConf.to_container(OmegaConf.masked_copy(config, groups))
    assert isinstance(relevant, dict)
    for group, key in (("data", "root"), ("train", "device"), ("train", "threads")):
        del relevant[group][key]
    relevant["active_threshold"] = config.evaluation.active_threshold  # what every epoch's active units are
    text = json.dumps(relevant, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
