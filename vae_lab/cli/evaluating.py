"""`vae-lab evaluate`: adds measures to finished runs."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from vae_lab import evaluating
from vae_lab.cli.training import FAILED, explained
from vae_lab.errors import LabError, UserError
from vae_lab.folders import CONF
from vae_lab.tracking import Store


def evaluate(name: str, overrides: Sequence[str], uri: str | None, again: bool) -> int:
    """Measures the finished runs of `name`; gives the exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("vae_lab").setLevel(logging.INFO)
    wanted = composed(evaluating.allowed(overrides))
    if wanted.train.threads is not None:
        torch.set_num_threads(wanted.train.threads)
    failed = evaluating.evaluate(Store.open(uri), name, wanted, again=again)
    return FAILED if failed else 0


def composed(overrides: list[str]) -> DictConfig:
    """The lab's config with these overrides.

    Raises:
        UserError: an override that Hydra does not take.
    """
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return compose("config", overrides)
    except LabError:
        raise
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explained(error)) from None
