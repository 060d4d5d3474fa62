"""The config of an experiment: its schema, its checks, its names and its fingerprint."""

from vae_lab.config.checks import checked, checked_plan, known_key, typed, unknown_key
from vae_lab.config.fingerprint import config_fingerprint
from vae_lab.config.names import (
    SHOWN_IN_EVERY_NAME,
    is_of_all_runs,
    layers,
    model_name,
    parameters,
    plain,
    quotable,
    run_name,
)
from vae_lab.config.schema import (
    BASE,
    BUILT_IN_MODEL,
    BUILT_IN_OBJECTIVE,
    FAULTS,
    MOST_SEEDS,
    NOTHING,
    OPTIONAL_GROUPS,
    POINT_NAME,
    STUDY_GROUPS,
    TEXT_KEYS,
    Config,
    ruled_keys,
    takes_list,
    valid_keys,
)
from vae_lab.config.yaml_size import check_size

__all__ = [
    "BASE",
    "BUILT_IN_MODEL",
    "BUILT_IN_OBJECTIVE",
    "FAULTS",
    "MOST_SEEDS",
    "NOTHING",
    "OPTIONAL_GROUPS",
    "POINT_NAME",
    "SHOWN_IN_EVERY_NAME",
    "STUDY_GROUPS",
    "TEXT_KEYS",
    "Config",
    "check_size",
    "checked",
    "checked_plan",
    "config_fingerprint",
    "is_of_all_runs",
    "known_key",
    "layers",
    "model_name",
    "parameters",
    "plain",
    "quotable",
    "ruled_keys",
    "run_name",
    "takes_list",
    "typed",
    "unknown_key",
    "valid_keys",
]
