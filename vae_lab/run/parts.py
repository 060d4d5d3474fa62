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
from hydra.utils import get_class, get_method, instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from vae_lab import config, devices, memory, models, objectives, seeding, stacks, training
from vae_lab.data import Dataset, batches, binarized
from vae_lab.errors import LabError, UserError, choices, shown
from vae_lab.models import VAE
from vae_lab.objectives import Objective, likelihood

FLOAT = 4  # bytes
TRIED_EPOCHS = 1000  # of a schedule

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
        outlined = build_class(model._target_, nn.Module, "model._target_")(**arguments)
    kept = _try_optimizer(settings, device)
    _check_memory(settings, outlined, data, device, copies=2 + kept)
    return Parts(fingerprint(settings, data), device, data, build_objective(settings), arguments)


def _try_optimizer(settings: DictConfig, device: torch.device) -> int:
    """Trains a weight for as many epochs as the schedule may need; gives how many numbers are kept for it."""
    weight = nn.Parameter(torch.zeros(2, device=device))
    weight.grad = torch.zeros_like(weight)
    optimizer = build_optimizer(settings, [weight])
    schedule = build_schedule(settings, optimizer)
    with _named("optimizer"):
        optimizer.step()
    with _named("scheduler"):
        if schedule is not None:
            for _ in range(min(settings.train.epochs, TRIED_EPOCHS)):
                schedule.step()
    state = optimizer.state[weight].values()
    return sum(torch.is_tensor(each) and each.shape == weight.shape for each in state)


def _check_memory(
    settings: DictConfig, outlined: nn.Module, data: Dataset, device: torch.device, *, copies: int
) -> None:
    """Refuses a model that memory cannot hold, before it is built and the machine runs out.

    Counted are the weights with their gradients and the optimizer's numbers, what a step keeps of each layer
    for the way back, and the posterior noise of an epoch: the least that a run takes.

    Raises:
        UserError: that is more than is free.
    """
    together = max(
        min(settings.train.batch_size, len(data.train)), min(settings.evaluation.batch_size, len(data.test))
    )
    wide = sum(each.out_features for each in outlined.modules() if isinstance(each, nn.Linear))
    numbers = copies * models.parameter_count(outlined) + 2 * together * wide
    needed = FLOAT * (numbers + len(data.train) * settings.model.latent_size)
    free = memory.free(device)
    if needed > free:
        sizes = ", ".join(
            f"{key}={shown(OmegaConf.select(settings, key))}"
            for key in ("model.layers", "model.hidden_size", "model.latent_size", "train.batch_size")
        )
        raise UserError(
            f"{sizes}: must fit into memory; to train {models.parameter_count(outlined):,} weights on this "
            f"data set takes {needed / 1e9:,.1f} GB, and {device} has {free / 1e9:,.1f} GB free."
        )


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
        made = instantiate(settings.optimizer, weights)
        if not isinstance(made, torch.optim.Optimizer):  # _partial_
            raise TypeError(f"gives a {type(made).__name__}, not an optimizer")
        return made


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
        made = instantiate(settings.scheduler, optimizer)
        if not isinstance(made, torch.optim.lr_scheduler.LRScheduler):
            raise TypeError(f"gives a {type(made).__name__}, not a schedule")
        return made


@contextmanager
def _named(group: str, target: Any = None) -> Iterator[None]:
    """Turns what a constructor says of its arguments into one line that names the group."""
    try:
        yield
    except LabError:
        raise
    except Exception as error:  # classes of the user's choice raise what they like
        cause = error.__cause__ or error
        reason = shown(next(iter(str(cause).splitlines()), "") or type(cause).__name__, 300)
        valid = ""
        if target is not None and "unexpected keyword" in reason:
            names = list(inspect.signature(target).parameters)[1:]
            valid = choices(reason.rpartition("argument ")[2].strip("'"), names)
        raise UserError(f"{group}: {reason.rstrip('.')}{valid or '.'}") from error
