"""All measures of one trained model, as the metrics of `evaluation=full`.

Shapes: N samples, D pixels, C classes.
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vae_lab import seeding
from vae_lab.data import Dataset, Images, one_hot
from vae_lab.errors import quoted
from vae_lab.evaluation import classifier
from vae_lab.evaluation import samples as quality
from vae_lab.evaluation.aggregate import aggregate
from vae_lab.evaluation.bounds import Estimate, entropy_floor, evenly_spaced, marginal_bounds
from vae_lab.evaluation.classifier import load_or_train
from vae_lab.evaluation.decoded import decode
from vae_lab.evaluation.elbo import held_out
from vae_lab.evaluation.latent import collapsed_units, kl_dimensions, posteriors
from vae_lab.metrics import ERROR, KL_DIMENSION, REAL
from vae_lab.models import VAE, Posterior
from vae_lab.objectives import Bernoulli, Likelihood, Objective

log = logging.getLogger(__name__)

BOUNDS = ("test/iwae_bound", "test/negative_log_marginal")
CONDITIONAL = "eval/conditional_accuracy"
JUDGED = (  # what the classifier says of samples
    *("eval/classifier_accuracy", "eval/recognizable_share", "eval/classifier_score"),
    *("eval/frechet_distance", "eval/precision", "eval/recall", "eval/density", "eval/coverage"),
    *("eval/class_balance", CONDITIONAL),
)
AGGREGATE_IMAGES = 10_000  # each is compared with all of them
MEMORIZATION_SAMPLES = 1000  # compared with every training image: the slowest measure but for the bounds


class Measures(NamedTuple):
    """What was measured of a trained model, and what its data do not define."""

    metrics: dict[str, float]  # finite values by name
    absent: dict[str, str]  # the reason of each other measure

    def take(self, names: Sequence[str], measure: Callable[[], Iterable[float]]) -> None:
        """Adds the values that `measure` returns for `names`, or why there are none."""
        try:
            values = [float(value) for value in measure()]
        except quality.UndefinedError as error:
            self.absent.update(dict.fromkeys(names, str(error)))
        except (ArithmeticError, torch.linalg.LinAlgError) as error:  # type: ignore[attr-defined]
            reason = next(iter(str(error).splitlines()), "") or type(error).__name__
            self.absent.update(dict.fromkeys(names, f"it cannot be computed: {reason}"))
        else:
            for name, value in zip(names, values, strict=True):
                if math.isfinite(value):
                    self.metrics[name] = value
                else:
                    self.absent[name] = f"it is {value}"

    def take_all(self, values: Mapping[str, float]) -> None:
        """Adds what is there by name; what is not finite is absent."""
        self.take([*values], values.values)

    def take_estimates(self, names: Sequence[str], estimates: Iterable[Estimate]) -> None:
        """Adds estimates by name, and their standard errors where they have one."""
        for name, estimate in zip(names, estimates, strict=True):
            self.take_all({name: estimate.value})
            if estimate.error is not None:
                self.take_all({f"{name}{ERROR}": estimate.error})

    def reasons(self) -> str:
        """Returns what is absent as one line, each reason once.

        Examples:
            >>> Measures({}, {"a": "no image", "b": "one class", "c": "no image"}).reasons()
            'a, c (no image); b (one class)'
        """
        names = {
            reason: [name for name in self.absent if self.absent[name] == reason]
            for reason in self.absent.values()
        }
        return "; ".join(f"{', '.join(named)} ({reason})" for reason, named in names.items())


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
) -> Measures:
    """Returns the measures of a trained model; docs/metrics.md explains each.

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
    common, measures = {"seed": seed, "batch_size": batch_size}, Measures({}, {})
    if posterior_draws:
        measures.take_all(averaged_loss(model, objective, data.test, draws=posterior_draws, **common))
        measures.take_all(latent_use(model, data.test, **common))
    if importance_samples:
        draws = common | {"draws": importance_samples, "count": importance_images}
        bounds = marginal_bounds(model, objective.likelihood, data.test, data.train.labels, **draws)
        measures.take_estimates(BOUNDS, bounds)
    if samples:
        add_sample_quality(measures, model, objective.likelihood, grey, count=samples, **common)
    if measures.absent:
        _warn_of_absent_measures(data.name, measures.reasons())
    return measures


@functools.cache  # once, and not for every run that is measured
def _warn_of_absent_measures(name: str, reasons: str) -> None:
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
    if isinstance(objective.likelihood, Bernoulli) and (images.peak > 1 or images.pixels.is_floating_point()):
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
    return metrics | {
        "test/collapsed_units": collapsed_units(kl),
        "test/mutual_information": parts.mutual_information,
        "test/mutual_information_error": parts.mutual_information_error,
        "test/aggregate_kl": parts.kl,
        "test/aggregate_kl_error": parts.kl_error,
    }


