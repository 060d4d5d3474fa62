"""What several classifiers of a data set say of samples, and of the data set's own images.

One classifier is one draw: trained anew it moves a Frechet distance by some percent. So several judge, each
with first weights and batches of its own; a measure is their mean, and their spread is its standard error.

Shapes: N images, M held-out images, D pixels, F features, C classes.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vae_lab.data import Dataset
from vae_lab.evaluation import samples as quality
from vae_lab.evaluation.bounds import evenly_spaced
from vae_lab.evaluation.classifier import load_or_train
from vae_lab.evaluation.measures import Measures
from vae_lab.evaluation.network import Classifier
from vae_lab.metrics import ERROR, ESTIMATED

ACCURACY, CONDITIONAL = "eval/classifier_accuracy", "eval/conditional_accuracy"
JUDGED = (  # what classifiers say of samples
    *(ACCURACY, "eval/recognizable_share", "eval/classifier_score"),
    *("eval/frechet_distance", "eval/precision", "eval/recall", "eval/density", "eval/coverage"),
    *("eval/class_balance", CONDITIONAL),
)


class Judge(NamedTuple):
    """A classifier, and what it sees in the held-out images of its data set."""

    model: Classifier
    accuracy: float  # from 0 to 1
    features: Tensor  # (M, F)


def judgement(
    data: Dataset, drawn: Tensor, labels: Tensor | None, *, judges: int, batch_size: int = 1000
) -> Measures:
    """Returns the mean of what each of `judges` classifiers says of images, with its standard error.

    The standard error is that of the mean over classifiers: all else is held fixed. One alone has none.

    Args:
        data: The data set whose classifiers judge.
        drawn: Images (N, D) in [0, 1], on the data's device.
        labels: The classes (N,) that they were asked to be of, if any.
        judges: How many classifiers; those that are missing are trained.
        batch_size: Images judged at a time.

    Raises:
        LabError: A classifier cannot be kept in the cache.
    """
    said = [_said_by(_judge(data, number), data, drawn, labels, batch_size) for number in range(judges)]
    mean = Measures({}, {name: reason for part in said for name, reason in part.absent.items()})
    for name in said[0].metrics:
        values = [part.metrics[name] for part in said if name in part.metrics]
        if len(values) == judges:
            mean.metrics[name] = statistics.fmean(values)
            if judges > 1 and name in ESTIMATED:
                mean.metrics[f"{name}{ERROR}"] = statistics.stdev(values) / math.sqrt(judges)
    return mean


@functools.lru_cache(maxsize=32)  # once, and not for every run that is measured
def _judge(data: Dataset, number: int) -> Judge:
    model, accuracy = load_or_train(data, number)
    return Judge(model, accuracy, model.judge(data.test.scaled(slice(None))).features)


def _said_by(judge: Judge, data: Dataset, drawn: Tensor, labels: Tensor | None, batch_size: int) -> Measures:
    """Returns what one classifier says of images (N, D)."""
    said = Measures({}, {})
    all_probabilities, features = judge.model.judge(drawn, batch_size=batch_size)
    probabilities = _among(data.trained_classes, all_probabilities)
    # As many real as generated points, evenly spaced: MNIST's first 5,000 held-out images are easier.
    spaced = evenly_spaced(judge.features, len(drawn))
    said.take([ACCURACY], lambda: [judge.accuracy])
    said.take(["eval/recognizable_share"], lambda: [quality.recognizable_share(probabilities)])
    said.take(["eval/classifier_score"], lambda: [quality.classifier_score(probabilities)])
    said.take(["eval/frechet_distance"], lambda: [quality.frechet_distance(features, judge.features)])
    said.take(["eval/precision", "eval/recall"], lambda: quality.precision_recall(spaced, features))
    said.take(["eval/density", "eval/coverage"], lambda: quality.density_coverage(spaced, features))
    said.take(["eval/class_balance"], lambda: [quality.class_balance(probabilities)])
    if labels is not None:
        said.take_all(_conditional_accuracies(probabilities, labels, data.trained_classes))
    return said


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
