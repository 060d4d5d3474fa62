"""What a config comes to on this machine: data, device, model, loss and optimizer, each tried first."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
from collections.abc import Mapping
from types import ModuleType
from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.overrides import TorchFunctionMode

from vae_lab import by_hand, config, devices, faults, machine, models, objectives, seeding, stacks, training
from vae_lab.config import code_version
from vae_lab.data import Dataset, batches
from vae_lab.errors import LabError, UserError, quoted
from vae_lab.jobs.parts import own_models, precision
from vae_lab.jobs.parts.built import (
    build_model,
    build_objective,
    build_optimizer,
    build_schedule,
    class_named,
    model_arguments,
    model_of,
)
from vae_lab.jobs.parts.datasets import run_data
from vae_lab.jobs.parts.draws import noticed
from vae_lab.jobs.parts.own_losses import is_own, is_stackable, other_weight, state, try_loss
from vae_lab.jobs.parts.own_metrics import own_metrics
from vae_lab.models import VAE
from vae_lab.objectives import Likelihood, Objective, join

FLOAT = 4  # bytes
FIRST_VALUES = (nn.init.kaiming_uniform_, nn.init.uniform_)  # of PyTorch's layers; they name their `tensor`
TRIED_EPOCHS = 1000  # of a schedule
# Keys whose values fill the memory.
SIZES = ("model.layers", "model.hidden_size", "model.latent_size", "train.batch_size")

TRAINING_PATH = (seeding, devices, batches, models, objectives, by_hand, training, stacks)
SHARED_BY_STACK = ("_target_", "likelihood", "likelihood_options", "options", "penalty", "std")  # of the loss
NOT_OWN = ("torch", "builtins", "abc", "typing")  # where bases of a class are no code of a run's


class TooLargeError(UserError):
    """What a run takes at least is more memory than is free at this moment."""


class Outline(NamedTuple):
    """What a model comes to, before memory is given to it."""

    stackable: bool  # as far as the model is concerned
    weights: int  # trained ones
    width: int  # outputs of all its Linear layers


class OptimizerTrial(NamedTuple):
    """What an optimizer does with one weight."""

    state_tensors: int  # of a weight's size, which it holds beside it
    draws: bool  # from PyTorch's global generator


# What a multirun's points share is tried once: by the settings that it is made from.
_outlines: dict[tuple[type, str], Outline] = {}
_optimizer_trials: dict[str, OptimizerTrial] = {}


class _WithoutValues(TorchFunctionMode):
    """Leaves out the first values of what has no memory for them: half the time of building a model."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        return named["tensor"] if func in FIRST_VALUES else func(*args, **named)


class Parts(NamedTuple):
    """What a config comes to on this machine, before anything is written."""

    fingerprint: str  # of config, data and code: equal for runs of equal results
    device: torch.device
    data: Dataset
    objective: Objective
    model_arguments: dict[str, Any]
    weights: int  # trained weights of the model
    stack_key: str | None  # equal for runs that can be trained as a stack; None for one that must go alone
    memory: int = 0  # bytes that training takes at least, beside the data
    draws: bool = False  # whether loss or optimizer draw from PyTorch's global generator


