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
from vae_lab.evaluation.classifier import trained
from vae_lab.evaluation.decoded import decode
from vae_lab.evaluation.elbo import held_out
from vae_lab.evaluation.latent import collapsed_units, kl_dimensions, posteriors
from vae_lab.metrics import KL_DIMENSION
from vae_lab.models import VAE
from vae_lab.objectives import Bernoulli, Likelihood, Objective

OTHER_CLASSES = 10  # importance draws for a class that is not the image's own: one for so many of its own
MEMORIZED = 1000  # samples that are held against every training image; the slowest measure but for the bounds


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
    """Metrics of a trained model by name; docs/metrics.md explains each.

    Args:
        model: what is measured.
        objective: its loss.
        data: the images as the model was trained on them, on the model's device.
        grey: the same without binarization, which is what decoded images look like.
        seed: of every draw; the same weights give the same numbers.
        posterior_draws: draws for each held-out image; 0 leaves out the loss and the use of the latent space.
        importance_samples: importance draws for a held-out image; 0 leaves out the bounds.
        importance_images: held-out images that get them.
        samples: images drawn from the prior; 0 leaves out their quality.
        batch_size: images decoded at a time.
    """
    found: dict[str, float] = {}
    if posterior_draws:
        found |= averaged_loss(
            model, objective, data.test, seed=seed, draws=posterior_draws, batch_size=batch_size
        )
        found |= latent_use(model, data.test, batch_size=batch_size)
    if importance_samples:
        found |= marginal_bounds(
            model,
            objective,
            data.test,
            data.train.labels,
            seed=seed,
            draws=importance_samples,
            count=importance_images,
            batch_size=batch_size,
        )
    if samples:
        found |= sample_quality(
            model, objective.likelihood, grey, seed=seed, count=samples, batch_size=batch_size
        )
    return found


def averaged_loss(
    model: VAE, objective: Objective, images: Images, *, seed: int, draws: int, batch_size: int = 1000
) -> dict[str, float]:
    """The held-out loss over several draws, and for grey cross entropy its height above the floor."""
    mean = held_out(model, objective, images, seed=seed, draws=draws, batch_size=batch_size)
    found = {
        "test/averaged_loss": mean.loss,
        "test/averaged_negative_elbo": mean.negative_elbo,
        "test/averaged_reconstruction": mean.reconstruction,
    }
    if isinstance(objective.likelihood, Bernoulli) and images.peak > 1:
        found["test/above_entropy_floor"] = mean.negative_elbo - entropy_floor(images, batch_size=batch_size)
    return found


def latent_use(model: VAE, images: Images, *, batch_size: int = 1000) -> dict[str, float]:
    """The KL of each latent dimension, the largest first, and how many have collapsed to the prior."""
    kl = kl_dimensions(posteriors(model, images, batch_size=batch_size))
    found = {f"{KL_DIMENSION}/{i:02d}": value for i, value in enumerate(kl.tolist())}
    return found | {"test/collapsed_units": collapsed_units(kl)}


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
    """Importance-weighted bounds: of a CVAE given the label, and of both models without it.

    How much tighter than the ELBO they are is measured on `count` images and taken off the ELBO of all: that
    varies far less from image to image than the bounds do, so a tenth of the images are enough, and the
    difference to `test/negative_elbo` is not one of images.
    """
    index = _spread(torch.arange(len(images), device=images.labels.device), count)
    part = Images(images.pixels[index], images.labels[index], images.peak)
    all_images, few = (
        held_out(model, objective, each, seed=seed, batch_size=batch_size).negative_elbo
        for each in (images, part)
    )
    likelihood = objective.likelihood
    conditional = importance_weighted(model, likelihood, part, draws=draws, seed=seed, batch_size=batch_size)
    marginal = log_marginal(
        model,
        likelihood,
        part,
        conditional,
        train_labels=train_labels,
        draws=-(-draws // OTHER_CLASSES),
        seed=seed,
        batch_size=batch_size,
    )
    return {
        "test/iwae_bound": all_images - few - float(conditional.mean()),
        "test/negative_log_marginal": all_images - few - float(marginal.mean()),
    }


def sample_quality(
    model: VAE, likelihood: Likelihood, data: Dataset, *, seed: int, count: int, batch_size: int = 1000
) -> dict[str, float]:
    """What `samples` measures of `count` images decoded from prior draws; a CVAE goes through its classes."""
    device = data.test.pixels.device
    judge = trained(data)
    z = torch.randn(count, model.latent_size, generator=seeding.generator(seed, "samples"))
    labels = torch.arange(count) % data.classes
    c = one_hot(labels, model.condition_size)
    drawn = torch.cat(
        [
            decode(model, likelihood, *part)
            for part in zip(torch.split(z, batch_size), torch.split(c, batch_size), strict=True)
        ]
    ).to(device)
    real = data.test.scaled(slice(None))
    probabilities, features = judge.model.judge(drawn, batch_size=batch_size)
    real_features = judge.model.judge(real, batch_size=batch_size).features
    # As many real as generated points, spread evenly: MNIST's first 5,000 held-out images are easier.
    precision, recall = quality.precision_recall(_spread(real_features, count), features)
    found = {
        "eval/classifier_accuracy": judge.accuracy,
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
        labels = labels.to(device)
        right = (probabilities.argmax(-1) == labels).double().mean()
        found["eval/conditional_accuracy"] = float(right)
        each = quality.conditional_accuracy(probabilities, labels)
        found |= {
            f"eval/conditional_accuracy/{i}": share for i, share in enumerate(each) if not math.isnan(share)
        }
    return found


def nearest_training_distance(images: Tensor, data: Dataset, *, count: int = MEMORIZED) -> float:
    """Mean distance of images (N, D) to the nearest training image, by that of held-out images."""
    real = _spread(data.test.scaled(slice(None)), count)
    own = quality.nearest_distance(images[:count], data.train).double().mean()
    return float(own / quality.nearest_distance(real, data.train).double().mean())


def _spread(rows: Tensor, count: int) -> Tensor:
    """At most `count` rows at even steps."""
    if len(rows) <= count:
        return rows
    return rows[torch.arange(count, device=rows.device) * len(rows) // count]
