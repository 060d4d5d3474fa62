"""The loss, its parts and the active units on images that were not trained on.

Shapes: N images, Z latent dimensions.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from vae_lab import devices, interruption, seeding
from vae_lab.data import Images, in_order
from vae_lab.evaluation.latent import active_units
from vae_lab.models import VAE, autoencoded
from vae_lab.objectives import Objective, Terms


class HeldOut(NamedTuple):
    """Means over held-out images, in nats per image, and the use of the latent space."""

    loss: float  # reconstruction + beta KL + penalty, as trained
    negative_elbo: float  # reconstruction + KL, whatever beta was
    reconstruction: float
    kl: float
    active_units: int | None  # None for one image, which has no variance
    errors: HeldOutErrors | None = None  # None for one draw, whose error it does not tell


class HeldOutErrors(NamedTuple):
    """Standard errors of means over several draws an image: how far more draws would move them."""

    loss: float
    negative_elbo: float
    reconstruction: float


@devices.in_float32
@torch.inference_mode()
def held_out(
    model: VAE,
    objective: Objective,
    images: Images,
    *,
    seed: int,
    batch_size: int = 1000,
    active_threshold: float = 0.01,
    draws: int = 1,
) -> HeldOut:
    """Returns the loss and its parts on images that were not trained on, averaged over `draws` an image.

    The draws depend on `seed` alone, so equal weights have equal figures.
    """
    model.eval()
    device = images.pixels.device
    generator = seeding.generator(seed, "evaluation", device=device)
    totals = torch.zeros(len(Terms._fields), dtype=torch.float64, device=device)
    variances = torch.zeros_like(totals)  # sums over images of the variance of their draws
    means = []
    for x, c in in_order(images, batch_size=batch_size, C=model.condition_size):
        interruption.check_now()
        terms = []
        for _ in range(draws):
            shape = objective.noise_shape(len(x), model.latent_size)
            noise = torch.randn(shape, generator=generator, device=device)
            logits, posterior = autoencoded(model, x, c, noise)
            terms.append(torch.stack(objective(logits, x, posterior, noise)))
            totals += terms[-1].sum(-1)
        if draws > 1:
            variances += torch.stack(terms).var(0).sum(-1)
        means.append(posterior.mean)
    loss, reconstruction, kl = (totals / (len(images) * draws)).tolist()
    active = active_units(torch.cat(means), active_threshold) if len(images) > 1 else None
    errors = None
    if draws > 1:  # the KL is in closed form: the ELBO's error is that of the reconstruction
        loss_error, error, _ = (variances / draws).sqrt().div(len(images)).tolist()
        errors = HeldOutErrors(loss_error, error, error)
    return HeldOut(loss, reconstruction + kl, reconstruction, kl, active, errors)
