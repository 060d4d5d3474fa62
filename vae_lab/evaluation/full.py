"""All measures of one trained model, as the metrics of `evaluation=full`.

Shapes: N samples, D pixels, C classes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vae_lab import seeding
from vae_lab.data import Dataset, Images, one_hot
from vae_lab.evaluation import samples as quality
from vae_lab.evaluation.bounds import entropy_floor, importance_weighted, log_marginal
from vae_lab.evaluation.classifier import load_or_train
from vae_lab.evaluation.decoded import decode
from vae_lab.evaluation.elbo import held_out
from vae_lab.evaluation.latent import collapsed_units, kl_dimensions, posteriors
from vae_lab.metrics import KL_DIMENSION
from vae_lab.models import VAE
from vae_lab.objectives import Bernoulli, Likelihood, Objective

TRUE_LABEL_DRAWS = 10  # importance draws with an image's true label for each draw with another one
MEMORIZATION_SAMPLES = 1000  # compared with every training image: the slowest measure but for the bounds


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
    batch_size: int = 1000,
) -> dict[str, float]:
    """Returns the metrics of a trained model by name; docs/metrics.md explains each.

    Args:
        model: The trained model.
        objective: Its loss.
        data: The images as the model was trained on them, on the model's device.
        grey: The same without binarization, as decoded images are.
        seed: The seed of every draw; equal weights have equal metrics.
        posterior_draws: Draws for each held-out image; 0 leaves out the loss and the use of the latent space.
        importance_samples: Importance draws for a held-out image; 0 leaves out the bounds.
        importance_images: Held-out images that get them.
        samples: Images drawn from the prior; 0 leaves out their quality.
        batch_size: Images decoded at a time.
    """
    common = {"seed": seed, "batch_size": batch_size}
    metrics: dict[str, float] = {}
    if posterior_draws:
        metrics |= averaged_loss(model, objective, data.test, draws=posterior_draws, **common)
        metrics |= latent_use(model, data.test, batch_size=batch_size)
    if importance_samples:
        draws = {"draws": importance_samples, "count": importance_images}
        metrics |= marginal_bounds(model, objective, data.test, data.train.labels, **draws, **common)
    if samples:
        metrics |= sample_quality(model, objective.likelihood, grey, count=samples, **common)
    return metrics


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
    if isinstance(objective.likelihood, Bernoulli) and images.peak > 1:
        floor = entropy_floor(images, batch_size=batch_size)
        metrics["test/above_entropy_floor"] = mean.negative_elbo - floor
    return metrics


def latent_use(model: VAE, images: Images, *, batch_size: int = 1000) -> dict[str, float]:
    """Returns the KL of each latent dimension, largest first, and how many have collapsed to the prior."""
    kl = kl_dimensions(posteriors(model, images, batch_size=batch_size))
    metrics = {f"{KL_DIMENSION}/{i:02d}": value for i, value in enumerate(kl.tolist())}
    return metrics | {"test/collapsed_units": collapsed_units(kl)}


def marginal_bounds(
    model: VAE,
    objective: Objective,
    images: Images,
    train_labels: Tensor,
    *,
    seed: int,
    draws: int,
    count: int,
    batch_size: int = 1000,
) -> dict[str, float]:
    """Returns the importance-weighted bounds: of a CVAE given the label, and of both models without it.

    How much tighter than the ELBO they are is measured on `count` images and taken off the ELBO of all: it
    varies far less from image to image than the bounds do, so a tenth of the images are enough, and the
    choice of images has no part in the difference to `test/negative_elbo`.
    """
    common = {"seed": seed, "batch_size": batch_size}
    likelihood = objective.likelihood
    index = _evenly_spaced(torch.arange(len(images), device=images.labels.device), count)
    subset = Images(images.pixels[index], images.labels[index], images.peak)
    elbo_of_all, elbo_of_subset = (
        held_out(model, objective, some, **common).negative_elbo for some in (images, subset)
    )
    conditional = importance_weighted(model, likelihood, subset, draws=draws, **common)
    other_draws = -(-draws // TRUE_LABEL_DRAWS)
    marginal = log_marginal(
        model, likelihood, subset, conditional, train_labels=train_labels, draws=other_draws, **common
    )
    return {
        "test/iwae_bound": elbo_of_all - elbo_of_subset - float(conditional.mean()),
        "test/negative_log_marginal": elbo_of_all - elbo_of_subset - float(marginal.mean()),
    }


def sample_quality(
    model: VAE, likelihood: Likelihood, data: Dataset, *, seed: int, count: int, batch_size: int = 1000
) -> dict[str, float]:
    """Returns the measures of `samples` for `count` images decoded from prior draws, with classes in turn."""
    device = data.test.pixels.device
    classifier, accuracy = load_or_train(data)
    z = torch.randn(count, model.latent_size, generator=seeding.generator(seed, "samples"))
    labels = torch.arange(count) % data.classes
    c = one_hot(labels, model.condition_size)
    drawn = torch.cat(
        [
            decode(model, likelihood, *batch)
            for batch in zip(torch.split(z, batch_size), torch.split(c, batch_size), strict=True)
        ]
    ).to(device)
    real = data.test.scaled(slice(None))
    probabilities, features = classifier.judge(drawn, batch_size=batch_size)
    real_features = classifier.judge(real, batch_size=batch_size).features
    # As many real as generated points, evenly spaced: MNIST's first 5,000 held-out images are easier.
    precision, recall = quality.precision_recall(_evenly_spaced(real_features, count), features)
    metrics = {
        "eval/classifier_accuracy": accuracy,
        "eval/recognizable_share": quality.recognizable_share(probabilities),
        "eval/classifier_score": quality.classifier_score(probabilities),
        "eval/frechet_distance": quality.frechet_distance(features, real_features),
        "eval/precision": precision,
        "eval/recall": recall,
        "eval/class_balance": quality.class_balance(probabilities),
        "eval/sharpness": quality.sharpness(drawn, data.shape) / quality.sharpness(real, data.shape),
        "eval/nearest_training_distance": nearest_training_distance(drawn, data),
    }
    if model.condition_size:
        metrics |= _conditional_accuracies(probabilities, labels.to(device))
    return metrics


def _conditional_accuracies(probabilities: Tensor, labels: Tensor) -> dict[str, float]:
    overall = float((probabilities.argmax(-1) == labels).double().mean())
    by_class = enumerate(quality.conditional_accuracy(probabilities, labels))
    return {"eval/conditional_accuracy": overall} | {
        f"eval/conditional_accuracy/{label}": share for label, share in by_class if not math.isnan(share)
    }


def nearest_training_distance(images: Tensor, data: Dataset, *, count: int = MEMORIZATION_SAMPLES) -> float:
    """Returns the mean distance of images (N, D) to the nearest training image, over held-out images'."""
    real = _evenly_spaced(data.test.scaled(slice(None)), count)
    distance = quality.nearest_distance(images[:count], data.train).double().mean()
    return float(distance / quality.nearest_distance(real, data.train).double().mean())


def _evenly_spaced(values: Tensor, count: int) -> Tensor:
    """Returns at most `count` values of the first axis, at even steps."""
    if len(values) <= count:
        return values
    return values[torch.arange(count, device=values.device) * len(values) // count]
