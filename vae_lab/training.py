"""The training loop, which yields one record an epoch and leaves it to its caller to store them.

Shapes: S steps of an epoch, n images of a minibatch, Z latent dimensions, * the leading axes of a stack of
runs: none for one run, (K,) for K.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

from vae_lab import devices, interruption, seeding
from vae_lab.by_hand import DifferentiatedTwiceError, Optimizer, updated_in_backward
from vae_lab.data import Batches
from vae_lab.errors import LabError
from vae_lab.models import VAE, Decoding, Posterior, autoencoded, is_stochastic
from vae_lab.objectives import Objective, Terms


class Epoch(NamedTuple):
    """The record of one epoch of training; losses in nats per image."""

    number: int  # 1 for the first
    loss: float  # mean over the epoch's images, each measured in its own training step
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
        """Returns the error of a term that became `value` at some place of the training."""
        word = "NaN" if math.isnan(value) else "infinite"
        return cls(f"training diverged: {term} is {word} {where}.")


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
        model: Called as model(x, c, noise); returns pixel logits and posterior.
        objective: The loss per example.
        optimizer: One over the model's parameters.
        batches: The epochs' minibatches, on the model's device.
        epochs: Passes over the images.
        seed: The run's seed, for the posterior noise.
        scheduler: Stepped after every epoch.
        precision: See `devices.autocast` and `devices.float32_products`.
        compiled: See `Trainer`.
        done: Epochs that model, optimizer and scheduler have behind them; training starts after these.

    Yields:
        The record of each epoch.

    Raises:
        DivergedError: A term is not finite; the message names the term, the epoch and the step.
    """
    trainer = Trainer(model, objective, batches, precision=precision, compiled=compiled)
    for epoch in range(done + 1, epochs + 1):
        step_terms, seconds = trainer.run_epoch(epoch, optimizer, seed)
        record = epoch_record(epoch, step_terms, batches.sizes(), seconds, optimizer)
        if scheduler is not None:
            scheduler.step()
        yield record


class Trainer:
    """Trains one model, or one stack of models, an epoch at a time.

    Args:
        model: The model or the stack, trained in place.
        objective: The loss per example.
        batches: The epochs' minibatches, on the model's device.
        precision: See `devices.autocast` and `devices.float32_products`.
        compiled: Whether torch.compile compiles forward and backward pass; on CUDA they become CUDA graphs,
            and a step takes a handful of launches instead of hundreds.
    """

    def __init__(
        self, model: VAE, objective: Objective, batches: Batches, *, precision: str, compiled: bool
    ) -> None:
        self.model, self.objective, self.batches, self.precision = model, objective, batches, precision
        self.device = batches.images.pixels.device
        self._is_stochastic = is_stochastic(model)
        self.compiled = compiled
        self._terms = torch.compile(self._forward, mode="reduce-overhead") if compiled else self._forward

    def run_epoch(self, epoch: int, optimizer: Optimizer, seed: int | list[int]) -> tuple[Tensor, float]:
        """Trains one epoch; returns the mean terms of every minibatch (S, 3, *), on the CPU, and the seconds.

        Raises:
            Interrupted: A second request to stop came in the middle of the epoch.
        """
        self.model.train()
        start = time.perf_counter()
        batches, noises = self.batches, self._noises(epoch, seed)
        progress = torch.arange(len(batches), device=self.device) / len(batches) + (epoch - 1)
        curve = []
        with (
            devices.float32_products(self.precision, self.device),
            self._model_generator(epoch, seed),
            ExitStack() as by_hand,
        ):
            model, stepping = by_hand.enter_context(self._stepping(optimizer))
            for (x, c), noise, epochs_done in zip(
                batches(epoch), torch.split(noises, batches.batch_size, dim=-2), progress, strict=True
            ):
                interruption.check_now()
                try:
                    terms = self._terms(model, x, c, noise, epochs_done)
                except DifferentiatedTwiceError:  # the rest of the epoch is autograd's
                    by_hand.close()
                    model, stepping = self.model, optimizer
                    terms = self._terms(model, x, c, noise, epochs_done)
                stepping.zero_grad()
                share = 1 / terms.loss.shape[-1]  # of an image: the loss is their mean
                terms.loss.backward(torch.full_like(terms.loss, share))  # type: ignore[no-untyped-call]
                stepping.step()
                curve.append(mean_terms(terms))  # no .item(): it would wait for the device
        step_terms = torch.stack(curve).cpu()  # the epoch's only wait for the device
        return step_terms, time.perf_counter() - start

    def _noises(self, epoch: int, seed: int | list[int]) -> Tensor:
        """Returns an epoch's noise (*, N, Z) of all N images, or (L, *, N, Z) of L draws an image.

        One draw an epoch: K runs of a stack cost K launches here, not at every step.
        """
        shape = self.objective.noise_shape(len(self.batches.images), self.model.latent_size)
        noises = seeding.draw_for_each_seed(
            seed,
            lambda generator: torch.randn(shape, generator=generator, device=self.device),
            "posterior",
            epoch,
            device=self.device,
        )
        is_stack_of_draws = noises.ndim > len(shape) > 2
        return noises.transpose(0, 1) if is_stack_of_draws else noises  # an image's draws before the runs

    def _model_generator(self, epoch: int, seed: int | list[int]) -> AbstractContextManager[None]:
        """Returns the context in which a stochastic model's draws are seeded; threads take turns in it."""
        if not self._is_stochastic:
            return nullcontext()
        assert isinstance(seed, int), "a stochastic model is in no stack"
        return seeding.global_generator(seed, "model", epoch, device=self.device)

    def _stepping(self, optimizer: Optimizer) -> AbstractContextManager[tuple[Decoding, Optimizer]]:
        """Returns the context of model and optimizer as an epoch's steps call them."""
        if self.compiled:
            return nullcontext((self.model, optimizer))
        return updated_in_backward(self.model, optimizer, self.precision)

    def _forward(self, model: Decoding, x: Tensor, c: Tensor, noise: Tensor, epochs_done: Tensor) -> Terms:
        logits, posterior = autoencoded_in(self.precision, model, x, c, noise)
        return self.objective(logits, x, posterior, noise, epochs_done=epochs_done)


