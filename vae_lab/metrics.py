"""The catalogue of every number that a run logs: its heading, its unit, and what it may be compared with.

docs/metrics.md explains each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

from vae_lab.errors import UserError, quoted

LOWER, HIGHER = "lower", "higher"
ERROR = "_error"  # behind the key of a measure: its standard error
NATS = "nats/image"
# Parameters that two runs must share for their numbers to be comparable.
DATA = ("data",)
# Binarized and grey pixels have densities of their own.
PIXELS = (*DATA, "data.binarize", "objective.likelihood")
CONDITION = ("model.conditional",)  # log p(x | y) is not log p(x)
OBJECTIVE = ("objective", "objective.beta", "objective.penalty", "objective.penalty_weight")
# Numbers of draws in the config group `evaluation`; at 0 the metrics that need them are not measured.
EVALUATION_COUNTS = POSTERIOR_DRAWS, IMPORTANCE_SAMPLES, SAMPLES, ANNEALED_IMAGES = (
    "posterior_draws",
    "importance_samples",
    "samples",
    "annealed_images",
)
EVALUATION_SETTINGS = {  # for each count, the keys of a run's tag `vae_lab.evaluation` that it is measured at
    POSTERIOR_DRAWS: (POSTERIOR_DRAWS,),
    IMPORTANCE_SAMPLES: (IMPORTANCE_SAMPLES, "importance_images"),
    SAMPLES: (SAMPLES, "judges", "classifier"),
    ANNEALED_IMAGES: (ANNEALED_IMAGES, "temperatures", "chains"),
}


class Metric(NamedTuple):
    """A metric, or a parameter that is a number.

    Runs share a column of a table only if they share all parameters of `column_keys`; within a column they
    are ranked and subtracted only if they share all parameters of `comparison_keys`.
    """

    key: str
    heading: str
    unit: str = ""
    digits: int = 2
    better: str = ""  # LOWER or HIGHER, empty where neither is better
    column_keys: tuple[str, ...] = ()
    comparison_keys: tuple[str, ...] = ()
    ranked: bool = True  # whether tables mark the best runs
    needs: str = ""  # one of EVALUATION_COUNTS, for metrics that not every run has


def _loss(key: str, heading: str, *comparison_keys: str, better: str = LOWER, needs: str = "") -> Metric:
    return Metric(key, heading, NATS, 2, better, PIXELS, comparison_keys, needs=needs)


def _information(key: str, heading: str, needs: str) -> Metric:
    return Metric(key, heading, NATS, 2, column_keys=DATA, needs=needs)


def _share(key: str, heading: str, better: str = HIGHER) -> Metric:
    return Metric(key, heading, "", 3, better, DATA, needs=SAMPLES)


def _count(key: str, heading: str, unit: str, better: str = "") -> Metric:
    return Metric(key, heading, unit, 0, better)


LOSSES = (
    _loss("train/last_minibatch_loss", "last minibatch", *CONDITION, *OBJECTIVE),
    _loss("train/loss", "train loss", *CONDITION, *OBJECTIVE),
    _loss("test/loss", "held-out loss", *CONDITION, *OBJECTIVE),
    _loss("test/negative_elbo", "negative ELBO", *CONDITION),
    _loss("test/reconstruction", "reconstruction", better=""),
    Metric("test/kl", "KL", NATS, 2, column_keys=DATA),
    _count("test/active_units", "active units", "of Z"),
    _count("model.parameters", "parameters", ""),
    Metric("train/total_seconds", "training", "seconds", 1, LOWER, ranked=False),
)
BOUNDS = (
    _loss("test/negative_log_marginal", "−log p(x) bound", needs=IMPORTANCE_SAMPLES),
    _loss("test/iwae_bound", "IWAE bound", *CONDITION, needs=IMPORTANCE_SAMPLES),
    _loss("test/averaged_negative_elbo", "negative ELBO, averaged", *CONDITION, needs=POSTERIOR_DRAWS),
    _loss("test/above_entropy_floor", "above floor", *CONDITION, needs=POSTERIOR_DRAWS),
    _information("test/mutual_information", "I(x; z)", POSTERIOR_DRAWS),
    _information("test/aggregate_kl", "KL of all z", POSTERIOR_DRAWS),
    _count("test/collapsed_units", "collapsed units", "of Z", LOWER)._replace(
        needs=POSTERIOR_DRAWS, comparison_keys=("model.latent_size",)
    ),
)
QUALITY = (
    _share("eval/recognizable_share", "recognizable share"),
    _share("eval/conditional_accuracy", "conditional accuracy"),
    Metric("eval/classifier_score", "classifier score", "", 2, HIGHER, DATA, needs=SAMPLES),
    Metric("eval/frechet_distance", "Frechet distance", "", 2, LOWER, DATA, needs=SAMPLES),
    _share("eval/precision", "precision", ""),  # deep VAEs exceed real images, by drawing the typical alone
    _share("eval/recall", "recall"),
    _share("eval/density", "density", ""),
    _share("eval/coverage", "coverage"),
    _share("eval/class_balance", "class balance"),
    _share("eval/sharpness", "sharpness", ""),
    _share("eval/nearest_training_distance", "nearest training", ""),
)
TOPICS = {"": LOSSES, "bounds and latent use": BOUNDS, "quality of samples": QUALITY}  # a table a topic
OTHERS = (  # in tables only when they are asked for by name
    _loss("train/step_loss", "step loss", *CONDITION, *OBJECTIVE),
    _loss("train/reconstruction", "train reconstruction", better=""),
    Metric("train/kl", "train KL", NATS, 2, column_keys=DATA),
    Metric("train/seconds", "last epoch", "seconds", 2, LOWER, ranked=False),
    Metric("train/images_per_second", "speed", "images/second", 0, HIGHER, ranked=False),
    Metric("train/learning_rate", "learning rate", "", 6),
    _loss("test/averaged_loss", "held-out loss, averaged", *CONDITION, *OBJECTIVE, needs=POSTERIOR_DRAWS),
    _loss("test/averaged_reconstruction", "reconstruction, averaged", better="", needs=POSTERIOR_DRAWS),
    _loss("test/ais_bound", "AIS bound", *CONDITION, needs=ANNEALED_IMAGES),
    _information("test/ais_gap", "AIS gap", ANNEALED_IMAGES),
    _share("eval/classifier_accuracy", "classifier accuracy"),
)
MEASURES = {metric.key: metric for metric in (*LOSSES, *BOUNDS, *QUALITY, *OTHERS)}
ESTIMATED = (  # by random draws or by several classifiers, and logged with a standard error
    *("test/iwae_bound", "test/negative_log_marginal", "test/above_entropy_floor"),
    *("test/averaged_loss", "test/averaged_negative_elbo", "test/averaged_reconstruction"),
    *("test/mutual_information", "test/aggregate_kl", "test/ais_bound", "test/ais_gap"),
    *("eval/recognizable_share", "eval/conditional_accuracy", "eval/classifier_score"),
    *("eval/frechet_distance", "eval/precision", "eval/recall", "eval/density", "eval/coverage"),
    *("eval/class_balance", "eval/sharpness", "eval/nearest_training_distance"),
)
ERRORS = {  # no column of a table, never ranked, and not what a claim is about
    f"{key}{ERROR}": MEASURES[key]._replace(
        key=f"{key}{ERROR}",
        heading=f"standard error of {MEASURES[key].heading}",
        digits=MEASURES[key].digits + 1,
        better="",
        ranked=False,
    )
    for key in ESTIMATED
}
REAL = {  # of a measure of samples: the key of what real images have in their place
    metric.key: metric.key.replace("eval/", "real/")
    for metric in QUALITY
    if metric.key != "eval/nearest_training_distance"
}
OF_REAL_IMAGES = {  # a row of the tables, not a column
    REAL[key]: MEASURES[key]._replace(
        key=REAL[key], heading=f"{MEASURES[key].heading} of real images", better="", ranked=False
    )
    for key in REAL
}
CATALOGUE = MEASURES | ERRORS | OF_REAL_IMAGES
KL_DIMENSION = "test/kl_dimension"
ANNEALED_BETA, ANNEALED_RATE, ANNEALED_DISTORTION = (
    f"test/annealed_{name}" for name in ("beta", "rate", "distortion")
)
SERIES = {  # a metric for each dimension, class or point of a curve, by the name before its number
    KL_DIMENSION: Metric("", "KL of dimension", NATS, 2, column_keys=DATA, needs=POSTERIOR_DRAWS),
    "eval/conditional_accuracy": _share("", "accuracy of class"),
    ANNEALED_BETA: Metric("", "inverse temperature of point", "", 4, needs=ANNEALED_IMAGES),
    ANNEALED_RATE: _information("", "rate at point", ANNEALED_IMAGES),
    ANNEALED_DISTORTION: _loss("", "distortion at point", *CONDITION, better="", needs=ANNEALED_IMAGES),
}
SERIES |= {
    f"{name}{ERROR}": SERIES[name]._replace(
        heading=f"standard error of {SERIES[name].heading}", digits=3, ranked=False
    )
    for name in (ANNEALED_RATE, ANNEALED_DISTORTION)
}


OWN = "own/"  # begins the key of what a function of the user's own measures; its name follows
OWN_TOPIC = "own metrics"  # of their tables
Function = TypeVar("Function", bound=Callable[..., Any])


def metric(
    heading: str, *, unit: str = "", better: str = "", digits: int = 3
) -> Callable[[Function], Function]:
    """Makes a function a metric of one's own, which `evaluation.metrics` can name.

    Args:
        heading: What tables call it.
        unit: Its unit, empty for a number without one.
        better: lower or higher, empty where neither is better.
        digits: Digits behind the point.

    Raises:
        UserError: A value that no table can show.

    Examples:
        >>> @metric("mean brightness", better="higher")
        ... def brightness(model, images, labels):
        ...     return images.mean()
        >>> brightness.metric.key, brightness.metric.better
        ('own/brightness', 'higher')
    """
    for name, text, longest in (("heading", heading, 100), ("unit", unit, 40)):
        if not isinstance(text, str) or len(text) > longest or not text.isprintable():
            raise UserError(f"{name}={quoted(text)}: must be one line of at most {longest} characters.")
    if better not in ("", LOWER, HIGHER):
        raise UserError(f"better={quoted(better)}: must be {LOWER}, {HIGHER} or empty.")
    if digits not in range(10):
        raise UserError(f"digits={quoted(digits)}: must be a whole number from 0 to 9.")

    def mark(function: Function) -> Function:
        key = f"{OWN}{function.__name__}"
        function.metric = Metric(key, heading or key, unit, digits, better, DATA)  # type: ignore[attr-defined]
        return function

    return mark


def series(metrics: Mapping[str, float], name: str) -> list[float]:
    """Returns the values of a series in the order of their numbers; none if it was not measured.

    Examples:
        >>> metrics = {"test/kl": 3.5, "test/kl_dimension/1": 0.5, "test/kl_dimension/0": 3.0}
        >>> series(metrics, "test/kl_dimension")
        [3.0, 0.5]
    """
    parted = [(key.rpartition("/"), value) for key, value in metrics.items()]
    numbered = {
        int(end): value for (start, _, end), value in parted if start == name and _is_number_of_series(end)
    }
    return [numbered[number] for number in sorted(numbered)]


def is_metric(key: str) -> bool:
    """Returns whether runs can log a metric of that key.

    Examples:
        >>> [is_metric(key) for key in ("test/loss", "test/kl_dimension/3", "test/lss")]
        [True, True, False]
    """
    name, _, number = key.rpartition("/")
    return key in CATALOGUE or (name in SERIES and _is_number_of_series(number))


def _is_number_of_series(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 10


def metric_named(key: str, own: Iterable[Metric] = ()) -> Metric:
    """Returns the metric of that key; one that neither the catalogue nor the user has is headed by its key.

    Args:
        key: Its key.
        own: What metrics of the user's own say of themselves.

    Examples:
        >>> metric_named("test/loss").heading, metric_named("test/loss").better
        ('held-out loss', 'lower')
        >>> metric_named("test/kl_dimension/03").heading
        'KL of dimension 3'
    """
    name, _, number = key.rpartition("/")
    if key not in CATALOGUE and name in SERIES and number.isdigit():
        pattern = SERIES[name]
        return pattern._replace(key=key, heading=f"{pattern.heading} {int(number)}")
    defined = {metric.key: metric for metric in own}
    return CATALOGUE.get(key) or defined.get(key) or Metric(key, key, "", 4)
