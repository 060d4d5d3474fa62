"""What training left: losses that rise or end, modes that differ, a record that its model does not bear out.

Shapes: N images, D pixels.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from vae_lab.trained.doctor.findings import FAULT, NOTE, WARNING, Finding, UnexaminedError
from vae_lab.trained.doctor.subject import Recorded, Subject, in_mode, pixels_of

JUMP, RISE = 1.0, 0.25  # of the losses' later fall, by which they first rise
# Deviations of the losses' noise that are no rise: of four epochs on the digits, an image a minibatch, that
# changed no weight, 1 of 100 had a loss more than 11.8 above the first.
NOISE = 12
OF_SECOND_DIFFERENCES = 1.652  # deviations of normal noise in their median size
WORSE = 0.1  # of the pixels' variance, that evaluation mode may miss more
OTHER, FAR = 0.1, 0.3  # of the posterior means' variance, by which they move between the modes
PASSES = 8  # in training mode; their mean has an eighth of dropout's noise, as a variance
LEAST = 3  # losses that can rise and fall
RATE_ROUNDING = 1.01  # times the configured learning rate
LOWER = "Lower the learning rate from {:.3g}, to a third each time, until the first steps lower the loss."
PRECISION = (0.01, 0.1)  # relative and in nats; formats and devices differ by less


def check_losses(subject: Subject) -> Iterator[Finding]:
    """Yields what the losses say: one that is no number, or a rise before they fall.

    Raises:
        UnexaminedError: There are none.
    """
    if subject.recorded is not None:
        yield from of_record(subject.recorded)
    losses = subject.losses
    broken = [place for place, loss in enumerate(losses) if not math.isfinite(loss)]
    if broken:
        seen = f"The training loss is {losses[broken[0]]} at place {broken[0] + 1} of {len(losses)}."
        yield Finding("diverged", FAULT, seen, None, "a number")
        return
    if len(losses) < LEAST:
        raise UnexaminedError("needs the losses of training: losses=[...], from the first step on")
    first, peak, least = losses[0], max(losses), min(losses)
    rise = (peak - first) / max(first - least, 1e-9 + 1e-3 * abs(first))
    if rise > RISE and peak - first > NOISE * noise_of(losses):
        grade = FAULT if rise > JUMP else WARNING
        rate = None if subject.recorded is None else subject.recorded.first_rate or subject.recorded.rate
        at, remedy = ("", "") if rate is None else (f" at a learning rate of {rate:.3g}", LOWER.format(rate))
        seen = f"The loss rose from {first:.4g} to {peak:.4g}{at}, {rise:.2g} times its fall to {least:.4g}."
        sound = f"a rise of at most {RISE:g} times the fall, or of {NOISE:g} deviations of the loss's noise"
        yield Finding("rate_too_high", grade, seen, rise, sound, remedy)


def noise_of(losses: Sequence[float]) -> float:
    """Returns the standard deviation of a loss's noise from step to step, in nats; 0 of fewer than five.

    It is that of the later half, by second differences, in which neither a slope nor a single leap is noise.
    It is at most the first loss: what leaps by more has gone astray.

    Examples:
        >>> noise_of([9.0, 8.0, 7.0, 6.0, 5.0]), round(noise_of([9.0, 8.0, 7.0, 6.0, 5.5]), 2)
        (0.0, 0.3)
    """
    later = torch.tensor(losses[len(losses) // 2 :], dtype=torch.float64)
    if len(later) < LEAST:
        return 0.0
    sizes = later.diff(n=2).abs()
    return min(float(sizes.median()) / OF_SECOND_DIFFERENCES, abs(losses[0]))


def of_record(recorded: Recorded) -> Iterator[Finding]:
    """Yields what a run's record says of its end and of its learning rate."""
    diverged = re.search(r"diverged: (?:held-out )?(\w+) is (NaN|infinite)", recorded.error)
    if diverged is not None:
        name = "log_variance_unbounded" if diverged[1] == "kl" else "diverged"
        yield Finding(name, FAULT, f"The run ended: {recorded.error}", None, "a finite loss")
    asked, used = recorded.rate, recorded.first_rate
    if asked is not None and used is not None and used > RATE_ROUNDING * asked:
        seen = f"The first epoch's learning rate was {used:.3g}, where the config says {asked:.3g}."
        remedy = f"Train at the config's learning rate, {asked:.3g}."
        yield Finding("rate_too_high", FAULT, seen, used / asked, "1 times the config's", remedy)


