"""Importance-weighted bounds on log p(x), and the floor of grey cross entropy, in nats per image.

Shapes: N images, n images of a part or a batch, G groups of draws, D pixels, Z latent dimensions, C classes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.special import entr

from vae_lab import interruption, seeding
from vae_lab.data import Images, in_order
from vae_lab.evaluation.latent import posteriors
from vae_lab.models import VAE, Posterior
from vae_lab.objectives import Likelihood

GROUPS = 10  # of draws; how the bound changes without one of them says how far draws move it
TRUE_LABEL_DRAWS = 10  # importance draws with an image's true label for each draw with another one


class Weighted(NamedTuple):
    """Two bounds of every image from the same draws: row 0 of all draws, row g of all but group g."""

    bound: Tensor  # log mean weight (1 + G, N)
    elbo: Tensor  # mean log weight (1 + G, N)


class Estimate(NamedTuple):
    """A mean over images and its standard error; None where there are too few draws to say."""

    value: float
    error: float | None


def mean_and_error(values: Tensor) -> tuple[float, float]:
    """Returns the mean of values (N,) and its standard error, which is not a number for one value.

    Examples:
        >>> mean_and_error(torch.tensor([1.0, 3.0]).double()), mean_and_error(torch.tensor([1.0]))
        ((2.0, 1.0), (1.0, nan))
    """
    error = float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return float(values.mean()), error


def log_weight(
    likelihood: Likelihood, logits: Tensor, x: Tensor, posterior: Posterior, noise: Tensor
) -> Tensor:
    """Returns log p(x | z) + log p(z) - log q(z | x) (*) of the draw z from q with `noise` (*, Z).

    The normal densities of z share their constants, which leaves half of noise^2 + log_var - z^2.
    """
    z = posterior.sample(noise)
    ratio = (noise.square() + posterior.log_var - z.square()).sum(-1) / 2
    return ratio - likelihood.negative_log(logits, x)


def importance_weighted(
    model: VAE, likelihood: Likelihood, images: Images, *, draws: int, seed: int, batch_size: int = 1000
) -> Tensor:
    """Returns each image's log mean importance weight (N,): about log p(x), in a CVAE log p(x | y).

    Its expectation is a lower bound on log p(x) that rises with the number of draws; for one draw it is the
    ELBO. The first draws of a longer sum are those of a shorter one. Memory is that of `batch_size` decoded
    images, whatever N and `draws` are.

    References:
        Burda et al. 2016, Importance Weighted Autoencoders, eq. 8.
    """
    return weighted(model, likelihood, images, range(draws), seed=seed, batch_size=batch_size).bound[0]


@torch.inference_mode()
def weighted(
    model: VAE,
    likelihood: Likelihood,
    images: Images,
    draws: range,
    *,
    seed: int,
    groups: int = 0,
    batch_size: int = 1000,
) -> Weighted:
    """Returns log mean and mean log importance weights, of all draws and without each of `groups` groups.

    Args:
        model: The trained model.
        likelihood: p(x | z).
        images: N images.
        draws: Numbers of the draws: a draw has the same noise in every sum that it is part of.
        seed: The seed of the draws.
        groups: G, into which the draws go in turn; 0 for the sums of all draws alone.
        batch_size: Images decoded at a time.
    """
    posterior = posteriors(model, images, batch_size=batch_size)
    device = images.pixels.device
    shape = (max(groups, 1), len(images))
    log_sums = torch.full(shape, -math.inf, dtype=torch.float64, device=device)
    sums = torch.zeros(shape, dtype=torch.float64, device=device)
    for number, draw in enumerate(draws):
        generator = seeding.generator(seed, "importance", draw, device=device)
        noise = torch.randn(posterior.mean.shape, generator=generator, device=device)
        group, start = number % shape[0], 0
        for x, c in in_order(images, batch_size=batch_size, C=model.condition_size):
            interruption.check_now()
            part = slice(start, start + len(x))
            start += len(x)
            q = Posterior(posterior.mean[part], posterior.log_var[part])
            logits = model.logits(q.sample(noise[part]), c)
            weight = log_weight(likelihood, logits, x, q, noise[part]).double()
            log_sums[group, part] = torch.logaddexp(log_sums[group, part], weight)
            sums[group, part] += weight
    return _without_each_group(log_sums, sums, groups, len(draws))


def _without_each_group(log_sums: Tensor, sums: Tensor, groups: int, draws: int) -> Weighted:
    """Returns the bounds from sums by group, of which draw i is in group i modulo their number."""
    numbers = range(len(sums))
    kept = [list(numbers), *([i for i in numbers if i != left] for left in range(groups))]
    counts = [sum(draw % len(sums) in rows for draw in range(draws)) for rows in kept]
    bounds = [log_sums[rows].logsumexp(0) - math.log(K) for rows, K in zip(kept, counts, strict=True)]
    elbos = [sums[rows].sum(0) / K for rows, K in zip(kept, counts, strict=True)]
    return Weighted(torch.stack(bounds), torch.stack(elbos))


def log_marginal(
    model: VAE,
    likelihood: Likelihood,
    images: Images,
    conditional: Tensor,
    *,
    train_labels: Tensor,
    draws: int,
    seed: int,
    batch_size: int = 1000,
) -> Tensor:
    """Returns log p(x) = logsumexp over y of log p(x | y) + log p(y), a lower bound like its parts.

    p(y) are the class frequencies of the training labels. The estimate of p(x) is unbiased however many
    draws each class gets, so classes that hardly add to the sum need fewer: `conditional` has those of the
    true labels, and only the other labels' are drawn here. For a VAE, without labels, it is `conditional`.

    Args:
        model: The trained model.
        likelihood: p(x | z).
        images: N held-out images.
        conditional: Their bound with their true labels, (N,) or (1 + G, N), as what is returned.
        train_labels: Labels of the training images.
        draws: Importance draws for each other label.
        seed: The seed of the draws.
        batch_size: Images decoded at a time.
    """
    C = model.condition_size
    if not C:
        return conditional
    log_prior = (train_labels.bincount(minlength=C).double() / len(train_labels)).log()
    total = conditional + log_prior[images.labels]
    groups = len(conditional) - 1 if conditional.ndim > 1 else 0
    for shift in range(1, C):  # every image gets each other label once
        relabelled = Images(images.pixels, (images.labels + shift) % C, images.peak)
        drawn = (model, likelihood, relabelled, range(draws))
        other = weighted(*drawn, seed=seed, groups=groups, batch_size=batch_size).bound
        total = torch.logaddexp(total, other.reshape(total.shape) + log_prior[relabelled.labels])
    return total


def marginal_bounds(
    model: VAE,
    likelihood: Likelihood,
    images: Images,
    train_labels: Tensor,
    *,
    seed: int,
    draws: int,
    count: int,
    batch_size: int = 1000,
) -> tuple[Estimate, Estimate]:
    """Returns minus the mean bounds on log p(x | label) and log p(x); in a VAE both are the latter.

    How much tighter than the ELBO they are is measured on `count` images and taken off the ELBO of all: it
    varies far less from image to image than the bounds do, so a tenth of the images are enough. Each of these
    images' ELBO is the mean of the log weights that its bound is made of, so that draws move both alike; each
    other image's is of one draw.
    """
    N, device = len(images), images.labels.device
    index = evenly_spaced(torch.arange(N, device=device), count)
    others = torch.ones(N, dtype=torch.bool, device=device).index_fill(0, index, False).nonzero()[:, 0]
    subset, rest = (Images(images.pixels[some], images.labels[some], images.peak) for some in (index, others))
    other_draws = -(-draws // TRUE_LABEL_DRAWS)
    groups = min(GROUPS, draws, other_draws if model.condition_size else draws)
    groups = groups if groups > 1 else 0
    common = {"seed": seed, "batch_size": batch_size}
    own = weighted(model, likelihood, subset, range(draws), groups=groups, **common)
    marginal = log_marginal(
        model, likelihood, subset, own.bound, train_labels=train_labels, draws=other_draws, **common
    )
    elbo_of_rest = torch.zeros(0, dtype=torch.float64, device=device)
    if len(rest):
        one = range(draws, draws + 1)  # of another draw, whose noise has no part in the subset
        elbo_of_rest = weighted(model, likelihood, rest, one, **common).elbo[0]
    conditional, of_all = (
        _estimate(bound, own.elbo, elbo_of_rest, draws=draws) for bound in (own.bound, marginal)
    )
    return conditional, of_all


def _estimate(bound: Tensor, elbo: Tensor, elbo_of_rest: Tensor, *, draws: int) -> Estimate:
    """Returns minus the mean bound of all N images from that of n of them, (1 + G, n), and the rest's ELBO.

    Its variance is that of the n images' draws, of the others' one draw, and of the choice of the n among N.
    """
    n = bound.shape[1]
    N = n + len(elbo_of_rest)
    chosen = 1 / n - 1 / N
    gain = bound - elbo
    parts = bound / n - elbo * chosen
    value = -float(parts[0].sum() + elbo_of_rest.sum() / N)
    if len(bound) == 1:
        return Estimate(value, None)
    variance = _variance_of_draws(parts).sum()
    variance += draws * _variance_of_draws(elbo).mean() * len(elbo_of_rest) / N**2
    if n > 1:
        variance += chosen * (gain[0].var() - _variance_of_draws(gain).mean()).clamp(min=0)
    return Estimate(value, math.sqrt(float(variance)))


def _variance_of_draws(values: Tensor) -> Tensor:
    """Returns the jackknife's variance of row 0 from rows without one group of draws, (1 + G, n) to (n,)."""
    G = len(values) - 1
    return values[1:].var(0, correction=0) * (G - 1)


def evenly_spaced(values: Tensor, count: int) -> Tensor:
    """Returns at most `count` values of the first axis, at even steps.

    Examples:
        >>> evenly_spaced(torch.arange(10), 4).tolist()
        [0, 2, 5, 7]
    """
    if len(values) <= count:
        return values
    return values[torch.arange(count, device=values.device) * len(values) // count]


def entropy_floor(images: Images, *, batch_size: int = 1000) -> float:
    """Returns the lowest possible cross entropy of grey pixels, which is their entropy, in nats per image.

    Examples:
        >>> grey = Images(torch.tensor([[0, 1, 2]], dtype=torch.uint8), torch.zeros(1), peak=2)
        >>> round(entropy_floor(grey), 4)  # log 2, of the middle pixel; black and white have none
        0.6931
    """
    total = sum(
        float((entr(x) + entr(1 - x)).sum(dtype=torch.float64))
        for x, _ in in_order(images, batch_size=batch_size, C=0)
    )
    return total / len(images)
