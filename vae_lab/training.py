"""The training loop; it yields one record an epoch and knows nothing of who keeps it.

Shapes: S steps of an epoch, n images of a minibatch, Z latent dimensions, * the leading axes of a stack of
runs: none for one run, (K,) for K.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from vae_lab import devices, interruption, seeding
from vae_lab.data import Batches
from vae_lab.errors import LabError
from vae_lab.models import VAE, Posterior, draws
from vae_lab.objectives import Objective, Terms


class Epoch(NamedTuple):
    """What one epoch of training came to; losses in nats per image."""

    number: int  # 1 for the first
    loss: float  # mean over the epoch's images, each measured when it was trained on
    reconstruction: float
    kl: float
    last_minibatch_loss: float  # the report's measure
    step_losses: list[float]  # mean loss of each minibatch
    seconds: float  # of training alone; of a stack, this run's share
    images_per_second: float
    learning_rate: float


class DivergedError(LabError):
    """A loss became NaN or infinite."""

    @classmethod
    def of(cls, term: str, value: float, where: str) -> DivergedError:
        """The error of a term that became `value` somewhere in the training."""
        word = "NaN" if math.isnan(value) else "infinite"
        return cls(f"training diverged: {term} is {word} {where}.")


class Model(Protocol):
    """What the loop trains: one VAE, or a stack of them."""

    latent_size: int

    def train(self) -> object:
        """Puts the model in training mode."""

    def __call__(self, x: Tensor, c: Tensor, noise: Tensor) -> tuple[Tensor, Posterior]:
        """Pixel logits (*, n, D) and posterior of images x (*, n, D), c (*, n, C), noise (*, n, Z)."""


class Optimizer(Protocol):
    """What the loop asks of an optimizer."""

    def zero_grad(self) -> None:
        """Forgets the last step's gradients."""

    def step(self) -> object:
        """Moves the weights."""


def train(
    model: VAE,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    batches: Batches,
    *,
    epochs: int,
    seed: int,
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
    precision: str = "float32",
    compiled: bool = False,
    done: int = 0,
) -> Iterator[Epoch]:
    """Trains `model` in place and yields after every epoch.

    Args:
        model: called as model(x, c, noise); gives pixel logits and posterior.
        objective: the loss per example.
        optimizer: over the model's parameters.
        batches: the epochs' minibatches, on the model's device.
        epochs: passes over the images.
        seed: the run's seed, for the posterior noise.
        scheduler: stepped after every epoch.
        precision: see `devices.autocast`.
        compiled: see `Passes`.
        done: epochs that model, optimizer and scheduler have behind them; the loop goes on after these.

    Raises:
        DivergedError: a term is not finite, with the epoch, the step and the term.
    """
    passes = Passes(model, objective, batches, precision=precision, compiled=compiled)
    for epoch in range(done + 1, epochs + 1):
        steps, seconds = passes.run(epoch, optimizer, seed)
        found = summary(epoch, steps, batches.sizes(), seconds, optimizer)
        if scheduler is not None:
            scheduler.step()
        yield found


