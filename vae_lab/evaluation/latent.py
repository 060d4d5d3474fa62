"""How much of its latent space a model uses.

Shapes: N images, Z latent dimensions, D pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vae_lab import devices
from vae_lab.data import Images, in_order
from vae_lab.models import VAE, Posterior
from vae_lab.objectives import kl_per_dimension

COLLAPSED = 0.01  # nats per image below which a dimension carries no information about the image


@devices.in_float32
@torch.inference_mode()
def posteriors(model: VAE, images: Images, *, batch_size: int = 1000) -> Posterior:
    """Returns q(z | x, c) of every image: mean and log-variance (N, Z)."""
    model.eval()
    batches = in_order(images, batch_size=batch_size, C=model.condition_size)
    means, log_vars = zip(*(model.posterior(x, c) for x, c in batches), strict=True)
    return Posterior(torch.cat(means), torch.cat(log_vars))


def active_units(means: Tensor, threshold: float = 0.01) -> int:
    """Returns the number of dimensions whose posterior means (N, Z) have a variance above `threshold`.

    Examples:
        >>> active_units(torch.tensor([[1.0, 0.5], [-1.0, 0.5]]))
        1

    References:
        Burda et al. 2016, Importance Weighted Autoencoders, section 5.2.
    """
    return int((means.var(dim=0, correction=0) > threshold).sum())


def kl_dimensions(posterior: Posterior) -> Tensor:
    """Returns the mean KL (Z,) of each latent dimension over images, the largest first, in nats per image.

    Sorted, because the number of a dimension means nothing: two seeds order theirs differently.
    """
    return kl_per_dimension(posterior).double().mean(0).sort(descending=True).values


def collapsed_units(kl: Tensor, threshold: float = COLLAPSED) -> int:
    """Returns the number of dimensions whose mean KL (Z,) is below `threshold` nats.

    The posterior of such a dimension is the prior.
    """
    return int((kl < threshold).sum())