def check_record(subject: Subject) -> Iterator[Finding]:
    """Yields where a run's record differs from what the lab's formulas say of its model.

    Raises:
        UnexaminedError: There is no record.
    """
    if subject.recorded is None or not subject.recorded.recomputed:
        raise UnexaminedError("no run: nothing is recorded")
    relative, absolute = PRECISION
    for metric, value in subject.recorded.recomputed.items():
        recorded = subject.recorded.recorded.get(metric)
        if recorded is not None and not abs(recorded - value) <= relative * abs(value) + absolute:
            seen = f"{metric} is {recorded:.4g} in the record, and {value:.4g} when it is computed anew."
            yield Finding("record_differs", FAULT, seen, recorded - value, "equal to 1 % and 0.1 nats")
            return


def check_modes(subject: Subject) -> Iterator[Finding]:
    """Yields whether evaluation mode encodes, or reconstructs, otherwise than training mode does on average.

    Raises:
        UnexaminedError: The decoder cannot be called.
    """
    if subject.decode is None:
        raise UnexaminedError("needs decode")
    few = subject.first(256)
    evaluated = _encoded(few, training=False)
    trained = [_encoded(few, training=True) for _ in range(PASSES)]
    distance = distance_of_modes(torch.stack([mean for mean, _ in trained]), evaluated[0])
    error = sum(error for _, error in trained) / PASSES
    worse = evaluated[1] - error
    if distance > OTHER or abs(worse) > WORSE:
        grade = FAULT if distance > FAR or worse > WORSE else NOTE
        seen = f"Posterior means of the two modes differ by {distance:.2g} of their variance"
        if math.isfinite(worse):
            shares = f"{evaluated[1]:.0%} of the pixels' variance in evaluation mode, {error:.0%} in training"
            seen += f"; images miss {shares} mode"
        yield Finding("modes_differ", grade, f"{seen}.", distance, f"at most {OTHER:g}")


def distance_of_modes(passes: Tensor, evaluated: Tensor) -> float:
    """Returns the mean squared distance between the two modes' posterior means, over their variance.

    What dropout's noise adds to both is taken off. Where it varies more from pass to pass than the means do
    from image to image, as in a model that has collapsed, it is the unit: it is what training does not heed.

    Args:
        passes: Posterior means of several passes in training mode (*, N, Z).
        evaluated: Those of evaluation mode (N, Z).

    Examples:
        >>> evaluated = torch.tensor([[0.0], [2.0]])
        >>> distance_of_modes(torch.stack([evaluated - 1, evaluated + 1]), evaluated)
        0.0
        >>> distance_of_modes(torch.stack([evaluated + 1, evaluated + 1]), evaluated)
        0.5
    """
    noise, mean = passes.var(0).mean(), passes.mean(0)
    left = noise / len(passes)  # in the mean
    distance = ((mean - evaluated).square().mean() - left).clamp_min(0)
    spread = mean.var(0).mean() - left
    return float(distance / torch.maximum(spread, noise).clamp_min(1e-12))


def _encoded(subject: Subject, *, training: bool) -> tuple[Tensor, float]:
    """Returns posterior means (N, Z), and what their images miss of the pixels' variance.

    That is no number where the decoder gives several numbers for a pixel, and there is no likelihood.
    """
    assert subject.decode is not None
    with in_mode(subject.module, training=training):
        mean = subject.encode(subject.images, subject.labels).mean
        output = subject.decode(mean, subject.labels)
    x = pixels_of(subject.images)
    try:
        missed = (subject.images_of(output) - x).square().mean()
    except UnexaminedError:
        return mean, math.nan
    return mean, float(missed / x.var(0).mean().clamp_min(1e-12))
