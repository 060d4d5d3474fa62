"""The KL of the encoder in two parts: what z says of the image, and how far all images' z are from the prior.

Bias: there is none for the N images at hand, where I(x; z) is what z says of the number of the image. For the
distribution that they come from I is too small, and the other part too large by as much: a draw belongs to
one of N images, so I is never above log N, 9.2 nats for 10,000. Where it is near log N, it says only that.

Shapes: N images, n images of a batch, Z latent dimensions.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from vae_lab import interruption, seeding
from vae_lab.evaluation.bounds import mean_and_error
from vae_lab.models import Posterior
from vae_lab.objectives import kl_per_dimension


class Aggregate(NamedTuple):
    """The two parts of the mean KL over N images, in nats per image; errors are NaN for one image."""

    mutual_information: float
    mutual_information_error: float
    kl: float  # of the aggregate posterior from the prior
    kl_error: float


@torch.inference_mode()
def aggregate(posterior: Posterior, *, seed: int, batch_size: int = 1000) -> Aggregate:
    """Returns I(x; z) and KL(q(z) || p(z)), q(z) the mean of q(z | x_n) over N images and p(z) = N(0, 1).

    I(x; z) is the mean of log q(z_n | x_n) - log q(z_n) over images, with one draw z_n of q(z | x_n) each and
    log q(z) = logsumexp over all N images of log q(z | x_n) - log N. KL(q(z) || p(z)) is the mean of the
    images' KL in closed form less that, so that the two add up to it exactly, whatever was drawn. In a CVAE
    q(z | x_n, c_n) takes the place of q(z | x_n): I is what z says of the image and its label together, and
    q(z) is over all labels, as its prior is, which does not depend on the label.

    The standard errors are of means over images, with the images that make up q(z) held fixed.

    Args:
        posterior: q(z | x_n) of every image (N, Z).
        seed: The seed of the draws.
        batch_size: Draws that are compared with all images at a time.

    Examples:
        >>> same = Posterior(torch.ones(50, 2), torch.zeros(50, 2))  # z has nothing of the image
        >>> parts = aggregate(same, seed=0)
        >>> abs(round(parts.mutual_information, 6)), round(parts.kl, 6)
        (0.0, 1.0)

    References:
        Hoffman & Johnson 2016, ELBO surgery, section 2.
    """
    mean, log_var = posterior.mean.double(), posterior.log_var.double()
    N, device = len(mean), mean.device
    generator = seeding.generator(seed, "aggregate", device=device)
    noise = torch.randn(mean.shape, generator=generator, device=device).double()
    z = Posterior(mean, log_var).sample(noise)
    # The constants of all normal densities are the same; what is left of log q(z | x) is below.
    own = -(noise.square() + log_var).sum(-1) / 2
    log_q = []
    for some in torch.split(z, batch_size):
        interruption.check_now()
        log_q.append(_log_densities(some, mean, log_var).logsumexp(-1) - math.log(N))
    information = own - torch.cat(log_q)
    other = kl_per_dimension(Posterior(mean, log_var)).sum(-1) - information
    return Aggregate(*mean_and_error(information), *mean_and_error(other))


def _log_densities(z: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    """Returns log q(z | x) + Z / 2 log(2 pi) of draws (n, Z) for all images (n, N), by matrix products."""
    precision = (-log_var).exp()
    scaled = mean * precision
    constant = (mean * scaled + log_var).sum(-1)
    return z @ scaled.T - (z.square() @ precision.T + constant) / 2
