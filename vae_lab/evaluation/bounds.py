"""Importance-weighted bounds on log p(x), and the floor of grey cross entropy, in nats per image.

Shapes: N images, n images of a batch, D pixels, Z latent dimensions, C classes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.special import entr

from vae_lab import interruption, seeding
from vae_lab.data import Images, in_order
from vae_lab.evaluation.latent import posteriors
from vae_lab.models import VAE, Posterior
from vae_lab.objectives import Likelihood


def log_weight(
    likelihood: Likelihood, logits: Tensor, x: Tensor, posterior: Posterior, noise: Tensor
) -> Tensor:
    """Returns log p(x | z) + log p(z) - log q(z | x) (*) of the draw z from q with `noise` (*, Z).

    The normal densities of z share their constants, which leaves half of noise^2 + log_var - z^2.
    """
    z = posterior.sample(noise)
    ratio = (noise.square() + posterior.log_var - z.square()).sum(-1) / 2
    return ratio - likelihood.negative_log(logits, x)


@torch.inference_mode()
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
    posterior = posteriors(model, images, batch_size=batch_size)
    device = images.pixels.device
    total = torch.full((len(images),), -math.inf, dtype=torch.float64, device=device)
    for draw in range(draws):
        generator = seeding.generator(seed, "importance", draw, device=device)
        noise = torch.randn(posterior.mean.shape, generator=generator, device=device)
        start = 0
        for x, c in in_order(images, batch_size=batch_size, C=model.condition_size):
            interruption.check_now()
            part = slice(start, start + len(x))
            start += len(x)
            q = Posterior(posterior.mean[part], posterior.log_var[part])
            logits = model.logits(q.sample(noise[part]), c)
            weight = log_weight(likelihood, logits, x, q, noise[part]).double()
            total[part] = torch.logaddexp(total[part], weight)
    return total - math.log(draws)


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
    """Returns log p(x) = logsumexp over y of log p(x | y) + log p(y) (N,), a lower bound like its parts.

    p(y) are the class frequencies of the training labels. The estimate of p(x) is unbiased however many
    draws each class gets, so classes that hardly add to the sum need fewer: `conditional` has those of the
    true labels, and only the other labels' are drawn here. For a VAE, without labels, it is `conditional`.

    Args:
        model: The trained model.
        likelihood: p(x | z).
        images: N held-out images.
        conditional: `importance_weighted` of the images with their true labels (N,).
        train_labels: Labels of the training images.
        draws: Importance draws for each other label.
        seed: The seed of the draws.
        batch_size: Images decoded at a time.
    """
    C = model.condition_size
    if not C:
        return conditional
    counts = train_labels.bincount(minlength=C).double()
    log_prior = (counts / counts.sum()).log()
    total = conditional + log_prior[images.labels]
    for shift in range(1, C):  # every image gets each other label once
        relabelled = Images(images.pixels, (images.labels + shift) % C, images.peak)
        log_weights = importance_weighted(
            model, likelihood, relabelled, draws=draws, seed=seed, batch_size=batch_size
        )
        total = torch.logaddexp(total, log_weights + log_prior[relabelled.labels])
    return total


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
