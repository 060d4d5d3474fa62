"""The config of an experiment: its schema, its checks, its names and its fingerprint."""

from vae_lab.config.checks import checked, unknown_key
from vae_lab.config.identity import (
    SHOWN_IN_EVERY_NAME,
    fingerprint,
    layers,
    model_name,
    parameters,
    run_name,
)
from vae_lab.config.schema import BASE, BUILT_IN_MODEL, POINT_NAME, Config, valid_keys

__all__ = [
    "BASE",
    "BUILT_IN_MODEL",
    "POINT_NAME",
    "SHOWN_IN_EVERY_NAME",
    "Config",
    "checked",
    "fingerprint",
    "layers",
    "model_name",
    "parameters",
    "run_name",
    "unknown_key",
    "valid_keys",
]
