"""All measures of one trained model, as the metrics of `evaluation=full`.

Shapes: N samples, D pixels.
"""

from __future__ import annotations

import functools
import logging

import torch
from torch import Tensor

from vae_lab import devices, seeding
from vae_lab.data import Dataset, Images, one_hot
from vae_lab.errors import quoted
from vae_lab.evaluation import classifier
from vae_lab.evaluation import samples as quality
from vae_lab.evaluation.aggregate import aggregate
from vae_lab.evaluation.bounds import entropy_floor, evenly_spaced, marginal_bounds
from vae_lab.evaluation.decoded import decode
from vae_lab.evaluation.elbo import held_out
from vae_lab.evaluation.judges import CONDITIONAL, JUDGED, judgement
from vae_lab.evaluation.latent import collapsed_units, kl_dimensions, posteriors
from vae_lab.evaluation.measures import Measures
from vae_lab.metrics import ERROR, KL_DIMENSION, REAL
from vae_lab.models import VAE, Posterior
from vae_lab.objectives import Bernoulli, Likelihood, Objective

log = logging.getLogger(__name__)

SHARPNESS = "eval/sharpness"
BOUNDS = ("test/iwae_bound", "test/negative_log_marginal")
AGGREGATE_IMAGES = 10_000  # each is compared with all of them
MEMORIZATION_SAMPLES = 1000  # compared with every training image: the slowest measure but for the bounds


@devices.in_float32
def full_evaluation(
    model: VAE,
    objective: Objective,
    data: Dataset,
    grey: Dataset,
    *,
    seed: int,
    posterior_draws: int,
    importance_samples: int,
    importance_images: int,
    samples: int,
    judges: int,
    batch_size: int = 1000,
) -> Measures:
    """Returns the measures of a trained model; docs/metrics.md explains each.

    Args:
        model: The trained model.
        objective: Its loss.
        data: The images as the model was trained on them, on the model's device.
        grey: The same without binarization.
        seed: The seed of every draw; equal weights have equal metrics.
        posterior_draws: Draws for each held-out image; 0 leaves out the loss and the use of the latent space.
        importance_samples: Importance draws for each of `importance_images`; 0 leaves out the bounds.
        importance_images: Held-out images that get them.
        samples: Images drawn from the prior; 0 leaves out their quality.
        judges: Classifiers that judge them.
        batch_size: Images decoded at a time.
    """
    common, measures = {"seed": seed, "batch_size": batch_size}, Measures({}, {})
    if posterior_draws:
        measures.take_all(averaged_loss(model, objective, data.test, draws=posterior_draws, **common))
        measures.take_all(latent_use(model, data.test, **common))
    if importance_samples:
        draws = common | {"draws": importance_samples, "count": importance_images}
        add_bounds(measures, model, objective.likelihood, data, **draws)
    if samples:
        add_quality(measures, model, objective.likelihood, grey, count=samples, judges=judges, **common)
    _warn_of_absent_measures(data.name, measures.reasons())
    return measures


@functools.cache  # once, and not for every run that is measured
def _warn_of_absent_measures(name: str, reasons: str) -> None:
    if reasons:
        log.warning("data %s: not measured: %s.", quoted(name), reasons)


def averaged_loss(
    model: VAE, objective: Objective, images: Images, *, seed: int, draws: int, batch_size: int = 1000
) -> dict[str, float]:
    """Returns the held-out loss over several draws and its height above the floor of grey cross entropy."""
    mean = held_out(model, objective, images, seed=seed, draws=draws, batch_size=batch_size)
    metrics = {
        "test/averaged_loss": mean.loss,
        "test/averaged_negative_elbo": mean.negative_elbo,
        "test/averaged_reconstruction": mean.reconstruction,
    }
    if mean.errors is not None:
        metrics |= {f"test/averaged_{name}{ERROR}": error for name, error in mean.errors._asdict().items()}
    cross_entropy = type(objective.likelihood) is Bernoulli  # what inherits from it has a floor of its own
    if cross_entropy and (images.peak > 1 or images.pixels.is_floating_point()):
        floor = entropy_floor(images, batch_size=batch_size)
        metrics["test/above_entropy_floor"] = mean.negative_elbo - floor
        if mean.errors is not None:
            metrics[f"test/above_entropy_floor{ERROR}"] = mean.errors.negative_elbo
    return metrics