def prepare(settings: DictConfig) -> Parts:
    """Loads the data and tries every part of a checked config.

    Raises:
        UserError: An absent device, or a class or argument that does not exist or does not work.
        LabError: The data cannot be had.
    """
    device = devices.resolve(settings.train.device)
    if device.type == "cpu":
        devices.keep_freed_memory()
    devices.check_precision(settings.train.precision, device)
    data = run_data(settings, device)
    own_metrics(settings.evaluation.metrics)  # that each can be imported, before hours go into training
    objective = build_objective(settings)
    arguments = model_arguments(settings, data, objective.likelihood)
    model = _outline(settings, arguments, objective.likelihood)
    optimizer = _try_optimizer(settings, device)
    can_be_stacked, draws = model.stackable and not optimizer.draws, optimizer.draws
    if is_own(objective) or is_own(objective.likelihood):
        sizes = data.size, settings.model.latent_size
        loss = faults.config_with(settings).objective
        names = {f"objective.{key}": loss[key] for key in ("_target_", "likelihood")}
        draws |= try_loss(objective, names, *sizes)
        can_be_stacked = can_be_stacked and not draws
        can_be_stacked = can_be_stacked and is_stackable(objective, *sizes, _with_other_weights(settings))
    copies = 2 + optimizer.state_tensors
    needed = _needed_memory(settings, model, data, device, copies=copies, draws=objective.draws or 1)
    can_be_stacked = can_be_stacked and own_models.can_be_stacked(settings, arguments, objective)
    return Parts(
        fingerprint=run_fingerprint(settings, data, draws=draws),
        device=device,
        data=data,
        objective=objective,
        model_arguments=arguments,
        weights=model.weights,
        stack_key=_stack_key(settings, arguments, objective) if can_be_stacked else None,
        memory=needed,
        draws=draws,
    )


def first_model(settings: DictConfig, data: Dataset, objective: Objective) -> VAE:
    """Returns the untrained model alone, for who trains nothing: no optimizer and no metric is tried.

    Args:
        settings: A checked config; of a store, one whose model and loss may be imported (`config.trust`).
        data: The data, where the model would be trained.
        objective: The loss, whose likelihood says how many outputs a pixel has.

    Raises:
        UserError: The model's class does not take its arguments, or memory does not hold it.
    """
    arguments = model_arguments(settings, data, objective.likelihood)
    outline = _outline(settings, arguments, objective.likelihood)
    _needed_memory(settings, outline, data, data.test.pixels.device, copies=2, draws=1)
    return build_model(settings, arguments)


def _outline(settings: DictConfig, arguments: Mapping[str, Any], likelihood: Likelihood) -> Outline:
    """Returns what a model comes to, built without memory; once for all points that share it.

    Raises:
        UserError: Its class does not take the arguments, or the likelihood's weights.
    """
    target = class_named(settings.model._target_, nn.Module, "model._target_")
    chosen = target, str((config.plain(settings, ["model", "fault"]), arguments))
    joined = isinstance(likelihood, nn.Module)  # then weights of this run's likelihood are the model's, too
    if joined or chosen not in _outlines:
        with torch.device("meta"), _WithoutValues():
            model = model_of(settings, arguments)
        stackable = stacks.stackable(model)
        join(model, likelihood)
        width = sum(layer.out_features for layer in model.modules() if isinstance(layer, nn.Linear))
        outline = Outline(stackable, models.parameter_count(model), width)
        if joined:
            return outline
        _outlines[chosen] = outline
    return _outlines[chosen]


def _with_other_weights(settings: DictConfig) -> Objective | None:
    """Returns the configured loss with other weights, as its class makes it; None if it refuses them."""
    other = settings.copy()
    for name in stacks.WEIGHTS:
        other.objective[name] = other_weight(other.objective[name])
    try:
        return build_objective(other)
    except LabError:
        return None


def _stack_key(settings: DictConfig, arguments: Mapping[str, Any], objective: Objective) -> str:
    """Returns what runs of one stack share; they may differ in seed, optimizer, schedule and loss weights."""
    built = faults.config_with(settings)
    loss = config.plain(built, ["objective"])["objective"]
    shared = [
        built.model._target_,
        arguments,
        config.plain(settings, ["data", "train", "fault"]),
        {key: loss[key] for key in SHARED_BY_STACK},
        state(objective) if is_own(objective) else "",
    ]
    return json.dumps(shared, sort_keys=True, default=str)


