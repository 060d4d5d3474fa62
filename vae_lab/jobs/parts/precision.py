"""The number format that a run is trained in: what `train.precision=auto` comes to for a model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vae_lab import devices, seeding
from vae_lab.data import Batches
from vae_lab.models import VAE
from vae_lab.objectives import Objective
from vae_lab.training import autoencoded_in

PRECISION_BOUND = 0.02  # nats an image; means of 10,000 images repeat over seeds to a few tenths
TRIAL_SEED = 0  # of what `auto` is tried with, so that all seeds of a configuration are of one format
# Layers up to which `experiments=precision` shows bfloat16 to end where float32 ends, of VAE and CVAE.
SHOWN_DEPTH, SHOWN_DEPTH_CONDITIONAL = 3, 2


def fastest_precision(model: VAE, objective: Objective, batches: Batches, seed: int) -> str:
    """Returns the fastest format that hardly changes the loss, which is what `auto` comes to.

    Of the hardware's formats, the fastest is taken in which the loss of a minibatch, with the first weights,
    is within `PRECISION_BOUND` of float32's; bfloat16 only for models that a study has shown to end where
    they end in float32. The model is tried in evaluation mode, without dropout, and is left as it is.

    Args:
        model: An untrained model.
        objective: The loss per example.
        batches: The epochs' minibatches, on the model's device.
        seed: Of the minibatch and of all draws: `TRIAL_SEED` for the choice of a configuration, whatever the
            seeds of its runs.
    """
    device = batches.images.pixels.device
    candidates = devices.faster_precisions(device)
    if not _shown_in_bfloat16(model):
        candidates = [candidate for candidate in candidates if candidate != "bfloat16"]
    if candidates:
        x, c = next(batches.with_seed(seed)(1))
        generator = seeding.generator(seed, "precision", device=device)
        noise = torch.randn(
            objective.noise_shape(len(x), model.latent_size), generator=generator, device=device
        )
        trial = _Trial(model, objective, x, c, noise, seed)
        with _evaluating(model):
            exact = _loss_in("float32", trial)
            for candidate in reversed(candidates):
                if abs(_loss_in(candidate, trial) - exact) <= PRECISION_BOUND:
                    return candidate
    return "float32"


class _Trial(NamedTuple):
    """What a number format is tried with."""

    model: VAE
    objective: Objective
    x: Tensor  # (n, D)
    c: Tensor  # (n, C)
    noise: Tensor  # (n, Z), or (L, n, Z) of L draws an image
    seed: int  # of the model's own draws


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Puts a model in evaluation mode, and each of its modules back into its own."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _shown_in_bfloat16(model: VAE) -> bool:
    """Returns whether a model is of the class, activation and depth that the study has shown it of."""
    if type(model) is not VAE:
        return False
    shown = SHOWN_DEPTH_CONDITIONAL if model.condition_size else SHOWN_DEPTH
    halves = [*model.encoder], [*model.decoder]
    shallow = all(sum(isinstance(part, nn.Linear) for part in half) <= shown for half in halves)
    return shallow and all(isinstance(part, nn.Linear | nn.ReLU) for half in halves for part in half)


@torch.no_grad()
def _loss_in(precision: str, trial: _Trial) -> float:
    model, objective, x, c, noise, seed = trial
    with (
        devices.float32_products(precision, x.device),
        seeding.global_generator(seed, "trial of a format", device=x.device),  # the same draws for each
    ):
        logits, posterior = autoencoded_in(precision, model, x, c, noise)
    return float(objective(logits, x, posterior, noise).loss.mean())
