"""What a config comes to on this machine: data, device, model, loss and optimizer, each tried first."""

from __future__ import annotations

import functools
import hashlib
import inspect
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from hydra.errors import InstantiationException
from hydra.utils import get_class, get_method, instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from vae_lab import config, devices, models, objectives, seeding, stacks, training
from vae_lab.data import Dataset, batches, binarized
from vae_lab.errors import LabError, UserError, choices
from vae_lab.models import VAE
from vae_lab.objectives import Objective, likelihood

_loading = threading.Lock()


class Parts(NamedTuple):
    """What a config comes to on this machine, before anything is written."""

    fingerprint: str  # of config, data and code: equal for runs of equal results
    device: torch.device
    data: Dataset
    objective: Objective
    model_arguments: dict[str, Any]


def prepare(settings: DictConfig) -> Parts:
    """Loads the data and tries every part of a checked config.

    Raises:
        UserError: an absent device, or a class or argument that does not exist or does not work.
        LabError: the data cannot be had.
    """
    device = devices.resolve(settings.train.device)
    if device.type == "cpu":
        devices.keep_freed_memory()
    devices.check_precision(settings.train.precision, device)
    data = dataset(settings.data, device)
    model = settings.model
    arguments: dict[str, Any] = {
        "data_size": data.size,
        "condition_size": data.classes if model.conditional else 0,
        "latent_size": model.latent_size,
        "layers": model.layers,
        "encoder_layers": model.encoder_layers,
        "decoder_layers": model.decoder_layers,
        "hidden_size": OmegaConf.to_object(model.hidden_size)
        if OmegaConf.is_config(model.hidden_size)
        else model.hidden_size,
        "activation": model.activation,
        "init": model.init,
        **OmegaConf.to_container(model.options),  # type: ignore[dict-item]
    }
    with torch.device("meta"), _named("model"):
        build_class(model._target_, nn.Module, "model._target_")(**arguments)
    weight = nn.Parameter(torch.zeros(1))
    optimizer = build_optimizer(settings, [weight])
    schedule = build_schedule(settings, optimizer)
    with _named("scheduler"):
        optimizer.step()
        if schedule is not None:
            schedule.step()
    return Parts(fingerprint(settings, data), device, data, build_objective(settings), arguments)


def build_objective(settings: DictConfig) -> Objective:
    """The configured loss."""
    chosen = settings.objective
    return Objective(
        likelihood(chosen.likelihood, chosen.std),
        chosen.beta,
        warmup_epochs=chosen.warmup_epochs,
        penalty=chosen.penalty,
        penalty_weight=chosen.penalty_weight,
    )


def fingerprint(settings: DictConfig, data: Dataset) -> str:
    """Twelve hex digits of what determines a result: config, data and the code of the training path."""
    text = " ".join([config.fingerprint(settings), data.checksum, _code_of_training(settings.model._target_)])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@functools.cache
def _code_of_training(model: str) -> str:
    own = inspect.getmodule(build_class(model, nn.Module, "model._target_"))
    hashed = hashlib.sha256()
    for module in (seeding, devices, batches, models, objectives, training, stacks, own):
        file = getattr(module, "__file__", None)
        hashed.update(Path(file).read_bytes() if file else b"")
    return hashed.hexdigest()


def dataset(data: DictConfig, device: torch.device) -> Dataset:
    """The configured data on `device`; a process loads each data set once."""
    with _loading, _named("data"):
        return _dataset(data._target_, data.root, data.binarize, device)


@functools.lru_cache(maxsize=4)
def _dataset(target: str, root: str | None, binarize: str, device: torch.device) -> Dataset:
    if device.type != "cpu" or binarize != "none":
        grey = _dataset(target, root, "none", torch.device("cpu")).to(device)
        if binarize == "none":
            return grey
        # Dynamic binarization redraws the training images in every batch; held-out images are drawn once.
        train = grey.train if binarize == "dynamic" else binarized(grey.train, "train")
        return grey._replace(train=train, test=binarized(grey.test, "test"))
    try:
        loaded = get_method(target)(root=root)
    except (ImportError, ValueError) as error:
        raise UserError(f"data._target_={target}: no function of that name can be imported.") from error
    if not isinstance(loaded, Dataset):
        raise UserError(
            f"data._target_={target}: gives a {type(loaded).__name__}, not a vae_lab.data.Dataset."
        )
    return loaded


def build_class(target: str, kind: type, key: str) -> Any:
    """The class of a dotted name, a subclass of `kind`."""
    try:
        found = get_class(target)
    except (ImportError, ValueError) as error:
        raise UserError(f"{key}={target}: no class of that name can be imported.") from error
    if not issubclass(found, kind):
        raise UserError(f"{key}={target}: is no {kind.__module__}.{kind.__name__}.")
    return found


def build_model(settings: DictConfig, arguments: Mapping[str, Any]) -> VAE:
    """The untrained model; its first weights follow from the run's seed alone, on every device."""
    with _named("model"), seeding.global_generator(settings.seed, "weights"):
        return build_class(settings.model._target_, nn.Module, "model._target_")(**arguments)  # type: ignore[no-any-return]


def build_optimizer(settings: DictConfig, weights: Any) -> torch.optim.Optimizer:
    """The configured optimizer over `weights`."""
    target = build_class(settings.optimizer._target_, torch.optim.Optimizer, "optimizer._target_")
    with _named("optimizer", target):
        return instantiate(settings.optimizer, weights)  # type: ignore[no-any-return]


def build_schedule(
    settings: DictConfig, optimizer: torch.optim.Optimizer
) -> torch.optim.lr_scheduler.LRScheduler | None:
    """The configured learning-rate schedule, if there is one."""
    if settings.scheduler is None:
        return None
    target = build_class(
        settings.scheduler._target_, torch.optim.lr_scheduler.LRScheduler, "scheduler._target_"
    )
    with _named("scheduler", target):
        return instantiate(settings.scheduler, optimizer)  # type: ignore[no-any-return]


@contextmanager
def _named(group: str, target: Any = None) -> Iterator[None]:
    """Turns what a constructor says of its arguments into one line that names the group."""
    try:
        yield
    except LabError:
        raise
    except (
        InstantiationException,
        TypeError,
        ValueError,
        RuntimeError,
        ArithmeticError,
        MemoryError,
    ) as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        valid = ""
        if target is not None and "unexpected keyword" in reason:
            names = list(inspect.signature(target).parameters)[1:]
            valid = choices(reason.rpartition("argument ")[2].strip("'"), names)
        raise UserError(f"{group}: {reason.rstrip('.')}{valid or '.'}") from error