def _try_optimizer(settings: DictConfig, device: torch.device) -> OptimizerTrial:
    """Trains one weight for as many epochs as the schedule may need; once for alike settings.

    Raises:
        UserError: Optimizer or schedule does not work, or the schedule draws.
    """
    epochs = min(settings.train.epochs, TRIED_EPOCHS)
    tried = f"{config.plain(settings, ['optimizer', 'scheduler', 'fault'])} {epochs} {device}"
    if tried in _optimizer_trials:
        return _optimizer_trials[tried]
    weight = nn.Parameter(torch.zeros(2, device=device))
    weight.grad = torch.zeros_like(weight)
    with noticed(device) as has_drawn:
        optimizer = build_optimizer(settings, [weight], trial=lambda candidate: candidate.step())
        draws = has_drawn()

    def step_through(schedule: LRScheduler) -> None:
        optimizer.step()  # PyTorch warns of a schedule that goes first
        with noticed(device) as has_drawn:
            for _ in range(epochs):
                schedule.step()
            if has_drawn():
                raise UserError(
                    f"scheduler._target_={settings.scheduler._target_}: draws from PyTorch's global "
                    "generator, which is not seeded there; must draw from a torch.Generator of its own."
                )

    build_schedule(settings, optimizer, trial=step_through)
    state = optimizer.state[weight].values()
    count = sum(torch.is_tensor(value) and value.shape == weight.shape for value in state)
    _optimizer_trials[tried] = OptimizerTrial(count, draws)
    return _optimizer_trials[tried]


def _needed_memory(
    settings: DictConfig,
    model: Outline,
    data: Dataset,
    device: torch.device,
    *,
    copies: int,
    draws: int,
) -> int:
    """Returns the bytes that training takes; a model that memory cannot hold is refused before it is built.

    Counted are the weights with their gradients and the optimizer's numbers, what a step stores of each layer
    for the way back, and the posterior noise of an epoch: the least that a run takes.

    Raises:
        TooLargeError: That is more than is free.
    """
    together = max(
        min(settings.train.batch_size, len(data.train)), min(settings.evaluation.batch_size, len(data.test))
    )
    numbers = copies * model.weights + 2 * together * model.width * draws
    needed = int(FLOAT * (numbers + draws * len(data.train) * settings.model.latent_size))
    free = machine.free_memory(device)
    if needed > free:
        sizes = ", ".join(f"{key}={quoted(OmegaConf.select(settings, key))}" for key in SIZES)
        raise TooLargeError(
            f"{sizes}: must fit into memory; to train {model.weights:,} weights on this "
            f"data set takes {needed / 1e9:,.1f} GB, and {device} has {free / 1e9:,.1f} GB free."
        )
    return needed


def run_fingerprint(settings: DictConfig, data: Dataset, *, draws: bool) -> str:
    """Returns twelve hex digits of what determines a result: config, data and code of the training path.

    Args:
        settings: A checked config.
        data: Its data.
        draws: Whether loss or optimizer draw numbers; they were not seeded once.
    """
    kinds = [("model", nn.Module), ("optimizer", Optimizer)]
    kinds += [("scheduler", LRScheduler)] if settings.scheduler is not None else []
    kinds += [("objective", Objective)]
    built = faults.config_with(settings)
    classes = [class_named(built[group]._target_, kind, f"{group}._target_") for group, kind in kinds]
    if "." in (likelihood := settings.objective.likelihood):
        classes.append(class_named(likelihood, object, "objective.likelihood"))
    code = _code_of_training(_further_path(settings), *classes)
    text = " ".join([config.config_fingerprint(settings), data.checksum, code, *(["seeded"] * draws)])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _further_path(settings: DictConfig) -> tuple[ModuleType, ...]:
    """Returns what belongs to the training path of those runs only that ask for it.

    Of `train.precision=auto` that is its rule: what it comes to is the machine's, as the device is.
    """
    asked = {faults: settings.fault != config.NOTHING, precision: settings.train.precision == "auto"}
    return tuple(module for module in asked if asked[module])


@functools.cache
def _code_of_training(further: tuple[ModuleType, ...], *classes: type) -> str:
    """Returns a checksum of the loop, the configured classes and their bases, not of what they import."""
    bases = [base for chosen in classes for base in chosen.__mro__]
    foreign = [base for base in bases if base.__module__.partition(".")[0] not in NOT_OWN]
    path = (*TRAINING_PATH, *further, *map(inspect.getmodule, foreign))
    files = [file for module in path if (file := getattr(module, "__file__", None))]
    return code_version.checksum(dict.fromkeys(files))
