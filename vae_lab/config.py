"""The typed schema of an experiment, its range checks and the run's fingerprint."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, NamedTuple

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigKeyError,
    InterpolationResolutionError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from vae_lab.errors import UserError, choices

BUILT_IN_MODEL = "vae_lab.models.VAE"
ACTIVATIONS = ("relu", "leaky_relu", "elu", "gelu", "silu", "tanh", "softplus")
INITS = ("default", "kaiming", "xavier", "orthogonal")
LIKELIHOODS = ("bernoulli", "continuous_bernoulli", "gaussian")
SHOWN_IN_EVERY_NAME = (
    *("model", "model.layers", "model.encoder_layers", "model.decoder_layers", "model.latent_size"),
    "seed",
)


class Rule(NamedTuple):
    """What a value must fulfil: the test, and the rule in words."""

    holds: Callable[[Any], bool]
    text: str


def _ruled(holds: Callable[[Any], bool], text: str) -> Any:
    return field(default=MISSING, metadata={"rule": Rule(holds, text)})


def _at_least(low: int) -> Any:
    return _ruled(lambda value: value >= low, f"a whole number of at least {low}")


def _above(low: float) -> Any:
    return _ruled(lambda value: low < value < float("inf"), f"a finite number above {low:g}")


def _one_of(*options: str) -> Any:
    return _ruled(lambda value: value in options, f"one of {', '.join(options)}")


def _matching(pattern: str, text: str) -> Any:
    return _ruled(lambda value: re.fullmatch(pattern, value) is not None, text)


def _is_width(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _are_widths(value: Any) -> bool:
    widths = value if OmegaConf.is_list(value) else [value]
    return len(widths) > 0 and all(map(_is_width, widths))


def _none_or_at_least(low: int) -> Any:
    return _ruled(lambda value: value is None or value >= low, f"null or a whole number of at least {low}")


def _from(low: float) -> Any:
    return _ruled(lambda value: low <= value < float("inf"), f"a finite number of at least {low:g}")


_WIDTHS = _ruled(_are_widths, "a whole number of at least 1, or a list of them such as [400,200]")

_SEEDS = _ruled(
    lambda value: value in (None, "auto") or _is_width(value), "null, auto or a whole number of at least 1"
)

_NAME = r"[\w][\w .+()=,-]{0,199}"
_NAME_TEXT = "letters, digits, spaces and . _ - + = , ( ), starting with a letter or digit, 200 at most"


@dataclass
class Data:
    """What is learned; see conf/data."""

    _target_: str = MISSING
    name: str = _matching(_NAME, _NAME_TEXT)
    root: str | None = MISSING
    binarize: str = _one_of("none", "fixed", "dynamic")


@dataclass
class Model:
    """The network; see conf/model."""

    _target_: str = MISSING
    conditional: bool = MISSING
    layers: int = _at_least(1)
    encoder_layers: int | None = _none_or_at_least(1)
    decoder_layers: int | None = _none_or_at_least(1)
    hidden_size: Any = _WIDTHS
    latent_size: int = _at_least(1)
    activation: str = _one_of(*ACTIVATIONS)
    init: str = _one_of(*INITS)
    options: dict[str, Any] = MISSING


@dataclass
class Objective:
    """The loss; see conf/objective."""

    likelihood: str = _one_of(*LIKELIHOODS)
    beta: float = _from(0)
    warmup_epochs: float = _from(0)
    penalty: str = _one_of("none", "l1", "ard")
    penalty_weight: float = _from(0)
    std: float = _above(0)


@dataclass
class Train:
    """The budget and the machine; see conf/train."""

    epochs: int = _at_least(1)
    batch_size: int = _at_least(1)
    device: str = _matching(r"auto|cpu|mps|cuda(:\d+)?", "one of auto, cpu, cuda, cuda:N, mps")
    precision: str = _one_of("float32", "tf32", "bfloat16")
    threads: int | None = _none_or_at_least(1)


@dataclass
class Evaluation:
    """What is measured and drawn after an epoch, and once in the end; see conf/evaluation."""

    batch_size: int = _at_least(1)
    active_threshold: float = _above(0)
    pictures: bool = MISSING
    columns: int = _ruled(lambda value: 1 <= value <= 100, "a whole number from 1 to 100")
    posterior_draws: int = _at_least(0)
    importance_samples: int = _at_least(0)
    importance_images: int = _at_least(1)
    samples: int = _ruled(lambda value: value == 0 or value >= 100, "0 or a whole number of at least 100")


@dataclass
class Tracking:
    """Where the record goes; see conf/tracking."""

    uri: str | None = MISSING
    experiment: str = _matching(_NAME, _NAME_TEXT)
    run_name: str | None = MISSING
    parent_run_id: str | None = MISSING
    study: str | None = MISSING


@dataclass
class Sweep:
    """The points of a multirun; see sweeps/."""

    cross: dict[str, Any] = MISSING
    one_at_a_time: dict[str, Any] = MISSING
    replicate: dict[str, Any] = MISSING


@dataclass
class Study:
    """The question that a multirun answers; see experiments/."""

    name: str | None = MISSING
    question: str | None = MISSING
    reference: dict[str, Any] | None = MISSING
    claims: list[Any] = MISSING


@dataclass
class Config:
    """One experiment."""

    data: Data = field(default_factory=Data)
    model: Model = field(default_factory=Model)
    objective: Objective = field(default_factory=Objective)
    optimizer: dict[str, Any] = MISSING
    scheduler: dict[str, Any] | None = MISSING
    train: Train = field(default_factory=Train)
    evaluation: Evaluation = field(default_factory=Evaluation)
    tracking: Tracking = field(default_factory=Tracking)
    seed: int = _ruled(lambda value: 0 <= value < 2**63, "a whole number from 0 to 2^63 - 1")
    seeds: Any = _SEEDS
    max_seeds: int = _at_least(1)
    reuse: str = _one_of("finished", "never")
    sweep: Sweep = field(default_factory=Sweep)
    study: Study = field(default_factory=Study)


def valid_keys(prefix: str = "") -> list[str]:
    """The dotted keys of the schema below `prefix`, as in `model` -> `model.layers`, ..."""
    return [key for key, _ in _schema(Config, "") if key.startswith(prefix)]


def _schema(node: type, prefix: str) -> Iterator[tuple[str, Rule | None]]:
    hints = {"data": Data, "model": Model, "objective": Objective, "train": Train}
    hints |= {"evaluation": Evaluation, "tracking": Tracking, "sweep": Sweep, "study": Study}
    for item in fields(node):
        nested = hints.get(item.name) if node is Config else None
        if nested is not None and is_dataclass(nested):
            yield from _schema(nested, f"{item.name}.")
        else:
            yield prefix + item.name, item.metadata.get("rule")


def unknown_key(key: str) -> UserError:
    """The error for a key that the schema does not have."""
    group = key.partition(".")[0]
    tops = {each.partition(".")[0] for each in valid_keys()} | {"sweeps", "experiments"}
    valid = valid_keys(f"{group}.") if "." in key and group in tops else tops
    return UserError(f"{key}: unknown key{choices(key, valid)}")


def checked(config: DictConfig) -> DictConfig:
    """The composed config, typed by the schema and within every range.

    Raises:
        UserError: an unknown key, a wrong type, a missing value or a value out of range.
    """
    try:
        typed = OmegaConf.merge(OmegaConf.structured(Config), config)
        assert isinstance(typed, DictConfig)
        OmegaConf.resolve(typed)
    except ConfigKeyError as error:
        raise unknown_key(str(error.full_key)) from None
    except OmegaConfBaseException as error:
        reason = str(error.msg or error).splitlines()[0].rstrip(".")
        plain = _flatten(OmegaConf.to_container(config, resolve=False), "")
        suspects = [
            key for key, text in plain if "${" in text and isinstance(error, InterpolationResolutionError)
        ]
        key = error.full_key or ", ".join(suspects) or "config"
        raise UserError(f"{key}: {reason}.") from None
    for key, rule in _schema(Config, ""):
        try:
            value = OmegaConf.select(typed, key, throw_on_missing=True)
        except MissingMandatoryValue:
            raise UserError(f"{key}: must be given, as in {key}=VALUE.") from None
        if rule is not None and not rule.holds(value):
            raise UserError(f"{key}={value}: must be {rule.text}.")
    _check_together(typed)
    return typed


def _check_together(config: DictConfig) -> None:
    widths, depths = config.model.hidden_size, layers(config)
    if OmegaConf.is_list(widths) and {*depths} != {len(widths)}:
        shown = depths[0] if depths[0] == depths[1] else f"{depths[0]} and {depths[1]}"
        raise UserError(
            f"model.hidden_size={list(widths)}: {len(widths)} widths for {shown} layers; "
            f"give one width a layer, or model.layers={len(widths)}."
        )
    if config.model.options and config.model._target_ == BUILT_IN_MODEL:
        raise UserError(
            f"model.options={dict(config.model.options)}: {BUILT_IN_MODEL} takes none; they are for "
            "a model class of your own (model._target_)."
        )
    for group in ("optimizer", "scheduler"):
        node = config[group]
        if node is not None and not isinstance(node.get("_target_"), str):
            raise UserError(f"{group}._target_: must name a class, as in {group}._target_=torch.optim.Adam.")
    rate = config.optimizer.get("lr", 1.0)
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < float("inf"):
        raise UserError(f"optimizer.lr={rate}: must be a finite number above 0.")


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


def parameters(config: DictConfig) -> dict[str, str]:
    """The flat parameters of a run: dotted keys and their values as text, and each group by name."""
    kept = OmegaConf.masked_copy(
        config, ["data", "model", "objective", "optimizer", "scheduler", "train", "evaluation", "seed"]
    )
    flat = dict(_flatten(OmegaConf.to_container(kept), ""))
    for group in ("optimizer", "scheduler"):
        if config[group] is not None:
            flat[group] = str(config[group]._target_).rpartition(".")[2].lower()
    named = {
        "model": model_name(config),
        "data": str(config.data.name),
        "objective": config.objective.likelihood,
    }
    return named | flat


def _flatten(node: Any, prefix: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from _flatten(value, f"{prefix}.{key}" if prefix else str(key))
    elif node != {}:
        yield prefix, "null" if node is None else str(node)


def fingerprint(config: DictConfig) -> str:
    """Twelve hex digits of what determines a run's result; two runs that share them are the same run.

    Where it runs and how it is kept and asked about do not enter: tracking, evaluation, study, sweep,
    data.root, train.device and train.threads.
    """
    relevant = OmegaConf.to_container(
        OmegaConf.masked_copy(
            config, ["data", "model", "objective", "optimizer", "scheduler", "train", "seed"]
        )
    )
    assert isinstance(relevant, dict)
    for group, key in (("data", "root"), ("train", "device"), ("train", "threads")):
        del relevant[group][key]
    text = json.dumps(relevant, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