@torch.no_grad()
def mean_terms(terms: Terms) -> Tensor:
    """Returns the means over images (3, *) of terms (*, n)."""
    return torch.stack(terms).mean(-1)


def autoencoded_in(
    precision: str, model: Decoding, x: Tensor, c: Tensor, noise: Tensor
) -> tuple[Tensor, Posterior]:
    """Returns what `autoencoded` does, computed in `precision` and written in float32 for the loss."""
    with devices.autocast(precision, x.device):
        logits, posterior = autoencoded(model, x, c, noise)
    return logits.float(), posterior._replace(mean=posterior.mean.float(), log_var=posterior.log_var.float())


def epoch_record(
    epoch: int, step_terms: Tensor, sizes: list[int], seconds: float, optimizer: torch.optim.Optimizer
) -> Epoch:
    """Returns the record of one run's epoch, from the mean terms of its minibatches (S, 3) and their sizes.

    Raises:
        DivergedError: A term is not finite.
    """
    _raise_if_diverged(step_terms, epoch)
    weights = torch.tensor(sizes, dtype=torch.float64)
    loss, reconstruction, kl = (weights @ step_terms.double() / weights.sum()).tolist()
    return Epoch(
        number=epoch,
        loss=loss,
        reconstruction=reconstruction,
        kl=kl,
        last_minibatch_loss=float(step_terms[-1, 0]),
        step_losses=step_terms[:, 0].tolist(),
        seconds=seconds,
        images_per_second=sum(sizes) / seconds,
        learning_rate=float(optimizer.param_groups[0]["lr"]),
    )


def _raise_if_diverged(step_terms: Tensor, epoch: int) -> None:
    finite = step_terms.isfinite()
    if finite.all():
        return
    step = int((~finite).any(dim=1).nonzero()[0])
    values = dict(zip(Terms._fields, step_terms[step].tolist(), strict=True))
    parts_first = ("reconstruction", "kl", "loss")  # a part that is not finite is why the loss is not
    term = next(name for name in parts_first if not math.isfinite(values[name]))
    raise DivergedError.of(term, values[term], f"at epoch {epoch}, step {step + 1} of {len(step_terms)}")
