"""What annealed importance sampling says of a trained model, as metrics.

Shapes: N held-out images, n of them that chains are run for.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from vae_lab import devices
from vae_lab.data import Images, one_hot
from vae_lab.evaluation.annealed import Annealed, annealed
from vae_lab.evaluation.bounds import evenly_spaced, mean_and_error, weighted
from vae_lab.evaluation.simulated import DRAWN, simulated
from vae_lab.metrics import ANNEALED_BETA, ANNEALED_DISTORTION, ANNEALED_RATE, ERROR
from vae_lab.models import VAE
from vae_lab.objectives import Likelihood

POINTS = 20  # parts of the path between whose ends rate and distortion are logged
ELBO_DRAWS = 20  # an image that chains are run for: what their bound gains on


@devices.in_float32
def annealed_measures(
    model: VAE,
    likelihood: Likelihood,
    images: Images,
    *,
    count: int,
    temperatures: int,
    chains: int,
    seed: int,
    batch_size: int = 1000,
) -> dict[str, float]:
    """Returns the bound of forward chains, the gap to backward ones on simulated images, and the curve.

    What the chains gain on the ELBO is measured on `count` images, of which as many are simulated, too.

    Args:
        model: The trained model.
        likelihood: p(x | z).
        images: N held-out images.
        count: How many of them have chains, at even steps.
        temperatures: Transitions of a chain.
        chains: Chains for each image.
        seed: The seed of every draw.
        batch_size: Images decoded at a time for the ELBO.
    """
    index = evenly_spaced(torch.arange(len(images), device=images.labels.device), count)
    subset = Images(images.pixels[index], images.labels[index], images.peak)
    c = one_hot(subset.labels, model.condition_size)
    settings: Any = {"temperatures": temperatures, "chains": chains, "seed": seed}
    of_data = annealed(model, likelihood, subset.scaled(slice(None)), c, **settings)
    common = {"seed": seed, "batch_size": batch_size}
    elbo = weighted(model, likelihood, subset, range(ELBO_DRAWS), **common).elbo[0]
    of_all, elbo_error = _elbo_of_all(model, likelihood, images, **common)
    gain, gain_error = mean_and_error(of_data.lower - elbo)
    return {
        "test/ais_bound": -of_all - gain,
        f"test/ais_bound{ERROR}": math.hypot(gain_error, elbo_error),
        **_gap(model, likelihood, c, settings),
        **_curve(of_data),
    }


def _gap(model: VAE, likelihood: Likelihood, c: Tensor, settings: Any) -> dict[str, float]:
    """Returns how far the bounds of chains from either end are apart on simulated images.

    There is nothing to say of a likelihood of the user's own, of which no draws are known, also where it
    inherits from one of the lab's.
    """
    if type(likelihood) not in DRAWN:
        return {}
    x, z = simulated(model, likelihood, c, seed=settings["seed"])
    both = annealed(model, likelihood, x, c, **settings, exact=z)
    assert both.upper is not None
    gap, error = mean_and_error(both.upper - both.lower)
    return {"test/ais_gap": gap, f"test/ais_gap{ERROR}": error}


def _elbo_of_all(
    model: VAE, likelihood: Likelihood, images: Images, *, seed: int, batch_size: int
) -> tuple[float, float]:
    """Returns the mean ELBO of all images from two draws for each, and its standard error over draws."""
    first, second = (
        weighted(model, likelihood, images, range(draw, draw + 1), seed=seed, batch_size=batch_size).elbo[0]
        for draw in (ELBO_DRAWS, ELBO_DRAWS + 1)  # whose noise has no part in the images with chains
    )
    error = float((first - second).square().sum().sqrt()) / 2 / len(images)
    return float((first + second).mean()) / 2, error


def _curve(chains: Annealed) -> dict[str, float]:
    """Returns inverse temperature, rate and distortion at even steps of the path, each a series.

    The latter two have one of standard errors too, over images, unless there is one image alone.
    """
    steps = len(chains.betas) - 1
    points = sorted({round(steps * point / POINTS) for point in range(POINTS + 1)})
    of_images = {ANNEALED_RATE: chains.rate, ANNEALED_DISTORTION: chains.distortion}
    columns = {ANNEALED_BETA: chains.betas} | {name: values.mean(-1) for name, values in of_images.items()}
    n = chains.distortion.shape[-1]
    if n > 1:
        columns |= {f"{name}{ERROR}": values.std(-1) / math.sqrt(n) for name, values in of_images.items()}
    return {
        f"{name}/{number:02d}": value
        for name, column in columns.items()
        for number, value in enumerate(column[points].tolist())
    }
