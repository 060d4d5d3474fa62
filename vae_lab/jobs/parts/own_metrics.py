"""Metrics of the user's own: functions that a config names in `evaluation.metrics`, and what they measure."""

from __future__ import annotations

import functools
import logging
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch

from vae_lab import devices
from vae_lab.config import code_version
from vae_lab.errors import UserError, quoted
from vae_lab.evaluation import Measures, ModelInHand
from vae_lab.files import imported
from vae_lab.jobs.parts.arguments import reason_of, taken
from vae_lab.jobs.parts.draws import seeded
from vae_lab.metrics import Metric

log = logging.getLogger(__name__)


class OwnMetric(NamedTuple):
    """A function of the user's own and what it says of what it measures."""

    name: str  # dotted
    function: Callable[..., Any]
    metric: Metric

    @property
    def code(self) -> str:
        """Sixteen hex digits of the function's module; by other code a run is measured anew."""
        file = getattr(sys.modules.get(self.function.__module__), "__file__", None)
        return code_version.checksum([file] if file else [])


def own_metrics(names: Iterable[str]) -> list[OwnMetric]:
    """Returns the functions of dotted names.

    Raises:
        UserError: One cannot be imported, does not say what it measures, or has the key of another.
    """
    named: dict[str, OwnMetric] = {}
    for name in names:
        own = _named(name)
        if own.metric.key in named:
            raise UserError(
                f"evaluation.metrics={name}: would be logged as {own.metric.key}, as "
                f"{named[own.metric.key].name} is; give the function another name."
            )
        named[own.metric.key] = own
    return list(named.values())


def _named(name: str) -> OwnMetric:
    blamed = f"evaluation.metrics={name}"
    try:
        function = imported(name)
    except Exception as error:  # a module of the user's own may raise anything
        raise UserError(f"{blamed}: no function of that name can be imported: {reason_of(error)}") from error
    metric = getattr(function, "metric", None)
    if not callable(function) or not isinstance(metric, Metric):
        raise UserError(
            f"{blamed}: does not say what it measures; write "
            f'@vae_lab.metrics.metric("{name.rpartition(".")[2]}", better="higher") above it.'
        )
    return OwnMetric(name, function, metric)


def measured_by(metrics: Iterable[OwnMetric], model: ModelInHand, seed: int) -> Measures:
    """Returns what functions of the user's own say of a trained model and the held-out images.

    Each is called as function(model, images, labels), with images (N, C, H, W) in [0, 1] and labels (N,), and
    with `factors` and `seed` if it takes them. One that fails loses its own measure and no other. Draws from
    PyTorch's global generator follow from the seed; meanwhile others that draw from it wait.
    """
    measures, test = Measures({}, {}), model.data.test
    images = torch.unflatten(test.scaled(slice(None)), -1, model.shape)
    for own in metrics:
        key = own.metric.key
        offered: Mapping[str, Any] = {"factors": model.data.factors, "seed": seed}
        further = taken(own.function, offered)
        if further.get("factors", offered) is None:
            measures.absent[key] = f"data {quoted(model.data.name)} has no factors"
            continue
        try:
            with (
                torch.no_grad(),
                devices.float32_products("float32", model.device),
                seeded(True, seed, "metric", key, device=model.device),
            ):
                value = float(own.function(model, images, test.labels, **further))
        except Exception as error:
            measures.absent[key] = reason_of(error).rstrip(".")
            continue
        if math.isfinite(value):
            measures.metrics[key] = value
        else:
            measures.absent[key] = f"it is {value}"
    _warn(measures.reasons())
    return measures


@functools.cache  # once, and not for every run that is measured
def _warn(reasons: str) -> None:
    if reasons:
        log.warning("not measured: %s.", reasons)
