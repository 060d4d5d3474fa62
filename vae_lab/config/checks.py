"""A composed config held against the schema: unknown keys, types, ranges, what does not go together."""

from __future__ import annotations

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigKeyError,
    InterpolationResolutionError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from vae_lab.config.identity import flatten, layers
from vae_lab.config.schema import BUILT_IN_MODEL, Config, ruled_keys, valid_keys
from vae_lab.errors import UserError, choices


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
        plain = flatten(OmegaConf.to_container(config, resolve=False), "")
        suspects = [
            key for key, text in plain if "${" in text and isinstance(error, InterpolationResolutionError)
        ]
        key = error.full_key or ", ".join(suspects) or "config"
        raise UserError(f"{key}: {reason}.") from None
    for key, rule in ruled_keys():
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
    if config.study.oracle is not None:
        _check_oracle(config.study.oracle, config.sweep.also)
    for group in ("optimizer", "scheduler"):
        node = config[group]
        if node is not None and not isinstance(node.get("_target_"), str):
            raise UserError(f"{group}._target_: must name a class, as in {group}._target_=torch.optim.Adam.")
    rate = config.optimizer.get("lr", 1.0)
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < float("inf"):
        raise UserError(f"optimizer.lr={rate}: must be a finite number above 0.")


def _check_oracle(oracle: DictConfig, also: DictConfig) -> None:
    for share in oracle.shares:
        if not 0 < share < 1:
            raise UserError(f"study.oracle.shares={share}: must be between 0 and 1, such as 0.95.")
    for point in oracle.points:
        if point not in also:
            raise UserError(f"study.oracle.points={point}: no such point in sweep.also{choices(point, also)}")
