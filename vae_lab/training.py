"""The training loop; it yields one record an epoch and knows nothing of who keeps it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from vae_lab import devices, seeding
from vae_lab.data import Batches
from vae_lab.errors import LabError
from vae_lab.models import VAE
from vae_lab.objectives import Objective, Terms


class Epoch(NamedTuple):
    """What one epoch of training came to; losses in nats per image."""

    number: int  # 1 for the first
    loss: float  # mean over the epoch's images, each measured when it was trained on
    reconstruction: float
    kl: float
    last_minibatch_loss: float  # the report's measure
    step_losses: list[float]  # mean loss of each minibatch
    seconds: float  # of training alone
    images_per_second: float
    learning_rate: float


class DivergedError(LabError):
    """A loss became NaN or infinite."""


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

    Raises:
        DivergedError: a term is not finite, with the epoch, the step and the term.
    """
    device = batches.images.pixels.device
    sizes = torch.tensor(batches.sizes(), dtype=torch.float64)
    Z = model.latent_size
    for epoch in range(1, epochs + 1):
        model.train()
        start = time.perf_counter()
        noises = seeding.generator(seed, "posterior", epoch, device=device)
        curve = torch.empty(len(batches), len(Terms._fields), device=device)
        for step, (x, c) in enumerate(batches(epoch)):
            noise = torch.randn(len(x), Z, generator=noises, device=device)
            with devices.autocast(precision, device):
                logits, posterior = model(x, c, noise)
            terms = objective(logits.float(), x, posterior, epochs_done=epoch - 1 + step / len(batches))
            optimizer.zero_grad()
            terms.loss.mean().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            curve[step] = torch.stack(terms).detach().mean(-1)  # stays on the device: .item() would stall it
        steps = curve.cpu()  # the epoch's only wait for the device
        seconds = time.perf_counter() - start
        _raise_if_diverged(steps, epoch)
        loss, reconstruction, kl = (sizes @ steps.double() / sizes.sum()).tolist()
        rate = optimizer.param_groups[0]["lr"]
        if scheduler is not None:
            scheduler.step()
        yield Epoch(
            number=epoch,
            loss=loss,
            reconstruction=reconstruction,
            kl=kl,
            last_minibatch_loss=float(steps[-1, 0]),
            step_losses=steps[:, 0].tolist(),
            seconds=seconds,
            images_per_second=len(batches.images) / seconds,
            learning_rate=float(rate),
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
    word = "NaN" if math.isnan(value) else "infinite"
    raise DivergedError(
        f"training diverged: {term} is {word} at epoch {epoch}, step {step + 1} of {len(steps)}."
    )
