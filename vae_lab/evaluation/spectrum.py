"""The singular value spectrum of data, and what follows from it for probabilistic PCA.

A linear VAE with observation noise sigma^2 is probabilistic PCA: it uses as many latent dimensions as the
covariance has eigenvalues above sigma^2, and lets the others collapse to the prior.

Shapes: N images, D pixels, Z latent dimensions.

References:
    Tipping & Bishop 1999, Probabilistic Principal Component Analysis.
    Lucas et al. 2019, Don't Blame the ELBO! A Linear VAE Perspective on Posterior Collapse.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vae_lab.data import Images, in_order

ROUNDING = 1e-12  # a variance below is none: one level of one pixel in one of MNIST's images has 3e-10


def eigenvalues(images: Images, *, batch_size: int = 10_000) -> Tensor:
    """Returns the eigenvalues (D,) of the covariance of the images in [0, 1], largest first, in float64.

    They are the squared singular values of the centred data divided by N. The covariance is D x D however
    many images there are, and in float64 squaring loses less than 1e-7 of the largest singular value.
    """
    D = images.pixels.shape[1]
    total, products = torch.zeros(D, dtype=torch.float64), torch.zeros(D, D, dtype=torch.float64)
    for x, _ in in_order(images, batch_size=batch_size, C=0):
        exact = x.cpu().double()
        total += exact.sum(0)
        products += exact.T @ exact
    mean = total / len(images)
    covariance = products / len(images) - mean.outer(mean)
    descending: Tensor = torch.linalg.eigvalsh(covariance).flip(0)
    return descending.where(descending > ROUNDING, 0)


def singular_values(spectrum: Tensor, count: int) -> Tensor:
    """Returns the singular values (D,) of `count` centred images whose covariance has eigenvalues (D,)."""
    return (spectrum * count).sqrt()


def cumulative_variance(spectrum: Tensor) -> Tensor:
    """Returns the share of the variance (D,) in the first 1, 2, ... D dimensions."""
    return spectrum.cumsum(0) / spectrum.sum()


def rank_at(spectrum: Tensor, share: float) -> int:
    """Returns the fewest dimensions that hold `share` of the variance of eigenvalues (D,).

    Examples:
        >>> rank_at(torch.tensor([6.0, 3.0, 1.0]), share=0.9)
        2
    """
    return int((cumulative_variance(spectrum) < share - 1e-12).sum()) + 1


def noise_variance(spectrum: Tensor, latent_size: int) -> float:
    """Returns the maximum likelihood sigma^2 for Z dimensions: the mean of the D - Z smallest eigenvalues.

    Examples:
        >>> noise_variance(torch.tensor([6.0, 3.0, 1.0]), latent_size=1)
        2.0

    References:
        Tipping & Bishop 1999, eq. 8.
    """
    return float(spectrum[latent_size:].mean())


def assumed_variance(images: Images, likelihood: str, std: float, *, batch_size: int = 10_000) -> float:
    """Returns the noise variance sigma^2 that a likelihood assumes, before any training.

    That of `gaussian` is std^2. A Bernoulli pixel of mean p has the variance p (1 - p); the average over the
    pixels of the mean image is that of an isotropic model around it, and serves both Bernoulli likelihoods.
    """
    if likelihood == "gaussian":
        return std**2
    D = images.pixels.shape[1]
    total = torch.zeros(D, dtype=torch.float64)
    for x, _ in in_order(images, batch_size=batch_size, C=0):
        total += x.cpu().double().sum(0)
    p = total / len(images)
    return float((p * (1 - p)).mean())


def active_dimensions(spectrum: Tensor, noise: float) -> int:
    """Returns the number of dimensions that a large enough linear VAE with noise sigma^2 = `noise` uses.

    With a learned sigma^2 all Z dimensions are used, since each of their eigenvalues is above the mean of the
    rest. With a fixed one, those with an eigenvalue above it are (Lucas et al. 2019, section 4).

    Examples:
        >>> active_dimensions(torch.tensor([6.0, 3.0, 1.0]), noise=2.0)
        2
    """
    return int((spectrum > noise).sum())


def log_likelihood(spectrum: Tensor, latent_size: int) -> float:
    """Returns the mean log density of probabilistic PCA at its maximum, in nats per image.

    With sigma^2 of `noise_variance`, the trace of C^-1 S in their eq. 4 is D. It is a density of grey
    pixels and compares latent sizes on the same data, not this model with a Bernoulli VAE. Where Z dimensions
    hold all variance, no noise is left: the density grows without bound and is infinite.

    Examples:
        >>> log_likelihood(torch.tensor([6.0, 3.0, 0.0]), latent_size=2)
        inf

    References:
        Tipping & Bishop 1999, eqs. 4 and 7.
    """
    D = len(spectrum)
    noise = noise_variance(spectrum, latent_size)
    if not noise:
        return math.inf
    log_noise = math.log(noise)
    log_determinant = float(spectrum[:latent_size].log().sum() + (D - latent_size) * log_noise)
    return -(D * math.log(2 * math.pi) + log_determinant + D) / 2
