"""A composed config held against the schema: unknown keys, types, ranges, what does not go together."""

from __future__ import annotations

import difflib
import functools
import operator
from collections.abc import Sequence
from typing import Any

from omegaconf import MISSING, DictConfig, Node, OmegaConf
from omegaconf.errors import (
    ConfigKeyError,
    InterpolationResolutionError,
    KeyValidationError,
    OmegaConfBaseException,
)

from vae_lab.config.names import flatten, layers
from vae_lab.config.schema import (
    BUILT_IN_MODEL,
    BUILT_IN_OBJECTIVE,
    FAULTS,
    GROUPS,
    NOTHING,
    OPTIONAL_GROUPS,
    STUDY_GROUPS,
    TEXT_KEYS,
    Config,
    ruled_keys,
    valid_keys,
)
from vae_lab.errors import UserError, choices, quoted

OPEN_KEYS = ("optimizer.lr",)  # that every option of a group has which the schema leaves open
MAPPINGS = (*GROUPS, "optimizer", "scheduler")
CHOSEN_BY = {"sweep": "sweeps", "study": "experiments"}  # where the group of options has another name
# What a multirun is made of, beside its points.
PLANNED = ("seeds", "max_seeds", "reuse", "sweep", "search", "study")


def known_key(key: str) -> bool:
    """Returns whether the schema has a key, keys below it, or leaves open what lies below one above it.

    >>> [known_key(key) for key in ("model.layers", "study", "optimizer.betas", "modle")]
    [True, True, True, False]
    """
    return any(
        key == valid or valid.startswith(f"{key}.") or key.startswith(f"{valid}.") for valid in valid_keys()
    )


def unknown_key(key: str) -> UserError:
    """Returns the error for a key that the schema does not have.

    >>> print(unknown_key("objective.bta"))
    objective.bta: unknown key; did you mean objective.beta? Valid: objective._target_, ...
    >>> print(unknown_key("latent_size"))
    latent_size: unknown key; did you mean model.latent_size?
    """
    group = key.partition(".")[0]
    groups = {valid.partition(".")[0] for valid in valid_keys()} | {*STUDY_GROUPS}
    if "." in key and group in groups:
        return UserError(f"{quoted(key)}: unknown key{choices(key, valid_keys(f'{group}.'))}")
    within = [valid for valid in (*valid_keys(), *OPEN_KEYS) if valid.rpartition(".")[2] == key]
    if within:
        close = difflib.get_close_matches(key, sorted(groups), n=1, cutoff=0.65)
        return UserError(f"{quoted(key)}: unknown key; did you mean {' or '.join([*close, *within])}?")
    return UserError(f"{quoted(key)}: unknown key{choices(key, groups)}")


def checked(config: DictConfig) -> DictConfig:
    """Returns the composed config, typed by the schema and within every range.

    Raises:
        UserError: An unknown key, a wrong type, a missing value or a value out of range.
    """
    typed = _within_ranges(config, [key for key, _ in ruled_keys()])
    _check_together(typed)
    _check_study(typed)
    return typed


def checked_plan(config: DictConfig) -> DictConfig:
    """Returns a multirun's config, of which only its points, seeds and study are within their ranges.

    Values that the points set may still be missing from it.

    Raises:
        UserError: As `checked`.
    """
    typed = _within_ranges(config, [key for key, _ in ruled_keys() if key.partition(".")[0] in PLANNED])
    _check_study(typed)
    return typed


@functools.cache
def _schema() -> DictConfig:
    """Returns the schema as a config: made once, as that takes longer than a point's whole check."""
    schema: DictConfig = OmegaConf.structured(Config)
    return schema


def typed(config: DictConfig) -> DictConfig:
    """Returns a composed config typed by the schema; what it interpolates is not resolved yet.

    Raises:
        UserError: An unknown key, a wrong type or form.
    """
    if OmegaConf.get_type(config) is Config:
        return config
    _check_form(config)
    try:
        merged = OmegaConf.merge(_schema(), config)  # copies the schema
    except OmegaConfBaseException as error:
        raise _told(config, error) from None
    assert isinstance(merged, DictConfig)
    return merged


