"""The singular value spectrum of data, and what probabilistic PCA makes of it.

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


def eigenvalues(images: Images, *, batch_size: int = 10_000) -> Tensor:
    """Eigenvalues (D,) of the covariance of the images in [0, 1], the largest first, float64 on the CPU.

    They are the squared singular values of the centred data by N. The covariance is D x D however many
    images there are, and float64 keeps what squaring costs below 1e-7 of the largest singular value.
    """
    D = images.pixels.shape[1]
    total, products = torch.zeros(D, dtype=torch.float64), torch.zeros(D, D, dtype=torch.float64)
    for x, _ in in_order(images, batch_size=batch_size, C=0):
        exact = x.cpu().double()
        total += exact.sum(0)
        products += exact.T @ exact
    mean = total / len(images)
    covariance = products / len(images) - mean.outer(mean)
    ascending: Tensor = torch.linalg.eigvalsh(covariance)
    return ascending.flip(0).clamp(min=0)


def singular_values(spectrum: Tensor, count: int) -> Tensor:
    """Singular values (D,) of the centred matrix of `count` images with these covariance eigenvalues (D,)."""
    return (spectrum * count).sqrt()


def cumulative_variance(spectrum: Tensor) -> Tensor:
    """The share of the variance (D,) that the first dimensions hold."""
    return spectrum.cumsum(0) / spectrum.sum()


def rank_at(spectrum: Tensor, share: float) -> int:
    """The fewest dimensions that hold `share` of the variance of eigenvalues (D,)."""
    return int((cumulative_variance(spectrum) < share - 1e-12).sum()) + 1


def noise_variance(spectrum: Tensor, latent_size: int) -> float:
    """The maximum likelihood sigma^2 for Z dimensions: the mean of the D - Z eigenvalues that are left out.

    References:
        Tipping & Bishop 1999, eq. 8.
    """
    return float(spectrum[latent_size:].mean())


def assumed_variance(images: Images, likelihood: str, std: float, *, batch_size: int = 10_000) -> float:
    """The noise variance sigma^2 that a likelihood holds fixed, before anything is trained.

    `gaussian` states it: std^2. A Bernoulli pixel of mean p varies by p (1 - p); its mean over pixels at the
    mean image is what an isotropic model around that image has, and serves for both Bernoulli likelihoods.
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
    """Dimensions that a linear VAE with observation noise sigma^2 = `noise` uses, if it has enough.

    With sigma^2 learned, Z dimensions are all used, since each of their eigenvalues is above the mean of the
    rest. Held at a given value, sigma^2 decides: dimensions above it pay for their KL (Lucas et al. 2019,
    section 4).
    """
    return int((spectrum > noise).sum())


def log_likelihood(spectrum: Tensor, latent_size: int) -> float:
    """Mean log density of probabilistic PCA at its maximum, in nats per image.

    With sigma^2 of `noise_variance`, the trace of C^-1 S in their eq. 4 is D. It is a density of grey
    pixels and compares latent sizes on the same data, not this model with a Bernoulli VAE.

    References:
        Tipping & Bishop 1999, eqs. 4 and 7.
    """
    D = len(spectrum)
    kept = spectrum[:latent_size].log().sum() + (D - latent_size) * math.log(
        noise_variance(spectrum, latent_size)
    )
    return -(D * math.log(2 * math.pi) + float(kept) + D) / 2