class Passes:
    """Epochs of one model or one stack.

    Args:
        model: trained in place.
        objective: the loss per example.
        batches: the epochs' minibatches, on the model's device.
        precision: see `devices.autocast`.
        compiled: put forward and backward pass through torch.compile; on CUDA they become CUDA graphs, and a
            step takes a handful of launches in place of hundreds.
    """

    def __init__(
        self, model: Model, objective: Objective, batches: Batches, *, precision: str, compiled: bool
    ) -> None:
        self.model, self.objective, self.batches, self.precision = model, objective, batches, precision
        self.device = batches.images.pixels.device
        self._draws = draws(model)
        self._terms = torch.compile(self._plain, mode="reduce-overhead") if compiled else self._plain

    def run(self, epoch: int, optimizer: Optimizer, seed: int | list[int]) -> tuple[Tensor, float]:
        """One epoch: the terms of every minibatch (S, 3, *), on the CPU, and the seconds it took.

        Raises:
            Interrupted: a second request to stop came in the middle of the epoch.
        """
        self.model.train()
        start = time.perf_counter()
        batches, Z = self.batches, self.model.latent_size
        # One draw an epoch: K runs of a stack cost K launches here, not at every step.
        noises = seeding.each(
            seed,
            lambda generator: torch.randn(len(batches.images), Z, generator=generator, device=self.device),
            "posterior",
            epoch,
            device=self.device,
        )
        done = torch.arange(len(batches), device=self.device) / len(batches) + (epoch - 1)
        curve = []
        with self._own_draws(epoch, seed):
            for (x, c), noise, epochs_done in zip(
                batches(epoch), torch.split(noises, batches.batch_size, dim=-2), done, strict=True
            ):
                interruption.check_now()
                terms = self._terms(x, c, noise, epochs_done)
                optimizer.zero_grad()
                terms.loss.mean(-1).sum().backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                curve.append(torch.stack(terms).detach().mean(-1))  # no .item(): it would wait for the device
        steps = torch.stack(curve).cpu()  # the epoch's only wait for the device
        return steps, time.perf_counter() - start

    def _own_draws(self, epoch: int, seed: int | list[int]) -> AbstractContextManager[None]:
        """The global generator for a model that draws from it; others in this process wait meanwhile."""
        if not self._draws:
            return nullcontext()
        assert isinstance(seed, int), "a model that draws is in no stack"
        return seeding.global_generator(seed, "model", epoch, device=self.device)

    def _plain(self, x: Tensor, c: Tensor, noise: Tensor, epochs_done: Tensor) -> Terms:
        with devices.autocast(self.precision, self.device):
            logits, posterior = self.model(x, c, noise)
        return self.objective(logits.float(), x, posterior, epochs_done=epochs_done)


PRECISION_BOUND = 0.02  # nats an image; means of 10,000 images repeat over seeds to a few tenths


def chosen_precision(precision: str, model: VAE, objective: Objective, batches: Batches, seed: int) -> str:
    """`precision`, where `auto` is the fastest format that leaves the loss as it is.

    A format that the hardware has is taken if the loss of the first minibatch, on the first weights, is
    within `PRECISION_BOUND` of float32's.
    """
    if precision != "auto":
        return precision
    device = batches.images.pixels.device
    candidates = devices.faster_precisions(device)
    if candidates:
        x, c = next(batches(1))
        draws = seeding.generator(seed, "precision", device=device)
        noise = torch.randn(len(x), model.latent_size, generator=draws, device=device)
        exact = _loss_in("float32", model, objective, x, c, noise)
        for candidate in reversed(candidates):
            if abs(_loss_in(candidate, model, objective, x, c, noise) - exact) <= PRECISION_BOUND:
                return candidate
    return "float32"


@torch.no_grad()
def _loss_in(precision: str, model: VAE, objective: Objective, x: Tensor, c: Tensor, noise: Tensor) -> float:
    with devices.autocast(precision, x.device):
        logits, posterior = model(x, c, noise)
    return float(objective(logits.float(), x, posterior).loss.mean())


def summary(
    epoch: int, steps: Tensor, sizes: list[int], seconds: float, optimizer: torch.optim.Optimizer
) -> Epoch:
    """The record of one run's epoch, from the terms of its minibatches (S, 3) and their sizes.

    Raises:
        DivergedError: a term is not finite.
    """
    _raise_if_diverged(steps, epoch)
    weights = torch.tensor(sizes, dtype=torch.float64)
    loss, reconstruction, kl = (weights @ steps.double() / weights.sum()).tolist()
    return Epoch(
        number=epoch,
        loss=loss,
        reconstruction=reconstruction,
        kl=kl,
        last_minibatch_loss=float(steps[-1, 0]),
        step_losses=steps[:, 0].tolist(),
        seconds=seconds,
        images_per_second=sum(sizes) / seconds,
        learning_rate=float(optimizer.param_groups[0]["lr"]),
    )


def _raise_if_diverged(steps: Tensor, epoch: int) -> None:
    broken = ~steps.isfinite()
    if not broken.any():
        return
    step = int(broken.any(dim=1).nonzero()[0])
    term = next(
        name
        for name, bad in zip(("reconstruction", "kl", "loss"), broken[step, [1, 2, 0]].tolist(), strict=True)
        if bad
    )
    value = float(steps[step, Terms._fields.index(term)])
    raise DivergedError.of(term, value, f"at epoch {epoch}, step {step + 1} of {len(steps)}")
