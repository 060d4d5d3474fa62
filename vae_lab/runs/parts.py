"""What a config comes to on this machine: data, device, model, loss and optimizer, each tried first."""

from __future__ import annotations

import functools
import hashlib
import inspect
import threading
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple, TypeVar

import torch
from hydra.utils import get_class, get_method, instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from vae_lab import config, devices, machine, models, objectives, seeding, stacks, training
from vae_lab.config import code_version
from vae_lab.data import Dataset, batches, binarized
from vae_lab.errors import UserError, quoted
from vae_lab.models import VAE
from vae_lab.objectives import Objective, likelihood
from vae_lab.runs.arguments import used

FLOAT = 4  # bytes
TRIED_EPOCHS = 1000  # of a schedule

T = TypeVar("T")

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
    with torch.device("meta"):
        outlined = _built(settings, arguments)
    kept = _try_optimizer(settings, device)
    _check_memory(settings, outlined, data, device, copies=2 + kept)
    return Parts(fingerprint(settings, data), device, data, build_objective(settings), arguments)


def _try_optimizer(settings: DictConfig, device: torch.device) -> int:
    """Trains a weight for as many epochs as the schedule may need; gives how many numbers are kept for it."""
    weight = nn.Parameter(torch.zeros(2, device=device))
    weight.grad = torch.zeros_like(weight)
    optimizer = build_optimizer(settings, [weight], tried=lambda made: made.step())

    def step_through(schedule: torch.optim.lr_scheduler.LRScheduler) -> None:
        optimizer.step()  # PyTorch warns of a schedule that goes first
        for _ in range(min(settings.train.epochs, TRIED_EPOCHS)):
            schedule.step()

    build_schedule(settings, optimizer, tried=step_through)
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
    free = machine.free_memory(device)
    if needed > free:
        sizes = ", ".join(
            f"{key}={quoted(OmegaConf.select(settings, key))}"
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
    kinds = [("model", nn.Module), ("optimizer", torch.optim.Optimizer)]
    kinds += [("scheduler", torch.optim.lr_scheduler.LRScheduler)] if settings.scheduler is not None else []
    classes = [build_class(settings[group]._target_, kind, f"{group}._target_") for group, kind in kinds]
    text = " ".join([config.fingerprint(settings), data.checksum, _code_of_training(*classes)])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@functools.cache
def _code_of_training(*classes: type) -> str:
    """What the loop, the configured classes and their bases do; what else these import is not looked at."""
    bases = [base for chosen in classes for base in chosen.__mro__]
    own = [base for base in bases if base.__module__.partition(".")[0] not in ("torch", "builtins", "abc")]
    path = (seeding, devices, batches, models, objectives, training, stacks, *map(inspect.getmodule, own))
    files = [file for module in path if (file := getattr(module, "__file__", None))]
    return code_version.checksum(dict.fromkeys(files))


def dataset(data: DictConfig, device: torch.device) -> Dataset:
    """The configured data on `device`; a process loads each data set once."""
    with _loading:
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
        load = get_method(target)
    except (ImportError, ValueError) as error:
        raise UserError(f"data._target_={target}: no function of that name can be imported.") from error
    loaded = used(
        "data",
        {"_target_": target, "root": root},
        load,
        lambda _: load(root=root),
        blamed="root" if root else "_target_",
    )
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
    with seeding.global_generator(settings.seed, "weights"):
        return _built(settings, arguments)


def _built(settings: DictConfig, arguments: Mapping[str, Any]) -> VAE:
    target = build_class(settings.model._target_, nn.Module, "model._target_")
    given = {"_target_": settings.model._target_}
    given |= {key: arguments[key] for key in settings.model if key in arguments}
    given |= {f"options.{key}": value for key, value in settings.model.options.items()}
    fixed = {
        key: value
        for key, value in arguments.items()
        if key not in given and key not in settings.model.options
    }

    def make(keys: Collection[str]) -> VAE:
        names = {key: key.removeprefix("options.") for key in keys}
        return target(**fixed, **{name: arguments[name] for name in names.values()})  # type: ignore[no-any-return]

    return used("model", given, target, make, fixed=[*fixed])


def build_optimizer(
    settings: DictConfig, weights: Any, *, tried: Callable[[torch.optim.Optimizer], object] | None = None
) -> torch.optim.Optimizer:
    """The configured optimizer over `weights`; `tried` may use it, and what then fails is the config's."""
    return _instantiated(settings, "optimizer", torch.optim.Optimizer, weights, tried)


def build_schedule(
    settings: DictConfig,
    optimizer: torch.optim.Optimizer,
    *,
    tried: Callable[[torch.optim.lr_scheduler.LRScheduler], object] | None = None,
) -> torch.optim.lr_scheduler.LRScheduler | None:
    """The configured learning-rate schedule, if there is one; `tried` as for an optimizer."""
    if settings.scheduler is None:
        return None
    return _instantiated(settings, "scheduler", torch.optim.lr_scheduler.LRScheduler, optimizer, tried)


def _instantiated(
    settings: DictConfig, group: str, kind: type[T], of: Any, tried: Callable[[T], object] | None
) -> T:
    """An object of one of PyTorch's kinds, as a group of the config describes it."""
    node = settings[group]
    target = build_class(node._target_, kind, f"{group}._target_")
    given: dict[str, Any] = OmegaConf.to_container(node, resolve=True)  # type: ignore[assignment]

    def make(keys: Collection[str]) -> T:
        made = instantiate({key: given[key] for key in given if key in keys or key.startswith("_")}, of)
        if not isinstance(made, kind):  # _partial_
            raise TypeError(f"gives a {type(made).__name__}, which is no {kind.__name__}")
        if tried is not None:
            tried(made)
        return made

    return used(group, given, target, make, fixed=["params", "optimizer"])
