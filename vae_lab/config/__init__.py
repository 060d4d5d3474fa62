"""The config of an experiment: its schema, its checks, its names and its fingerprint."""

from vae_lab.config.checks import checked, unknown_key
from vae_lab.config.identity import fingerprint, layers, model_name, parameters, run_name
from vae_lab.config.schema import BUILT_IN_MODEL, Config, valid_keys

__all__ = [
    "BUILT_IN_MODEL",
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
