"""The typed schema of an experiment and the range of every key."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import Field, dataclass, field, fields, is_dataclass
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from omegaconf import MISSING

from vae_lab.errors import without_credentials

# Names that are defined elsewhere too: so a mistake in one is told before PyTorch is imported.
BUILT_IN_MODEL = "vae_lab.models.VAE"
BUILT_IN_OBJECTIVE = "vae_lab.objectives.Objective"
ACTIVATIONS = ("relu", "leaky_relu", "elu", "gelu", "silu", "tanh", "softplus")
INITS = ("default", "kaiming", "xavier", "orthogonal")
LIKELIHOODS = ("bernoulli", "continuous_bernoulli", "gaussian")
FAULTS = {  # that `vae_lab.faults` puts into a run, by the part that they change
    "loss": (
        *("kl_mean", "kl_sign", "kl_sigma", "kl_weight", "reconstruction_mean", "batch_size"),
        "sigmoid_missing",
    ),
    "model": (
        *("ignores_z", "std_variance", "noise_scaled", "noise_once", "sigma_stuck", "log_variance_unbounded"),
        *("sigmoid_twice", "modes_differ", "condition_ignored"),
    ),
    "data": ("pixel_range", "grey_binarized"),
    "optimizer": ("rate_too_high",),
}
MOST = 10**6  # of whatever is counted: what is larger is a slip of the keyboard
MOST_LAYERS, MOST_SEEDS, MOST_THREADS, MOST_SAMPLES, MOST_TRIALS = 1000, 10_000, 1024, 100_000, 10_000
LONGEST_NAME = 200  # characters of a run's name


class Rule(NamedTuple):
    """What a value must be: the test, and the same in words that follow `must be`."""

    holds: Callable[[Any], bool]
    text: str


def _ruled(holds: Callable[[Any], bool], text: str) -> Any:
    return field(default=MISSING, metadata={"rule": Rule(holds, text)})


def _or_null(rule: Any) -> Any:
    holds, text = rule.metadata["rule"]
    return _ruled(lambda value: value is None or holds(value), f"null or {text}")


def _whole(low: int, high: int = MOST) -> Any:
    return _ruled(lambda value: low <= value <= high, f"a whole number from {low} to {high}")


def _above(low: float) -> Any:
    return _ruled(lambda value: low < value < float("inf"), f"a finite number above {low:g}")


def _from(low: float) -> Any:
    return _ruled(lambda value: low <= value < float("inf"), f"a finite number of at least {low:g}")


def _one_of(*options: str) -> Any:
    return _ruled(lambda value: value in options, f"one of {', '.join(options)}")


def _matching(pattern: str, text: str) -> Any:
    return _ruled(lambda value: re.fullmatch(pattern, value) is not None, text)


def _line(longest: int) -> Any:
    return _ruled(
        lambda value: 0 < len(value) <= longest and value.isprintable(),
        f"one line of printable text, {longest} characters at most",
    )


def _is_whole(value: Any, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= high


def _are_widths(value: Any) -> bool:
    widths = value if isinstance(value, list) else [value]
    return len(widths) > 0 and all(_is_whole(width, MOST) for width in widths)


def _is_address(value: str) -> bool:
    try:
        urlsplit(value)
    except ValueError:  # http://[
        return False
    return value.isprintable()


def _is_without_password(value: str) -> bool:
    without_user = re.sub(r"(?<=://)[^:/?#@]*@", "", value)
    return _is_address(value) and without_credentials(without_user) == without_user


_WIDTHS = _ruled(_are_widths, f"a whole number from 1 to {MOST}, or a list of them such as [400,200]")

_SEEDS = _ruled(
    lambda value: value in (None, "auto") or _is_whole(value, MOST_SEEDS),
    f"null, auto or a whole number from 1 to {MOST_SEEDS}",
)

NOTHING = "none"  # the option of a config group that leaves things as they are; null is its other spelling
OPTIONAL_GROUPS = ("scheduler", "sweeps", "experiments")  # which have it
STUDY_GROUPS = ("sweeps", "experiments")  # whose options are multiruns
BASE = "base"  # of the points of a sweep, the one that the composed config describes
POINT_NAME = r"[A-Za-z0-9][\w +-]{0,39}"

_NAME = r"[\w][\w .+()=,-]{0,199}"
_NAME_TEXT = "letters, digits, spaces and . _ - + = , ( ), starting with a letter or digit, 200 at most"
_DOTTED = r"[^\W\d]\w*(\.[^\W\d]\w*)+"


def _target() -> Any:
    return _matching(_DOTTED, "the dotted name of a class or function, such as vae_lab.models.VAE")


@dataclass
class DataConfig:
    """What is learned; see conf/data."""

    _target_: str = _target()
    name: str = _matching(_NAME, _NAME_TEXT)
    root: str | None = _or_null(_line(1000))
    binarize: str = _one_of("none", "fixed", "dynamic")


@dataclass
class ModelConfig:
    """The network; see conf/model."""

    _target_: str = _target()
    conditional: bool = MISSING
    layers: int = _whole(1, MOST_LAYERS)
    encoder_layers: int | None = _or_null(_whole(1, MOST_LAYERS))
    decoder_layers: int | None = _or_null(_whole(1, MOST_LAYERS))
    hidden_size: Any = _WIDTHS
    latent_size: int = _whole(1)
    activation: str = _one_of(*ACTIVATIONS)
    init: str = _one_of(*INITS)
    options: dict[str, Any] = MISSING


_LIKELIHOOD = _ruled(
    lambda value: value in LIKELIHOODS or re.fullmatch(_DOTTED, value) is not None,
    f"one of {', '.join(LIKELIHOODS)}, or the dotted name of a class, such as my_likelihoods.Logistic",
)


@dataclass
class ObjectiveConfig:
    """The loss; see conf/objective."""

    _target_: str = _target()
    likelihood: str = _LIKELIHOOD
    likelihood_options: dict[str, Any] = MISSING
    beta: float = _from(0)
    warmup_epochs: float = _from(0)
    penalty: str = _one_of("none", "l1", "ard")
    penalty_weight: float = _from(0)
    std: float = _ruled(lambda value: 1e-6 <= value <= 1e6, "a number from 1e-6 to 1e6")
    options: dict[str, Any] = MISSING


@dataclass
class TrainConfig:
    """The budget and the machine; see conf/train."""

    epochs: int = _whole(1)
    batch_size: int = _whole(1)
    device: str = _matching(r"auto|cpu|mps|cuda(:\d+)?", "one of auto, cpu, cuda, cuda:N, mps")
    precision: str = _one_of("auto", "float32", "tf32", "bfloat16")
    compile: bool = MISSING
    threads: int | None = _or_null(_whole(1, MOST_THREADS))


_METRICS = _ruled(
    lambda values: all(re.fullmatch(_DOTTED, name) for name in values) and len({*values}) == len(values),
    "a list of different dotted names of functions, such as [my_metrics.gap]",
)


@dataclass
class EvaluationConfig:
    """What is measured and drawn after an epoch, and once in the end; see conf/evaluation."""

    batch_size: int = _whole(1)
    active_threshold: float = _above(0)
    pictures: bool = MISSING
    columns: int = _whole(1, 100)
    posterior_draws: int = _whole(0)
    importance_samples: int = _whole(0)
    importance_images: int = _whole(1)
    samples: int = _ruled(
        lambda value: value == 0 or 100 <= value <= MOST_SAMPLES,
        f"0 or a whole number from 100 to {MOST_SAMPLES}",
    )
    judges: int = _whole(1, 100)
    annealed_images: int = _whole(0)
    temperatures: int = _whole(1)
    chains: int = _whole(1)
    metrics: list[str] = _METRICS


@dataclass
class TrackingConfig:
    """Where the record goes; see conf/tracking."""

    uri: str | None = _or_null(_ruled(_is_address, "an address such as sqlite:///FILE or http://HOST:PORT"))
    experiment: str | None = _or_null(_matching(_NAME, _NAME_TEXT))
    run_name: str | None = _or_null(_line(LONGEST_NAME))
    wait: float = _from(0)


@dataclass
class SweepConfig:
    """The points of a multirun; see sweeps/."""

    cross: dict[str, Any] = MISSING
    one_at_a_time: dict[str, Any] = MISSING
    also: dict[str, Any] = MISSING
    replicate: dict[str, Any] = MISSING


_OBJECTIVES = _ruled(
    lambda values: (
        1 <= len(values) <= 3
        and len({*values}) == len(values)
        and all(re.fullmatch(r"(train|test)/\w+", str(name)) for name in values)
    ),
    "a list of one to three metrics of every epoch, such as [test/loss] or [test/kl,test/reconstruction]",
)


@dataclass
class SearchConfig:
    """What a search varies and how it goes about it; see docs/search.md."""

    space: dict[str, Any] = MISSING
    conditional: list[Any] = MISSING
    metrics: list[str] = _OBJECTIVES
    trials: int = _whole(1, MOST_TRIALS)
    epochs: int | None = _or_null(_whole(1))
    first: int = _whole(1)
    eta: float = _ruled(lambda value: 1 < value <= 100, "a number above 1, 100 at most")
    sampler: str = _matching(
        r"\w+", "forecast, or the name of a sampler of Optuna, such as tpe, random or nsgaii"
    )
    sampler_options: dict[str, Any] = MISSING
    pruner: str = _matching(
        r"\w+", "forecast, halving, none, or the name of a pruner of Optuna, such as median"
    )
    pruner_options: dict[str, Any] = MISSING
    seed: int = _ruled(lambda value: 0 <= value < 2**63, "a whole number from 0 to 2^63 - 1")
    storage: str | None = _or_null(
        _ruled(
            _is_without_password,
            "an address such as sqlite:///FILE or postgresql://HOST/NAME, without a password: that is given "
            "in PGPASSWORD or ~/.pgpass",
        )
    )


@dataclass
class OracleConfig:
    """Three recipes for the latent size, held against a sweep of it; see experiments/latent_oracle.yaml."""

    metric: str = "test/negative_elbo"
    shares: list[float] = field(default_factory=lambda: [0.90, 0.95, 0.99])
    points: list[str] = field(default_factory=list)


@dataclass
class StudyConfig:
    """The question that a multirun answers; see experiments/."""

    name: str | None = _or_null(_matching(_NAME, _NAME_TEXT))
    question: str | None = _or_null(_line(1000))
    reference: dict[str, Any] | None = MISSING
    claims: list[Any] = MISSING
    oracle: OracleConfig | None = None


@dataclass
class Config:
    """One experiment."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    optimizer: dict[str, Any] = MISSING
    scheduler: dict[str, Any] | None = MISSING
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    seed: int = _ruled(lambda value: 0 <= value < 2**63, "a whole number from 0 to 2^63 - 1")
    seeds: Any = _SEEDS
    max_seeds: int = _whole(1, MOST_SEEDS)
    reuse: str = _one_of("finished", "never")
    fault: str = _one_of(NOTHING, *(name for names in FAULTS.values() for name in names))
    sweep: SweepConfig = field(default_factory=SweepConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    study: StudyConfig = field(default_factory=StudyConfig)


GROUPS = {
    "data": DataConfig,
    "model": ModelConfig,
    "objective": ObjectiveConfig,
    "train": TrainConfig,
    "evaluation": EvaluationConfig,
    "tracking": TrackingConfig,
    "sweep": SweepConfig,
    "search": SearchConfig,
    "study": StudyConfig,
}


def valid_keys(prefix: str = "") -> list[str]:
    """Returns the dotted keys of the schema that begin with `prefix`.

    >>> valid_keys("objective.")[:2]
    ['objective._target_', 'objective.likelihood']
    """
    return [key for key, _ in ruled_keys() if key.startswith(prefix)]


@functools.cache
def ruled_keys() -> tuple[tuple[str, Rule | None], ...]:
    """Returns every dotted key of the schema with its rule, None where the type is rule enough."""
    return tuple((key, item.metadata.get("rule")) for key, item in _leaves())


def _leaves(node: type = Config, prefix: str = "") -> Iterator[tuple[str, Field[Any]]]:
    for item in fields(node):
        nested = GROUPS.get(item.name) if node is Config else None
        if nested is not None and is_dataclass(nested):
            yield from _leaves(nested, f"{item.name}.")
        else:
            yield prefix + item.name, item


def takes_list(key: str, values: Sequence[object]) -> bool:
    """Returns whether a list of these values may be the one value of a key.

    >>> takes_list("model.hidden_size", [400, 200]), takes_list("optimizer.betas", [0.9, 0.99])
    (True, True)
    >>> takes_list("model.layers", [2, 3]), takes_list("model", ["vae", "cvae"])
    (False, False)
    """
    for leaf, item in _leaves():
        if key == leaf:
            rule = item.metadata.get("rule")
            kind = str(item.type)
            return kind.startswith(("Any", "list")) and (rule is None or rule.holds([*values]))
        if key.startswith(f"{leaf}."):  # the schema leaves open what lies below
            return True
    return key.startswith("hydra.")


TEXT_KEYS = frozenset(key for key, item in _leaves() if str(item.type).startswith("str"))
