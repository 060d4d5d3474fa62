"""The config's share of a run's fingerprint; `jobs.parts.prepared.run_fingerprint` adds data and code."""

from __future__ import annotations

import hashlib
import json

from omegaconf import DictConfig

from vae_lab.config.names import plain
from vae_lab.config.schema import BUILT_IN_OBJECTIVE, NOTHING

# Left out where nothing is the user's own: fingerprints are those of before there were such keys.
PLAIN_LOSS = {"_target_": BUILT_IN_OBJECTIVE, "likelihood_options": {}, "options": {}}
WHERE_IT_RUNS = (("data", "root"), ("train", "device"), ("train", "threads"))


def config_fingerprint(config: DictConfig) -> str:
    """Returns twelve hex digits of what determines a run's result.

    Where it runs and how it is recorded and asked about do not enter: tracking, study, sweep, data.root,
    train.device, train.threads, and of the evaluation all that can be measured later.

    Args:
        config: A checked config.
    """
    groups = ["data", "model", "objective", "optimizer", "scheduler", "train", "seed"]
    relevant = plain(config, groups)
    for group, key in WHERE_IT_RUNS:
        del relevant[group][key]
    loss = relevant["objective"]
    for key, standard in PLAIN_LOSS.items():
        if loss[key] == standard:
            del loss[key]
    if config.fault != NOTHING:
        relevant["fault"] = config.fault
    relevant["active_threshold"] = config.evaluation.active_threshold  # what every epoch's active units are
    text = json.dumps(relevant, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
