"""What a finished run says of itself: its config, and the data that it was trained on, read as data only."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from typing import Any

import torch
import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vae_lab import config
from vae_lab.checkpoints import load_model
from vae_lab.config.trust import check_trusted
from vae_lab.data import Dataset, needs_no_download
from vae_lab.errors import LabError
from vae_lab.files import CONF
from vae_lab.jobs.parts.built import build_objective
from vae_lab.jobs.parts.datasets import run_data
from vae_lab.models import VAE
from vae_lab.objectives import Objective
from vae_lab.tracking import Reader, StoredRun

CONFIG_FILE = "config.yaml"
PLAIN = ("fault", "seed")  # parameters that are keys without a group
MEASURED = "model.parameters"  # a parameter that is no key
WHOLE = ("optimizer", "scheduler")  # groups whose options share no keys: a run's own takes their place


def stored_config(store: Reader, run_id: str) -> DictConfig:
    """Returns a run's config as its file has it.

    Raises:
        LabError: It has none, or one that cannot be read.
    """
    path = store.download(run_id, CONFIG_FILE)
    try:
        text = path.read_text(encoding="utf-8")
        config.check_size(text, CONFIG_FILE)
        stored = OmegaConf.create(yaml.safe_load(text))
        assert isinstance(stored, DictConfig)
    except (
        *(OSError, ValueError, AssertionError, RecursionError),
        *(yaml.YAMLError, OmegaConfBaseException),
    ) as error:
        raise LabError(f"{run_id}: its {CONFIG_FILE} cannot be read: {error}") from error
    return stored


def stored_settings(store: Reader, run_id: str) -> DictConfig:
    """Returns a run's config, checked; what an older lab did not write has today's default.

    Raises:
        LabError: It has none, or one that is not valid.
    """
    stored = stored_config(store, run_id)
    try:
        merged = OmegaConf.merge(_defaults(), stored)
        assert isinstance(merged, DictConfig)
        return config.checked(merged)
    except (LabError, OmegaConfBaseException, ValueError, AssertionError, RecursionError) as error:
        raise LabError(f"{run_id}: its {CONFIG_FILE} cannot be used: {error}") from error


def settings_of_params(params: Mapping[str, str]) -> DictConfig:
    """Returns the config that a run's flat parameters are of, checked; a run that did not finish has no file.

    Raises:
        LabError: It is not valid.

    Examples:
        >>> params = {"model": "vae", "model.layers": "2", "optimizer._target_": "torch.optim.Adam"}
        >>> settings = settings_of_params(params | {"optimizer.lr": "1e-05"})
        >>> settings.model.layers, settings.optimizer.lr, settings.data.name
        (2, 1e-05, 'mnist')
    """
    settings = _defaults().copy()
    try:
        for key, text in params.items():
            if ("." in key or key in PLAIN) and key != MEASURED:
                OmegaConf.update(settings, key, OmegaConf.create(f"value: {text}").value, force_add=True)
        return config.checked(settings)
    except (OmegaConfBaseException, yaml.YAMLError, ValueError) as error:
        raise LabError(f"a run's parameters cannot be used: {error}") from error


@functools.cache
def _defaults() -> DictConfig:
    """Returns the lab's config with the default option of every group, as Hydra composes it."""
    composed: dict[str, Any] = yaml.safe_load((CONF / CONFIG_FILE).read_text(encoding="utf-8"))
    composed.pop("hydra")
    for choice in composed.pop("defaults"):
        for group, option in choice.items() if isinstance(choice, dict) else ():
            if option is not None and group not in WHOLE:
                text = (CONF / group / f"{option}.yaml").read_text(encoding="utf-8")
                composed[group] = yaml.safe_load(text)
    return OmegaConf.create(composed)


def without_foreign_data(
    settings: DictConfig, run_id: str, trusted: Collection[str], root: str | None = None
) -> DictConfig:
    """Returns a config of a store whose data may be loaded.

    A config says which function loads the data and from where: only a trusted one is called, and only a
    folder into which nothing would be fetched is used.

    Args:
        settings: A checked config.
        run_id: The run's that it belongs to.
        trusted: Dotted names, beside the lab's own, that may be imported.
        root: The folder that is used instead; without one the cache.

    Raises:
        UserError: The function is neither the lab's nor trusted.
    """
    target = check_trusted(settings.data._target_, trusted, f"{run_id}: data._target_")
    if settings.data.root is not None and not needs_no_download(target, settings.data.root):
        settings = settings.copy()
        settings.data.root = root
    return settings


def trained_model(
    store: Reader, run_id: str, settings: DictConfig, device: torch.device, trusted: Collection[str]
) -> tuple[VAE, Objective]:
    """Returns a run's model in evaluation mode, and its loss, whose likelihood has the weights it learned.

    Args:
        store: Where the run is kept.
        run_id: Its id.
        settings: Its config, with a loss whose classes may be imported (`config.trust`).
        device: Where the weights are put.
        trusted: Dotted names of model classes, beside the lab's own, that may be imported.

    Raises:
        UserError: The model is of a class that is neither the lab's nor trusted.
        LabError: The run has no model, or one that cannot be read.
    """
    path, objective = store.download(run_id, "model/model.pt"), build_objective(settings)
    model = load_model(path, device=str(device), trusted=trusted, likelihood=objective.likelihood)
    return model, objective


def check_data(run: StoredRun, data: Dataset) -> Dataset:
    """Returns the data, if they are those that the run was trained on.

    Raises:
        LabError: They are others.
    """
    trained_on = run.tags.get("vae_lab.data", "").rpartition(" ")[2]
    if trained_on and trained_on != data.checksum:
        raise LabError(
            f"{run.run_id}: was trained on data {trained_on}, but {data.name} is now {data.checksum}."
        )
    return data


def data_of(run: StoredRun, settings: DictConfig, device: torch.device, trusted: Collection[str]) -> Dataset:
    """Returns the data that a run was trained on, with its fault, if it has one.

    Raises:
        UserError: The function that loads them is neither the lab's nor trusted.
        LabError: They cannot be had, or are others by now.
    """
    return check_data(run, run_data(without_foreign_data(settings, run.run_id, trusted), device))
