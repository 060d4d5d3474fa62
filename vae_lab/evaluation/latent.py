"""How much of its latent space a model uses.

Shapes: N images, Z latent dimensions, D pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vae_lab.data import Images, in_order
from vae_lab.models import VAE, Posterior
from vae_lab.objectives import kl_per_dimension

COLLAPSED = 0.01  # nats per image; below it a dimension tells the decoder nothing of the image


@torch.inference_mode()
def posteriors(model: VAE, images: Images, *, batch_size: int = 1000) -> Posterior:
    """q(z | x, c) of every image: mean and log-variance (N, Z)."""
    model.eval()
    found = [
        model.posterior(x, c) for x, c in in_order(images, batch_size=batch_size, C=model.condition_size)
    ]
    means, log_vars = zip(*found, strict=True)
    return Posterior(torch.cat(means), torch.cat(log_vars))


def active_units(means: Tensor, threshold: float = 0.01) -> int:
    """Dimensions whose posterior means (N, Z) vary over the images by more than `threshold`.

    References:
        Burda et al. 2016, Importance Weighted Autoencoders, section 5.2.
    """
    return int((means.var(dim=0, correction=0) > threshold).sum())


def kl_dimensions(posterior: Posterior) -> Tensor:
    """Mean KL over images (Z,) of each latent dimension, the largest first, in nats per image.

    Sorted, because the number of a dimension means nothing: two seeds order theirs differently.
    """
    return kl_per_dimension(posterior).double().mean(0).sort(descending=True).values


def collapsed_units(kl: Tensor, threshold: float = COLLAPSED) -> int:
    """Dimensions whose mean KL (Z,) is below `threshold` nats: their posterior is the prior."""
    return int((kl < threshold).sum())
