"""Several runs of one architecture trained as one: their weights lie in common tensors with a leading axis.

A stack saves launches (on a GPU a step of one small run is mostly launches) and lets small matrix products
share a call. Each run has its own VAE, whose parameters are views into the stack: whatever reads or changes a
run's weights (its optimizer, evaluation, checkpoints) works as if the run were alone.

Shapes: K runs, S steps of an epoch, n images of a minibatch.
"""

from __future__ import annotations

import copy
import inspect
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from vae_lab.by_hand import Optimizer
from vae_lab.data import Batches
from vae_lab.models import VAE, Float32Linear, Posterior, StackedLinear, is_stochastic
from vae_lab.objectives import Objective
from vae_lab.training import DivergedError, Epoch, Trainer, epoch_record


def stackable(model: nn.Module) -> bool:
    """Returns whether a model can be part of a stack: only Linear layers have weights, and it draws nothing.

    All its weights are trained, and none has two places: in a stack they would move apart.

    Examples:
        >>> stackable(VAE(784)), stackable(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))
        (True, False)
    """
    owners = [module for module in model.modules() if any(True for _ in module.parameters(recurse=False))]
    if any(True for _ in model.buffers()) or is_stochastic(model):
        return False
    places = [weights for _, weights in model.named_parameters(remove_duplicate=False)]
    if len(places) != len(set(map(id, places))) or not all(weights.requires_grad for weights in places):
        return False
    return all(type(module) in (nn.Linear, Float32Linear) for module in owners)


class Stack:
    """K models of one architecture, called as one.

    Args:
        models: K stackable models of one architecture, on one device. Their parameters become views.
    """

    def __init__(self, models: Sequence[VAE]) -> None:
        self.models = list(models)
        self.latent_size = models[0].latent_size
        self._combine()

    def __call__(self, x: Tensor, c: Tensor, noise: Tensor) -> tuple[Tensor, Posterior]:
        """Returns pixel logits (K, n, P) and posteriors for x (K, n, D), c (K, n, C) and noise (K, n, Z)."""
        return cast("tuple[Tensor, Posterior]", self.model(x, c, noise))

    def posterior(self, x: Tensor, c: Tensor) -> Posterior:
        """Returns the posteriors of x (K, n, D) with conditions c (K, n, C)."""
        return self.model.posterior(x, c)

    def logits(self, z: Tensor, c: Tensor) -> Tensor:
        """Returns pixel logits (K, n, P) for latent vectors z (K, n, Z) and conditions c (K, n, C)."""
        return self.model.logits(z, c)

    def train(self) -> None:
        """Puts every model in training mode."""
        for model in (self.model, *self.models):
            model.train()

    def select(self, indices: Sequence[int]) -> None:
        """Drops all models but those at `indices`, whose weights and gradients stay as they are."""
        self.models = [self.models[index] for index in indices]
        self._combine()

    def assign_gradients(self) -> None:
        """Sets the gradients of every model's parameters to its slices of the stack's."""
        for stacked, slices in self.parameters:
            assert stacked.grad is not None
            for parameter, gradient in zip(slices, stacked.grad.unbind(), strict=True):
                parameter.grad = gradient

    def _combine(self) -> None:
        self.model = _stacked_model(self.models)
        by_name = [dict(model.named_parameters()) for model in self.models]
        # Each parameter of the stack, with the models' parameters, which become its slices.
        self.parameters = [
            (stacked, [parameters[name] for parameters in by_name])
            for name, stacked in self.model.named_parameters()
        ]
        for stacked, slices in self.parameters:
            for parameter, weights in zip(slices, stacked.detach().unbind(), strict=True):
                parameter.data = weights


def _stacked_model(models: Sequence[VAE]) -> VAE:
    # A copy of the structure with each Linear replaced: the model's own forward then carries the axis along.
    first = models[0]
    stacked = copy.deepcopy(first)
    for name, layer in first.named_modules():
        if isinstance(layer, nn.Linear):
            layers = [cast("nn.Linear", model.get_submodule(name)) for model in models]
            parent, _, attribute = name.rpartition(".")
            setattr(stacked.get_submodule(parent), attribute, StackedLinear(layers))
    return stacked


WEIGHTS = ("beta", "warmup_epochs", "penalty_weight")  # of a loss, in which runs of a stack may differ


def stack_objectives(objectives: Sequence[Objective], device: torch.device) -> Objective:
    """Returns one objective whose weights (K, 1) are those of K objectives of one likelihood and penalty."""

    def column(name: str) -> Tensor:
        return torch.tensor([[float(getattr(objective, name))] for objective in objectives], device=device)

    stacked = copy.copy(objectives[0])
    stacked.beta, stacked.warmup_epochs, stacked.penalty_weight = map(column, WEIGHTS)
    return stacked


class Member(NamedTuple):
    """One run of a stack: the parts that it shares with no other run."""

    model: VAE
    objective: Objective
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler | None
    seed: int


class _MemberOptimizers:
    """The members' optimizers, which step one after another, each over its slices of the stack's weights."""

    def __init__(self, stack: Stack, members: Sequence[Member]) -> None:
        self.stack, self.members = stack, members

    def zero_grad(self) -> None:
        self.stack.model.zero_grad()

    def step(self) -> None:
        self.stack.assign_gradients()
        for member in self.members:
            member.optimizer.step()