def _told(config: DictConfig, error: OmegaConfBaseException) -> UserError:
    """Returns what is wrong with a config as the user is told it."""
    return unknown_key(str(error.full_key)) if isinstance(error, ConfigKeyError) else _unfit(config, error)


def _within_ranges(config: DictConfig, keys: Sequence[str]) -> DictConfig:
    """Returns the config typed by the schema, with a value in range for each of `keys`."""
    within = typed(config)
    try:
        plain: Any = OmegaConf.to_container(within)
        if "${" in str(plain):
            OmegaConf.resolve(within)
            plain = OmegaConf.to_container(within)
    except OmegaConfBaseException as error:
        raise _told(config, error) from None
    values = {key: functools.reduce(operator.getitem, key.split("."), plain) for key in keys}
    rules = dict(ruled_keys())
    missing = sorted(OmegaConf.missing_keys(within)) if MISSING in str(plain) else []  # looks for long
    for key, value in values.items():
        for absent in missing:
            if absent == key or absent.startswith((f"{key}.", f"{key}[")):
                raise UserError(f"{absent}: must be given, as in {absent}=VALUE.")
        rule = rules[key]
        if rule is not None and not rule.holds(value):
            raise UserError(f"{key}={quoted(value)}: must be {rule.text}.")
    return within


def _check_form(config: DictConfig) -> None:
    """Raises a UserError for keys that a YAML file has in another place or form than they look there."""
    for key in map(str, config):
        node = config._get_node(key)
        if key in STUDY_GROUPS:
            raise UserError(
                f"{key}: the chosen file would set keys below {key}; its first line must be "
                "# @package _global_, with nothing before it."
            )
        if "." in key and known_key(key):
            group, _, leaf = key.partition(".")
            raise UserError(f"{key}: is written with a dot; in YAML it is {group}: {{{leaf}: ...}}.")
        if (
            key in MAPPINGS
            and not OmegaConf.is_dict(node)
            and not (key in OPTIONAL_GROUPS and config[key] is None)
        ):
            raise _no_mapping(key, node)
    for key in sorted(TEXT_KEYS):
        value = _as_written(config, key)
        if isinstance(value, bool | int | float):
            kind = type(value).__name__
            raise UserError(
                f"{key}={value}: must be a text, not the {kind} that YAML reads; put it in quotes."
            )


def _as_written(config: DictConfig, key: str) -> Any:
    group, _, leaf = key.rpartition(".")
    parent = config._get_node(group) if group else config
    node = parent._get_node(leaf) if isinstance(parent, DictConfig) and leaf in parent else None
    return node._value() if isinstance(node, Node) else None


def _no_mapping(key: str, value: object) -> UserError:
    """Returns the error for a group of keys that is set to one value, such as the name of an option."""
    named = CHOSEN_BY.get(key, key)
    chosen = (
        f"{named}={quoted(value)} on the line, or `- override /{named}: {quoted(value)}` in a file's defaults"
    )
    return UserError(f"{key}={quoted(value)}: must be a mapping of keys; an option is chosen by {chosen}.")


def _unfit(config: DictConfig, error: OmegaConfBaseException) -> UserError:
    """Returns the error for a value that the schema cannot take, or an interpolation that leads nowhere."""
    reason = str(error.msg or error).splitlines()[0].rstrip(".")
    if isinstance(error, InterpolationResolutionError):
        leaves = flatten(OmegaConf.to_container(config, resolve=False))
        interpolated = [key for key, text in leaves if "${" in text]
        return UserError(f"{quoted(error.full_key or ', '.join(interpolated))}: {quoted(reason, 300)}.")
    key = str(error.full_key or "config")
    if isinstance(error, KeyValidationError):
        hint = "put it in quotes, or values of one key in brackets, as in [0, 1]"
        return UserError(f"{quoted(key)}: a key must be a text; {hint}.")
    rule = dict(ruled_keys()).get(key)
    if rule is None:
        return UserError(f"{quoted(key)}: {quoted(reason, 300)}.")
    value = OmegaConf.select(config, key, throw_on_resolution_failure=False)
    listed = (
        f"; runs with each of them are {key}={','.join(map(str, value))}" if OmegaConf.is_list(value) else ""
    )
    return UserError(f"{key}={quoted(value)}: must be {rule.text}{quoted(listed, 200)}.")


