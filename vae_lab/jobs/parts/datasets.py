"""The configured data, loaded, checked and binarized once for a process."""

from __future__ import annotations

import functools
import logging
import threading

import torch
from omegaconf import DictConfig

from vae_lab import faults
from vae_lab.data import Dataset, binarized
from vae_lab.data.arrays import checked, remarks
from vae_lab.errors import UserError
from vae_lab.files import imported
from vae_lab.jobs.parts.arguments import blaming_keys, reason_of

log = logging.getLogger(__name__)

CPU = torch.device("cpu")

_loading = threading.Lock()


def run_data(settings: DictConfig, device: torch.device) -> Dataset:
    """Returns the data on `device` as a run with these settings sees them, with its fault if it is theirs."""
    if settings.fault in faults.OF_DATA:  # which may draw
        return faults.data_with(settings.fault, dataset(settings.data, CPU)).to(device)
    return dataset(settings.data, device)


def dataset(data: DictConfig, device: torch.device) -> Dataset:
    """Returns the configured data on `device`; a process loads each data set once."""
    with _loading:
        return _dataset(data._target_, data.root, data.binarize, device)


@functools.lru_cache(maxsize=4)
def _dataset(target: str, root: str | None, binarize: str, device: torch.device) -> Dataset:
    if device.type != "cpu" or binarize != "none":
        data = _dataset(target, root, "none", CPU)
        if binarize != "none":
            # Drawn on the CPU, wherever the run is: the generator of another device draws other pixels.
            # Dynamic binarization redraws the training images in every batch; held-out images are drawn once.
            train = data.train if binarize == "dynamic" else binarized(data.train, "train")
            data = data._replace(train=train, test=binarized(data.test, "test"))
        return data.to(device)
    loaded = _loaded(target, root)
    for remark in remarks(loaded):
        log.warning(remark)
    return loaded


def _loaded(target: str, root: str | None) -> Dataset:
    """Returns what the loader of that name makes, checked unless the loader is the lab's own."""
    blamed = f"data._target_={target}"
    try:
        load = imported(target)
        if not callable(load):
            raise TypeError(f"it is a {type(load).__name__}")
    except Exception as error:  # a module of the user's own may raise anything
        raise UserError(f"{blamed}: no function of that name can be imported: {reason_of(error)}") from error
    of_the_lab = str(getattr(load, "__module__", "")).partition(".")[0] == "vae_lab"
    try:
        loaded = blaming_keys(
            "data",
            {"_target_": target, "root": root},
            load,
            lambda _: load(root=root),
            blamed="root" if root else "_target_",
        )
    except UserError as error:  # of `vae_lab.data.dataset`, say, which does not know who called it
        if of_the_lab or str(error).startswith("data."):
            raise
        raise UserError(f"{blamed}: {error}") from error
    if not isinstance(loaded, Dataset):
        raise UserError(f"{blamed}: returns a {type(loaded).__name__}, not a vae_lab.data.Dataset.")
    return loaded if of_the_lab else checked(loaded, blamed)