def latent_use(model: VAE, images: Images, *, seed: int, batch_size: int = 1000) -> dict[str, float]:
    """Returns the KL of the latent dimensions, largest first, how many collapsed, and the KL's two parts."""
    posterior = posteriors(model, images, batch_size=batch_size)
    kl = kl_dimensions(posterior)
    metrics = {f"{KL_DIMENSION}/{i:02d}": value for i, value in enumerate(kl.tolist())}
    some = Posterior(*(evenly_spaced(values, AGGREGATE_IMAGES) for values in posterior))
    parts = aggregate(some, seed=seed, batch_size=batch_size)
    metrics |= {
        "test/collapsed_units": collapsed_units(kl),
        "test/mutual_information": parts.mutual_information,
        "test/aggregate_kl": parts.kl,
    }
    if len(some.mean) > 1:  # one image tells no error
        metrics[f"test/mutual_information{ERROR}"] = parts.mutual_information_error
        metrics[f"test/aggregate_kl{ERROR}"] = parts.kl_error
    return metrics


def add_bounds(measures: Measures, model: VAE, likelihood: Likelihood, data: Dataset, **draws: int) -> None:
    """Adds the importance-weighted bounds; `draws` as `marginal_bounds` has them."""
    bounds = marginal_bounds(model, likelihood, data.test, data.train.labels, **draws)
    measures.take_estimates(BOUNDS, bounds)


def add_quality(
    measures: Measures,
    model: VAE,
    likelihood: Likelihood,
    data: Dataset,
    *,
    seed: int,
    count: int,
    judges: int,
    batch_size: int = 1000,
) -> None:
    """Adds the measures of `samples` for `count` images decoded from prior draws, with classes in turn."""
    z = torch.randn(count, model.latent_size, generator=seeding.generator(seed, "samples"))
    labels = torch.tensor(data.trained_classes)[torch.arange(count) % len(data.trained_classes)]
    c = one_hot(labels, model.condition_size)
    drawn = torch.cat(
        [
            decode(model, likelihood, *batch)
            for batch in zip(torch.split(z, batch_size), torch.split(c, batch_size), strict=True)
        ]
    ).to(data.test.pixels.device)
    obstacle = classifier.obstacle(data)
    if obstacle:
        names = JUDGED if model.condition_size else [name for name in JUDGED if name != CONDITIONAL]
        measures.absent.update(dict.fromkeys(names, obstacle))
    else:
        asked = labels.to(drawn.device) if model.condition_size else None
        measures.add(judgement(data, drawn, asked, judges=judges, batch_size=batch_size))
        measures.take_all(quality_of_training_images(data, count, judges))
    measures.take_mean(SHARPNESS, lambda: relative_sharpness(drawn, data))
    measures.take_mean("eval/nearest_training_distance", lambda: nearest_training_distance(drawn, data))


@functools.lru_cache(maxsize=8)  # once, and not for every run that is measured
def quality_of_training_images(data: Dataset, count: int, judges: int) -> dict[str, float]:
    """Returns the measures, where they are defined, of `count` training images in the place of samples."""
    train = data.train
    index = evenly_spaced(torch.arange(len(train), device=train.pixels.device), count)
    drawn = train.scaled(index)
    real = judgement(data, drawn, train.labels[index], judges=judges)
    real.take_mean(SHARPNESS, lambda: relative_sharpness(drawn, data))
    return {REAL[key]: value for key, value in real.metrics.items() if key in REAL}


def relative_sharpness(images: Tensor, data: Dataset) -> Tensor:
    """Returns the sharpness (N,) of images (N, D) by the mean of held-out images.

    Raises:
        UndefinedError: Held-out images have none.
    """
    real = _sharpness_of_held_out(data)
    if not real:
        raise quality.UndefinedError("the held-out images have no edges")
    return quality.sharpness(images, data.shape) / real


def nearest_training_distance(images: Tensor, data: Dataset, *, count: int = MEMORIZATION_SAMPLES) -> Tensor:
    """Returns how far the first `count` images (N, D) lie from training images, by the mean of held-out ones.

    It is the distance to the nearest, for each of them.

    Raises:
        UndefinedError: Held-out images have none.
    """
    distance_of_real = _distance_of_held_out(data, count)
    if not distance_of_real:
        raise quality.UndefinedError("every held-out image is a copy of a training image")
    return quality.nearest_distance(images[:count], data.train).double() / distance_of_real


@functools.lru_cache(maxsize=8)
def _sharpness_of_held_out(data: Dataset) -> float:
    return float(quality.sharpness(data.test.scaled(slice(None)), data.shape).mean())


@functools.lru_cache(maxsize=8)
def _distance_of_held_out(data: Dataset, count: int) -> float:
    real = evenly_spaced(data.test.scaled(slice(None)), count)
    return float(quality.nearest_distance(real, data.train).double().mean())
