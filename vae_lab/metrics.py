"""Every number that a run logs: how to head, print and judge it, and what it may be compared with.

docs/metrics.md explains each of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

LOWER, HIGHER = "lower", "higher"
NATS = "nats/image"
# Parameters that two runs must share for numbers to be of one kind.
DATA = ("data",)
PIXELS = (*DATA, "data.binarize", "objective")  # densities and cross entropies of other pixels are others
CONDITION = ("model.conditional",)  # log p(x | y) is not log p(x)
OBJECTIVE = ("objective.beta", "objective.penalty", "objective.penalty_weight")
# Keys of `evaluation` without which a part of the measures is not taken.
EVALUATION_KEYS = DRAWS, IMPORTANCE, SAMPLES = ("posterior_draws", "importance_samples", "samples")
SETTINGS = {  # of each, the keys of a run's tag `vae_lab.evaluation` that say how it was measured
    DRAWS: (DRAWS,),
    IMPORTANCE: (IMPORTANCE, "importance_images"),
    SAMPLES: (SAMPLES, "classifier"),
}


class Metric(NamedTuple):
    """A metric, or a parameter that is a number.

    Runs that differ in a parameter of `column` never share a column; of those that share one, runs that
    differ in a parameter of `apart` are neither ranked nor subtracted.
    """

    key: str
    heading: str
    unit: str = ""
    digits: int = 2
    better: str = ""  # LOWER or HIGHER, where more or less of it is better at all
    column: tuple[str, ...] = ()
    apart: tuple[str, ...] = ()
    ranked: bool = True  # whether the best are marked in tables
    needs: str = ""  # the key of `evaluation` that has it measured, if not every run has it


def _loss(key: str, heading: str, *apart: str, better: str = LOWER) -> Metric:
    return Metric(key, heading, NATS, 2, better, PIXELS, apart)


def _share(key: str, heading: str, better: str = HIGHER) -> Metric:
    return Metric(key, heading, "", 3, better, DATA)


def _count(key: str, heading: str, unit: str, better: str = "") -> Metric:
    return Metric(key, heading, unit, 0, better)


LOSSES = (
    _loss("train/last_minibatch_loss", "last minibatch", *CONDITION, *OBJECTIVE),
    _loss("train/loss", "train loss", *CONDITION, *OBJECTIVE),
    _loss("test/loss", "held-out loss", *CONDITION, *OBJECTIVE),
    _loss("test/negative_elbo", "negative ELBO", *CONDITION),
    _loss("test/reconstruction", "reconstruction", better=""),
    Metric("test/kl", "KL", NATS, 2, column=DATA),
    _count("test/active_units", "active units", "of Z"),
    _count("model.parameters", "parameters", ""),
    Metric("train/total_seconds", "training", "seconds", 1, LOWER, ranked=False),
)
BOUNDS = (
    _loss("test/negative_log_marginal", "−log p(x) bound")._replace(needs=IMPORTANCE),
    _loss("test/iwae_bound", "IWAE bound", *CONDITION)._replace(needs=IMPORTANCE),
    _loss("test/averaged_negative_elbo", "negative ELBO, averaged", *CONDITION)._replace(needs=DRAWS),
    _loss("test/above_entropy_floor", "above floor", *CONDITION)._replace(needs=DRAWS),
    _count("test/collapsed_units", "collapsed units", "of Z", LOWER)._replace(
        needs=DRAWS, apart=("model.latent_size",)
    ),
)
QUALITY = tuple(
    each._replace(needs=SAMPLES)
    for each in (
        _share("eval/recognizable_share", "recognizable share"),
        _share("eval/conditional_accuracy", "conditional accuracy"),
        Metric("eval/classifier_score", "classifier score", "", 2, HIGHER, DATA),
        Metric("eval/frechet_distance", "Frechet distance", "", 2, LOWER, DATA),
        _share("eval/precision", "precision"),
        _share("eval/recall", "recall"),
        _share("eval/class_balance", "class balance"),
        _share("eval/sharpness", "sharpness", ""),
        _share("eval/nearest_training_distance", "nearest training", ""),
    )
)
TOPICS = {"": LOSSES, "bounds and latent use": BOUNDS, "quality of samples": QUALITY}  # one table each
OTHERS = (  # shown when asked for by name
    _loss("train/step_loss", "step loss", *CONDITION, *OBJECTIVE),
    _loss("train/reconstruction", "train reconstruction", better=""),
    Metric("train/kl", "train KL", NATS, 2, column=DATA),
    Metric("train/seconds", "last epoch", "seconds", 2, LOWER, ranked=False),
    Metric("train/images_per_second", "speed", "images/second", 0, HIGHER, ranked=False),
    Metric("train/learning_rate", "learning rate", "", 6),
    _loss("test/averaged_loss", "held-out loss, averaged", *CONDITION, *OBJECTIVE)._replace(needs=DRAWS),
    _loss("test/averaged_reconstruction", "reconstruction, averaged", better="")._replace(needs=DRAWS),
    _share("eval/classifier_accuracy", "classifier accuracy")._replace(needs=SAMPLES),
)
CATALOGUE = {each.key: each for each in (*LOSSES, *BOUNDS, *QUALITY, *OTHERS)}
KL_DIMENSION = "test/kl_dimension"
SERIES = {  # one metric for each dimension or class, by the name before the number
    KL_DIMENSION: Metric("", "KL of dimension", NATS, 2, column=DATA, needs=DRAWS),
    "eval/conditional_accuracy": _share("", "accuracy of class")._replace(needs=SAMPLES),
}


def series(metrics: Mapping[str, float], name: str) -> list[float]:
    """The values of a series of metrics in the order of their numbers; none if it was not measured."""
    numbered = [(key.rpartition("/"), value) for key, value in metrics.items()]
    found = {int(end): value for (start, _, end), value in numbered if start == name and end.isdigit()}
    return [found[number] for number in sorted(found)]


def metric_named(key: str) -> Metric:
    """The measure of a metric's name; one that the catalogue lacks is headed by itself."""
    name, _, number = key.rpartition("/")
    if key not in CATALOGUE and name in SERIES and number.isdigit():
        found = SERIES[name]
        return found._replace(key=key, heading=f"{found.heading} {int(number)}")
    return CATALOGUE.get(key, Metric(key, key, "", 4))