# They update every weight by itself: one over a stack's weights does the same as one for each run.
_ELEMENTWISE = (
    torch.optim.Adam,
    torch.optim.AdamW,
    torch.optim.NAdam,
    torch.optim.RAdam,
    torch.optim.RMSprop,
    torch.optim.SGD,
)


@contextmanager
def _epoch_optimizer(stack: Stack, members: Sequence[Member]) -> Iterator[Optimizer]:
    """The optimizer of one epoch: one for the whole stack if the members' can be combined, else theirs.

    One for all saves K - 1 calls a step. It starts with the members' states, which follow it after the epoch.
    """
    combined = _combined_optimizer(stack, members)
    if combined is None:
        yield _MemberOptimizers(stack, members)
        return
    yield combined
    for member in members:
        member.optimizer.zero_grad()
        member.optimizer.step()  # changes nothing without gradients, but schedules warn if it is not called
    for stacked, slices in stack.parameters:
        for key, value in combined.state[stacked].items():
            sliced = isinstance(value, Tensor) and value.shape == stacked.shape
            for index, (member, parameter) in enumerate(zip(members, slices, strict=True)):
                entry = value[index] if sliced else value
                member.optimizer.state[parameter][key] = entry.clone() if isinstance(entry, Tensor) else entry


def _combined_optimizer(stack: Stack, members: Sequence[Member]) -> torch.optim.Optimizer | None:
    """Returns one optimizer over the stack's weights with the members' states.

    None if theirs differ, are not elementwise, or if only some of them have made steps.
    """
    kind = type(members[0].optimizer)
    options, *more_options = [_options(member.optimizer) for member in members]
    if kind not in _ELEMENTWISE or options is None or any(more != options for more in more_options):
        return None
    states = [
        [member.optimizer.state.get(parameter, {}) for member, parameter in zip(members, slices, strict=True)]
        for _, slices in stack.parameters
    ]
    if len({len(state) for parameter_states in states for state in parameter_states}) != 1:
        return None
    combined = kind([stacked for stacked, _ in stack.parameters], **options)
    for (stacked, slices), parameter_states in zip(stack.parameters, states, strict=True):
        for key, value in parameter_states[0].items():
            sliced = isinstance(value, Tensor) and value.shape == slices[0].shape
            combined.state[stacked][key] = (
                torch.stack([state[key] for state in parameter_states]) if sliced else value
            )
    return combined


def _options(optimizer: torch.optim.Optimizer) -> dict[str, Any] | None:
    """Returns the present arguments of an optimizer of one group of weights; None if it has more groups."""
    if len(optimizer.param_groups) != 1:
        return None
    accepted = inspect.signature(type(optimizer)).parameters
    return {
        key: value for key, value in optimizer.param_groups[0].items() if key in accepted and key != "params"
    }


def train_together(
    members: Sequence[Member],
    batches: Batches,
    *,
    epochs: int,
    precision: str = "float32",
    compiled: bool = False,
    done: int = 0,
    going: Callable[[int], bool] = lambda index: True,
) -> Iterator[dict[int, Epoch | DivergedError]]:
    """Trains all members in place and yields after every epoch.

    Args:
        members: Runs of one architecture, likelihood and kind of penalty, on one device.
        batches: Batches of any seed; each member sees those of its own seed.
        epochs: Passes over the images.
        precision: See `devices.autocast`.
        compiled: See `training.Trainer`.
        done: Epochs that all members have behind them; training starts after these.
        going: Called after every epoch with the index of a member; False ends that member's training.

    Yields:
        The record of each member's epoch by its index in `members`, or the error of one that diverged, which
        takes no part in later epochs.
    """
    stack = Stack([member.model for member in members])
    indices = list(range(len(members)))  # of the members in training
    trainer: Trainer | None = None
    for epoch in range(done + 1, epochs + 1):
        in_training = [members[index] for index in indices]
        if trainer is None:
            trainer = _stack_trainer(stack, in_training, batches, precision=precision, compiled=compiled)
        results = dict(zip(indices, _train_epoch(epoch, trainer, stack, in_training), strict=True))
        yield results
        remaining = [index for index in indices if isinstance(results[index], Epoch) and going(index)]
        if not remaining:
            return
        if remaining != indices:
            stack.select([indices.index(index) for index in remaining])
            indices, trainer = remaining, None


def _stack_trainer(
    stack: Stack, members: Sequence[Member], batches: Batches, *, precision: str, compiled: bool
) -> Trainer:
    objective = stack_objectives([member.objective for member in members], batches.images.pixels.device)
    seeds = [member.seed for member in members]
    return Trainer(stack.model, objective, batches.with_seed(seeds), precision=precision, compiled=compiled)


def _train_epoch(
    epoch: int, trainer: Trainer, stack: Stack, members: Sequence[Member]
) -> list[Epoch | DivergedError]:
    """Trains the members for one epoch and steps their schedulers; returns a result for each."""
    start = time.perf_counter()
    with _epoch_optimizer(stack, members) as optimizer:
        step_terms, _ = trainer.run_epoch(epoch, optimizer, [member.seed for member in members])
    seconds = time.perf_counter() - start  # also of joining the optimizers' states and handing them back
    share, sizes = seconds / len(members), trainer.batches.sizes()
    results: list[Epoch | DivergedError] = []
    for member, member_terms in zip(members, step_terms.unbind(-1), strict=True):
        try:
            results.append(epoch_record(epoch, member_terms, sizes, share, member.optimizer))
        except DivergedError as error:
            results.append(error)
            continue
        if member.scheduler is not None:
            member.scheduler.step()
    return results
