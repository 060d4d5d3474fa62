"""Several runs of one architecture trained as one: their weights lie in common tensors with a leading axis.

A stack saves launches (on a GPU a step of one small run is mostly launches) and lets small matrix products
share a call. Each run keeps its own VAE, whose parameters are views into the stack: whatever reads or moves a
run's weights (its optimizer, evaluation, checkpoints) works as if it were alone.

Shapes: K runs, S steps of an epoch, n images of a minibatch.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from vae_lab.data import Batches
from vae_lab.models import VAE, Posterior, draws
from vae_lab.objectives import Objective
from vae_lab.training import DivergedError, Epoch, Optimizer, Passes, summary


class StackedLinear(nn.Module):
    """K Linear layers side by side: (K, n, in) -> (K, n, out) as one batched matrix product.

    Args:
        layers: of equal shape; their weights are copied.
    """

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.stack([layer.weight.detach() for layer in layers]))  # (K, out, in)
        self.bias = (
            nn.Parameter(torch.stack([layer.bias.detach() for layer in layers]))
            if layers[0].bias is not None
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """Each layer on its slice of x (K, n, in)."""
        return cast("Tensor", _Linears.apply(x, self.weight, self.bias))


class _Linears(torch.autograd.Function):
    """Images x (K, n, in) times the transposed weights (K, out, in), plus biases (K, out).

    The gradient of the weights is made in their own layout; autograd's own would be a transposed one, and be
    copied at every step.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        transposed = weight.transpose(1, 2)
        return torch.bmm(x, transposed) if bias is None else torch.baddbmm(bias[:, None], x, transposed)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        wants_x, _, wants_bias = ctx.needs_input_grad
        return (
            torch.bmm(gradient, weight) if wants_x else None,
            torch.bmm(gradient.transpose(1, 2), x),
            gradient.sum(1) if wants_bias else None,
        )


def stackable(model: nn.Module) -> bool:
    """Whether a model can be part of a stack: Linear layers hold all of its weights, and it draws nothing."""
    owners = [module for module in model.modules() if any(True for _ in module.parameters(recurse=False))]
    buffers = any(True for _ in model.buffers())
    return not buffers and not draws(model) and all(type(module) is nn.Linear for module in owners)


class Stack:
    """K models of one architecture, called as one.

    Args:
        models: stackable, of equal architecture and on one device. Their parameters become views.
    """

    def __init__(self, models: Sequence[VAE]) -> None:
        self.models = list(models)
        self.latent_size = models[0].latent_size
        self.model = _stacked(self.models)
        self._link()

    def __call__(self, x: Tensor, c: Tensor, noise: Tensor) -> tuple[Tensor, Posterior]:
        """Pixel logits (K, n, D) and posteriors of x (K, n, D), c (K, n, C) and noise (K, n, Z)."""
        return cast("tuple[Tensor, Posterior]", self.model(x, c, noise))

    def train(self) -> None:
        """Puts every model in training mode."""
        for model in (self.model, *self.models):
            model.train()

    def keep(self, places: Sequence[int]) -> None:
        """Goes on with the models at these places only; theirs are the weights and gradients as before."""
        self.models = [self.models[place] for place in places]
        self.model = _stacked(self.models)
        self._link()

    def share_gradients(self) -> None:
        """Gives every model its slice of the stack's gradients."""
        for whole, parts in self._shares:
            assert whole.grad is not None
            for part, gradient in zip(parts, whole.grad.unbind(), strict=True):
                part.grad = gradient

    def shares(self) -> list[tuple[nn.Parameter, list[nn.Parameter]]]:
        """Every weight of the stack, with the models' own slices of it."""
        return self._shares

    def _link(self) -> None:
        named = [dict(model.named_parameters()) for model in self.models]
        self._shares = [
            (whole, [parameters[name] for parameters in named])
            for name, whole in self.model.named_parameters()
        ]
        for whole, parts in self._shares:
            for part, weights in zip(parts, whole.detach().unbind(), strict=True):
                part.data = weights


def _stacked(models: Sequence[VAE]) -> VAE:
    # The structure once more, with each Linear replaced: the model's own forward then carries the axis along.
    first = models[0]
    stacked = copy.deepcopy(first)
    for name, layer in first.named_modules():
        if isinstance(layer, nn.Linear):
            layers = [cast("nn.Linear", model.get_submodule(name)) for model in models]
            parent, _, own = name.rpartition(".")
            setattr(stacked.get_submodule(parent), own, StackedLinear(layers))
    return stacked


def merged(objectives: Sequence[Objective], device: torch.device) -> Objective:
    """One objective whose weights (K, 1) are those of K objectives of one likelihood and kind of penalty."""

    def column(name: str) -> Tensor:
        return torch.tensor([[float(getattr(each, name))] for each in objectives], device=device)

    first = objectives[0]
    return Objective(
        first.likelihood,
        column("beta"),
        warmup_epochs=column("warmup_epochs"),
        penalty=first.penalty,
        penalty_weight=column("penalty_weight"),
    )