def add_sample_quality(
    measures: Measures,
    model: VAE,
    likelihood: Likelihood,
    data: Dataset,
    *,
    seed: int,
    count: int,
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
        _add_judgement(measures, data, drawn, asked, batch_size=batch_size)
        _add_judgement_of_real_images(measures, data, count, batch_size=batch_size)
    measures.take(["eval/sharpness"], lambda: [relative_sharpness(drawn, data)])
    measures.take(["eval/nearest_training_distance"], lambda: [nearest_training_distance(drawn, data)])


def _add_judgement(
    measures: Measures, data: Dataset, drawn: Tensor, labels: Tensor | None, *, batch_size: int
) -> None:
    """Adds what the classifier says of images (N, D), which were asked to be of `labels` (N,), if any."""
    judge, accuracy = load_or_train(data)
    all_probabilities, features = judge.judge(drawn, batch_size=batch_size)
    probabilities = _among(data.trained_classes, all_probabilities)
    real_features = judge.judge(data.test.scaled(slice(None)), batch_size=batch_size).features
    # As many real as generated points, evenly spaced: MNIST's first 5,000 held-out images are easier.
    spaced = evenly_spaced(real_features, len(drawn))
    measures.take(["eval/classifier_accuracy"], lambda: [accuracy])
    measures.take(["eval/recognizable_share"], lambda: [quality.recognizable_share(probabilities)])
    measures.take(["eval/classifier_score"], lambda: [quality.classifier_score(probabilities)])
    measures.take(["eval/frechet_distance"], lambda: [quality.frechet_distance(features, real_features)])
    measures.take(["eval/precision", "eval/recall"], lambda: quality.precision_recall(spaced, features))
    measures.take(["eval/density", "eval/coverage"], lambda: quality.density_coverage(spaced, features))
    measures.take(["eval/class_balance"], lambda: [quality.class_balance(probabilities)])
    if labels is not None:
        measures.take_all(_conditional_accuracies(probabilities, labels, data.trained_classes))


def _add_judgement_of_real_images(measures: Measures, data: Dataset, count: int, *, batch_size: int) -> None:
    """Adds what the same code says of training images in place of samples, where it is defined."""
    train = data.train
    index = evenly_spaced(torch.arange(len(train), device=train.pixels.device), count)
    real, drawn = Measures({}, {}), train.scaled(index)
    _add_judgement(real, data, drawn, train.labels[index], batch_size=batch_size)
    real.take(["eval/sharpness"], lambda: [relative_sharpness(drawn, data)])
    measures.take_all({REAL[key]: value for key, value in real.metrics.items() if key in REAL})


def _among(classes: Sequence[int], probabilities: Tensor) -> Tensor:
    """Returns the probabilities of some of all classes, so that they add up to 1 again."""
    if len(classes) == probabilities.shape[-1]:
        return probabilities
    chosen = probabilities[:, list(classes)]
    return chosen / chosen.sum(-1, keepdim=True).clamp(min=1e-30)


def _conditional_accuracies(
    probabilities: Tensor, labels: Tensor, classes: Sequence[int]
) -> dict[str, float]:
    positions = torch.searchsorted(torch.tensor(classes, device=labels.device), labels)
    overall = float((probabilities.argmax(-1) == positions).double().mean())
    by_class = zip(classes, quality.conditional_accuracy(probabilities, positions), strict=True)
    return {CONDITIONAL: overall} | {
        f"{CONDITIONAL}/{label}": share for label, share in by_class if not math.isnan(share)
    }


def relative_sharpness(images: Tensor, data: Dataset) -> float:
    """Returns the sharpness of images (N, D) by that of held-out images.

    Raises:
        UndefinedError: Held-out images have none.
    """
    real = quality.sharpness(data.test.scaled(slice(None)), data.shape)
    if not real:
        raise quality.UndefinedError("the held-out images have no edges")
    return quality.sharpness(images, data.shape) / real


def nearest_training_distance(images: Tensor, data: Dataset, *, count: int = MEMORIZATION_SAMPLES) -> float:
    """Returns the mean distance of images (N, D) to the nearest training image, over held-out images'.

    Raises:
        UndefinedError: Held-out images have none.
    """
    real = evenly_spaced(data.test.scaled(slice(None)), count)
    distance_of_real = quality.nearest_distance(real, data.train).double().mean()
    if not distance_of_real:
        raise quality.UndefinedError("every held-out image is a copy of a training image")
    return float(quality.nearest_distance(images[:count], data.train).double().mean() / distance_of_real)