def _check_together(config: DictConfig) -> None:
    widths, depths = config.model.hidden_size, layers(config)
    if OmegaConf.is_list(widths) and {*depths} != {len(widths)}:
        counts = " and ".join(str(depth) for depth in dict.fromkeys(depths))
        raise UserError(
            f"model.hidden_size={quoted(list(widths))}: {len(widths)} widths for {counts} layers; "
            f"give one width a layer, or model.layers={len(widths)}."
        )
    _check_options(config)
    _check_fault(config)
    for group in ("optimizer", "scheduler"):
        node = config[group]
        if node is not None and not isinstance(node.get("_target_"), str):
            raise UserError(f"{group}._target_: must name a class, as in {group}._target_=torch.optim.Adam.")
    rate = config.optimizer.get("lr", 1.0)
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < float("inf"):
        raise UserError(f"optimizer.lr={quoted(rate)}: must be a finite number above 0.")


def _check_options(config: DictConfig) -> None:
    """Raises a UserError for options of one of the lab's own classes, which take none."""
    loss = config.objective
    likelihood = None if "." in loss.likelihood else loss.likelihood
    for key, target, kind in (
        ("model.options", config.model._target_, "model class of your own (model._target_)"),
        ("objective.options", loss._target_, "loss of your own (objective._target_)"),
        ("objective.likelihood_options", likelihood, "likelihood of your own (objective.likelihood)"),
    ):
        options = OmegaConf.select(config, key)
        if options and target in (BUILT_IN_MODEL, BUILT_IN_OBJECTIVE, likelihood) and target is not None:
            raise UserError(f"{key}={quoted(dict(options))}: {target} takes none; they are for a {kind}.")


def _check_fault(config: DictConfig) -> None:
    """Raises a UserError for a fault that this config cannot be given."""
    fault = config.fault
    of_the_lab = (("model", BUILT_IN_MODEL), ("objective", BUILT_IN_OBJECTIVE))
    for group, target in of_the_lab if fault in (*FAULTS["model"], *FAULTS["loss"]) else ():
        if config[group]._target_ != target:
            raise UserError(
                f"fault={fault}: is for {group}._target_={target}, not for {config[group]._target_}."
            )
    if fault == "condition_ignored" and not config.model.conditional:
        raise UserError(f"fault={fault}: is one of a model with a condition, as in model=cvae.")
    if fault in FAULTS["optimizer"] and "lr" not in config.optimizer:
        raise UserError(f"fault={fault}: is one of an optimizer with a rate, optimizer.lr.")
    if fault in FAULTS["data"] and config.data.binarize != NOTHING:
        raise UserError(f"fault={fault}: is one of grey pixels; choose data.binarize=none.")


def _check_study(config: DictConfig) -> None:
    if config.study.reference is not None:
        from vae_lab.config.references import parse_reference  # msgspec, for the few studies that have one

        parse_reference(OmegaConf.to_container(config.study.reference))
    if config.study.oracle is not None:
        _check_oracle(config.study.oracle, config.sweep.also)


def _check_oracle(oracle: DictConfig, also: DictConfig) -> None:
    for share in oracle.shares:
        if not 0 < share < 1:
            raise UserError(f"study.oracle.shares={share}: must be between 0 and 1, such as 0.95.")
    for point in oracle.points:
        if point not in also:
            raise UserError(
                f"study.oracle.points={quoted(point)}: no such point in sweep.also{choices(point, also)}"
            )