class Member(NamedTuple):
    """One run of a stack, with what is its own."""

    model: VAE
    objective: Objective
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler | None
    seed: int


class _EachInTurn:
    """The members' optimizers, each over its own slice of the stack's weights."""

    def __init__(self, stack: Stack, members: Sequence[Member]) -> None:
        self.stack, self.members = stack, members

    def zero_grad(self) -> None:
        self.stack.model.zero_grad()

    def step(self) -> None:
        self.stack.share_gradients()
        for member in self.members:
            member.optimizer.step()


# They treat every weight by itself, so that one over a stack's weights does what one a run does.
_BY_ELEMENT = (
    torch.optim.Adam,
    torch.optim.AdamW,
    torch.optim.NAdam,
    torch.optim.RAdam,
    torch.optim.RMSprop,
    torch.optim.SGD,
)


@contextmanager
def _optimizers(stack: Stack, members: Sequence[Member]) -> Iterator[Optimizer]:
    """What moves the stack's weights in one epoch: the members' optimizers, as one where they are alike.

    One saves K - 1 calls a step. Its state is made of the members' before the epoch, and theirs after it.
    """
    first = members[0].optimizer
    options = [_options(member.optimizer) for member in members]
    if type(first) not in _BY_ELEMENT or any(each is None or each != options[0] for each in options):
        yield _EachInTurn(stack, members)
        return
    assert options[0] is not None
    shares = stack.shares()
    states = [
        [member.optimizer.state.get(part, {}) for member, part in zip(members, parts, strict=True)]
        for _, parts in shares
    ]
    if len({len(state) for row in states for state in row}) != 1:  # some are new, others have gone on
        yield _EachInTurn(stack, members)
        return
    one = type(first)([whole for whole, _ in shares], **options[0])
    for (whole, parts), row in zip(shares, states, strict=True):
        for key, value in row[0].items():
            alike = isinstance(value, Tensor) and value.shape == parts[0].shape
            one.state[whole][key] = torch.stack([state[key] for state in row]) if alike else value
    yield one
    for member in members:
        member.optimizer.zero_grad()
        member.optimizer.step()  # without gradients it moves nothing, but schedules ask that it was called
    for whole, parts in shares:
        for key, value in one.state[whole].items():
            for place, (member, part) in enumerate(zip(members, parts, strict=True)):
                own = value[place] if isinstance(value, Tensor) and value.shape == whole.shape else value
                member.optimizer.state[part][key] = own.clone() if isinstance(own, Tensor) else own


def _options(optimizer: torch.optim.Optimizer) -> dict[str, Any] | None:
    """The arguments of an optimizer of one group of weights, as they hold now; None for more groups."""
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
    going: Callable[[int], bool] = lambda place: True,
) -> Iterator[dict[int, Epoch | DivergedError]]:
    """Trains all members in place; yields after every epoch what became of each, by its place in `members`.

    A member that diverged is left out from then on.

    Args:
        members: of one architecture, likelihood and kind of penalty, on one device.
        batches: of any seed; each member sees those of its own.
        epochs: passes over the images.
        precision: see `devices.autocast`.
        compiled: see `training.Passes`.
        done: epochs that all members have behind them; the stack goes on after these.
        going: asked after every epoch whether the member at a place is still wanted.
    """
    device = batches.images.pixels.device
    stack = Stack([member.model for member in members])
    alive = list(range(len(members)))
    passes: Passes | None = None
    for epoch in range(done + 1, epochs + 1):
        present = [members[place] for place in alive]
        seeds = [member.seed for member in present]
        if passes is None:
            own = Batches(
                batches.images,
                batch_size=batches.batch_size,
                C=batches.C,
                seed=seeds,
                dynamic=batches.dynamic,
            )
            objective = merged([member.objective for member in present], device)
            passes = Passes(stack, objective, own, precision=precision, compiled=compiled)
        with _optimizers(stack, present) as optimizer:
            steps, seconds = passes.run(epoch, optimizer, seeds)
        found: dict[int, Epoch | DivergedError] = {}
        for place, member, own_steps in zip(alive, present, steps.unbind(-1), strict=True):
            try:
                found[place] = summary(
                    epoch, own_steps, batches.sizes(), seconds / len(present), member.optimizer
                )
            except DivergedError as error:
                found[place] = error
                continue
            if member.scheduler is not None:
                member.scheduler.step()
        yield found
        left = [place for place in alive if isinstance(found[place], Epoch) and going(place)]
        if not left:
            return
        if left != alive:
            stack.keep([alive.index(place) for place in left])
            alive, passes = left, None
