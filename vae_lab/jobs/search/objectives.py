"""What a search looks for: metrics of every epoch, and which way each of them is better."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from vae_lab.errors import UserError, choices, quoted
from vae_lab.metrics import HIGHER, metric_named

Direction = Literal["minimize", "maximize"]

# Of the loss: rate and distortion, of which less is better at the same value of the other.
PARTS = ("test/kl", "test/reconstruction", "train/kl", "train/reconstruction")
OF_EVERY_EPOCH = (
    *("test/loss", "test/negative_elbo", "test/active_units"),
    *("train/loss", "train/last_minibatch_loss", "train/learning_rate"),
    *("train/seconds", "train/total_seconds", "train/images_per_second"),
    *PARTS,
)


def directions(metrics: Sequence[str]) -> tuple[Direction, ...]:
    """Returns which way each of some objectives is better.

    Args:
        metrics: Their keys.

    Raises:
        UserError: One is not measured after every epoch, or neither more nor less of it is better.

    Examples:
        >>> directions(["test/loss", "train/images_per_second"])
        ('minimize', 'maximize')
        >>> directions(["test/los"])
        Traceback (most recent call last):
        vae_lab.errors.UserError: search.metrics=test/los: is not measured after every epoch; did you mean ...
    """
    valid = [metric for metric in OF_EVERY_EPOCH if metric_named(metric).better]
    valid += PARTS if len(metrics) > 1 else ()
    for metric in metrics:
        if metric not in valid:
            raise UserError(f"search.metrics={quoted(metric)}: {_reason(metric)}{choices(metric, valid)}")
    return tuple("maximize" if metric_named(metric).better == HIGHER else "minimize" for metric in metrics)


def _reason(metric: str) -> str:
    if metric not in OF_EVERY_EPOCH:
        return "is not measured after every epoch"
    if metric in PARTS:
        return "is one part of the loss, lowered by raising the other; search for both"
    return "neither more nor less of it is better"
