"""Images that a model draws itself, pixels included, with the latent vectors that they come from.

Shapes: N images, D pixels, Z latent dimensions, C condition.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vae_lab import seeding
from vae_lab.models import VAE
from vae_lab.objectives import Bernoulli, ContinuousBernoulli, Gaussian, Likelihood

# The likelihoods of which draws are known; what inherits from one may have another density.
DRAWN = (Bernoulli, ContinuousBernoulli, Gaussian)


@torch.no_grad()
def simulated(model: VAE, likelihood: Likelihood, c: Tensor, *, seed: int) -> tuple[Tensor, Tensor]:
    """Returns images (N, D) drawn from the model, and their latent vectors (N, Z).

    A latent vector is a draw of the exact posterior of its image.

    Args:
        model: The trained model.
        likelihood: p(x | z).
        c: Conditions of the images (N, C).
        seed: The seed of the draws.
    """
    model.eval()
    generator = seeding.generator(seed, "simulated", device=c.device)
    z = torch.randn(len(c), model.latent_size, generator=generator, device=c.device)
    return drawn_pixels(likelihood, model.logits(z, c), generator), z


def drawn_pixels(likelihood: Likelihood, logits: Tensor, generator: torch.Generator) -> Tensor:
    """Returns a draw of x from p(x | logits) for every pixel (*, D).

    Raises:
        TypeError: It is none of the lab's likelihoods.

    Examples:
        >>> drawn_pixels(Bernoulli(), torch.tensor([-99.0, 99.0]), torch.Generator())
        tensor([0., 1.])
    """
    if type(likelihood) is Gaussian:
        noise = torch.randn(logits.shape, generator=generator, device=logits.device)
        return likelihood.mean(logits) + likelihood.std * noise
    uniform = torch.rand(logits.shape, generator=generator, device=logits.device)
    if type(likelihood) is Bernoulli:
        return (uniform < logits.sigmoid()).to(logits.dtype)
    if type(likelihood) is ContinuousBernoulli:
        return _continuous_bernoulli(logits, uniform)
    raise TypeError(f"{type(likelihood).__name__}: no draws are known")


def _continuous_bernoulli(logits: Tensor, uniform: Tensor) -> Tensor:
    """Returns the inverse of the distribution function (exp(l x) - 1) / (exp(l) - 1) for logits l.

    It is that of -|l|, which does not overflow, mirrored for positive l; around l = 0 it is uniform.
    """
    size = logits.abs().clamp(min=1e-4)
    small = (-torch.log1p(uniform * torch.expm1(-size)) / size).clamp(0, 1)
    return torch.where(logits > 0, 1 - small, small)
