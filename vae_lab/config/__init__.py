"""The config of an experiment: its schema, its checks, its names and its fingerprint."""

from vae_lab.config.checks import checked, checked_plan, unknown_key
from vae_lab.config.files import check_size
from vae_lab.config.identity import (
    SHOWN_IN_EVERY_NAME,
    fingerprint,
    layers,
    model_name,
    parameters,
    quotable,
    run_name,
)
from vae_lab.config.references import check_reference
from vae_lab.config.schema import BASE, BUILT_IN_MODEL, MOST_SEEDS, POINT_NAME, Config, valid_keys

__all__ = [
    "BASE",
    "BUILT_IN_MODEL",
    "MOST_SEEDS",
    "POINT_NAME",
    "SHOWN_IN_EVERY_NAME",
    "Config",
    "check_reference",
    "check_size",
    "checked",
    "checked_plan",
    "fingerprint",
    "layers",
    "model_name",
    "parameters",
    "quotable",
    "run_name",
    "unknown_key",
    "valid_keys",
]
