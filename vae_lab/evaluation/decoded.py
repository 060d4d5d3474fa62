"""Images decoded by a trained model: prior samples, reconstructions, interpolations.

Shapes: N images, D pixels, Z latent dimensions, C condition.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vae_lab import devices, seeding
from vae_lab.data import Images, in_order, one_hot
from vae_lab.models import VAE
from vae_lab.objectives import Likelihood

TOGETHER = 1000  # images that are encoded or decoded at once, to bound the memory


@devices.in_float32
@torch.inference_mode()
def decode(model: VAE, likelihood: Likelihood, z: Tensor, c: Tensor) -> Tensor:
    """Returns the expected images (N, D) in [0, 1] of z (N, Z) and conditions c (N, C), on the CPU."""
    model.eval()
    device = next(model.parameters()).device
    batches = zip(torch.split(z, TOGETHER), torch.split(c, TOGETHER), strict=True)
    decoded = [likelihood.mean(model.logits(z.to(device), c.to(device))).float().cpu() for z, c in batches]
    return torch.cat(decoded)


def prior_samples(
    model: VAE, likelihood: Likelihood, count: int, *, seed: int, classes: Sequence[int] = ()
) -> Tensor:
    """Returns images (count, D) decoded from prior draws; a CVAE's have the classes in turn.

    Without `classes` these are all that the model knows.
    """
    labels = _labels(model, classes)
    c = one_hot(labels[torch.arange(count) % len(labels)], model.condition_size)
    return decode(model, likelihood, prior_noise(model, count, seed=seed), c)


def class_samples(
    model: VAE, likelihood: Likelihood, columns: int, *, seed: int, classes: Sequence[int] = ()
) -> Tensor:
    """Returns images (rows columns, D) of a CVAE: a row for each class, one latent vector for each column."""
    labels = _labels(model, classes)
    z = prior_noise(model, columns, seed=seed).repeat(len(labels), 1)
    return decode(model, likelihood, z, one_hot(labels.repeat_interleave(columns), model.condition_size))


def _labels(model: VAE, classes: Sequence[int]) -> Tensor:
    return torch.tensor(classes or range(max(model.condition_size, 1)))


def prior_noise(model: VAE, count: int, *, seed: int) -> Tensor:
    """Returns standard normal latent vectors (count, Z), the same at all epochs and on all devices."""
    return torch.randn(count, model.latent_size, generator=seeding.generator(seed, "pictures"))


@devices.in_float32
@torch.inference_mode()
def reconstructions(model: VAE, likelihood: Likelihood, images: Images) -> Tensor:
    """Returns the images (N, D) decoded from the posterior means of `images`."""
    x, c = next(in_order(images, batch_size=len(images), C=model.condition_size))
    return decode(model, likelihood, model.posterior(x, c).mean, c)


@devices.in_float32
@torch.inference_mode()
def interpolation(model: VAE, likelihood: Likelihood, images: Images, side: int) -> Tensor:
    """Returns images (side^2, D) whose latent vectors blend four posterior means, one in each corner.

    A VAE blends images of the first four classes that occur; a CVAE four images of one class, since half a
    label means nothing.
    """
    corners = _corners(images, same_class=model.condition_size > 0)
    x, c = next(in_order(corners, batch_size=4, C=model.condition_size))
    top_left, top_right, bottom_left, bottom_right = model.posterior(x, c).mean
    right = torch.linspace(0, 1, side, device=x.device).repeat(side)[:, None]
    down = torch.linspace(0, 1, side, device=x.device).repeat_interleave(side)[:, None]
    z = (1 - down) * ((1 - right) * top_left + right * top_right) + down * (
        (1 - right) * bottom_left + right * bottom_right
    )
    return decode(model, likelihood, z, c[:1].expand(side * side, -1))


def _corners(images: Images, *, same_class: bool) -> Images:
    labels = images.labels.tolist()
    if same_class:
        positions = [i for i, label in enumerate(labels) if label == labels[0]][:4]
    else:
        positions = sorted({label: i for i, label in reversed(list(enumerate(labels)))}.values())[:4]
    positions = (positions * 4)[:4]  # a data set of fewer classes or images repeats itself
    index = torch.tensor(positions, device=images.labels.device)
    return Images(images.pixels.index_select(0, index), images.labels.index_select(0, index), images.peak)
