"""`vae-lab evaluate`: adds measures to finished runs."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from vae_lab import config
from vae_lab.cli.train import FAILED, explained
from vae_lab.errors import UserError
from vae_lab.files import CONF
from vae_lab.runs import measuring
from vae_lab.tracking import Store


def evaluate(
    name: str, overrides: Sequence[str], trusted: Sequence[str], uri: str | None, again: bool
) -> int:
    """Measures the finished runs of `name`; gives the exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("vae_lab").setLevel(logging.INFO)
    wanted = composed(measuring.allowed(overrides))
    if wanted.train.threads is not None:
        torch.set_num_threads(wanted.train.threads)
    failed = measuring.evaluate(Store.open(uri), name, wanted, trusted=trusted, again=again)
    return FAILED if failed else 0


def composed(overrides: list[str]) -> DictConfig:
    """The lab's config with these overrides, checked.

    Raises:
        UserError: an override that Hydra does not take, or a value out of range.
    """
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            found = compose("config", overrides)
    except Exception as error:
        raise UserError(explained(error)) from None
    return config.checked(found)
