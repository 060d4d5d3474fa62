"""Whether the draws of z that a module makes itself are those of its posterior.

Shapes: n images, D pixels, Z latent dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vae_lab.models import Posterior
from vae_lab.trained.doctor.findings import FAULT, WARNING, Finding, UnexaminedError
from vae_lab.trained.doctor.subject import Subject, in_mode

COUNT, DRAWS = 32, 48  # images, at most, and draws an image
UNSEEN = 1e-12  # spread, of the outputs' mean square, below which it is rounding
DOUBTFUL, WRONG = 1.4, 2.0  # times the right spread, or its part
TELLING = math.log(3)  # by which spreads of σ and σ² differ, where nothing hides one in the other
GAINS = (1, 3, 10, 30, 100)  # of pixels, to move posteriors away from the prior, where σ = σ² = 1


def check_sampling(subject: Subject) -> Iterator[Finding]:
    """Yields what is wrong with the module's own draws.

    What it decodes from them is compared with what it decodes from draws that the doctor makes of the same
    posterior: the mean squared distance to what is decoded from the posterior mean is the spread.

    Raises:
        UnexaminedError: A function is missing, or what is decoded does not depend on z.
    """
    if subject.forward is None or subject.decode is None:
        raise UnexaminedError("needs forward and decode")
    few = subject.first(COUNT)
    training = _draws_in_training_only(few)
    if training and any(isinstance(part, nn.modules.dropout._DropoutNd) for part in few.module.modules()):
        raise UnexaminedError("the module draws in training only, where its dropout draws, too")
    with in_mode(few.module, training=training):
        once, again = _drawn(few), _drawn(few)
        spreads = _telling_spreads(few)
    if torch.equal(once, again) and bool((spreads.own > 0).any()):
        seen = "Two passes over the same images give the same: their noise is the same."
        yield Finding("noise_once", FAULT, seen, 0.0, "another draw at every pass")
    else:
        yield from _of_spread(spreads)


class _Spreads(NamedTuple):
    """Of each image, the mean squared distance (n,) to what is decoded from its posterior mean."""

    own: Tensor  # of the module's own draws
    right: Tensor  # of draws with the posterior's standard deviation
    by_variance: Tensor  # with its variance in the place of that

    @property
    def hidden(self) -> float:
        """How far apart the spreads of σ and σ² are, as a logarithm."""
        return _misfit(self.by_variance, self.right)


def _of_spread(spreads: _Spreads) -> Iterator[Finding]:
    ratio = float((spreads.own / spreads.right).median())
    of_right, of_variance = _misfit(spreads.own, spreads.right), _misfit(spreads.own, spreads.by_variance)
    if of_variance < of_right / 2 and spreads.hidden > math.log(DOUBTFUL):
        seen = f"The module's draws spread as with exp(log_var) for σ: {ratio:.3g} times as they should."
        yield Finding("std_variance", FAULT, seen, ratio, f"1, within {DOUBTFUL:g} times")
    elif not 1 / DOUBTFUL <= ratio <= DOUBTFUL:
        grade = FAULT if not 1 / WRONG <= ratio <= WRONG else WARNING
        noise = math.sqrt(ratio)
        seen = f"The module's draws spread {ratio:.3g} times as they should: noise of {noise:.2g} σ."
        yield Finding("noise_scaled", grade, seen, noise, "1, within 1.2 times")


def _misfit(one: Tensor, other: Tensor) -> float:
    """Returns the median over images of how far two spreads differ, as a logarithm without its sign.

    A median, because a model that has gone astray decodes a few images to anything.
    """
    return float((one.clamp_min(1e-30) / other).log().abs().median())


def _drawn(subject: Subject) -> Tensor:
    assert subject.forward is not None
    output, _ = subject.forward(subject.images, subject.labels)
    return output.flatten(1)


def _draws_in_training_only(subject: Subject) -> bool:
    if not torch.equal(_drawn(subject), _drawn(subject)):
        return False
    with in_mode(subject.module, training=True):
        return not torch.equal(_drawn(subject), _drawn(subject))


def _telling_spreads(subject: Subject) -> _Spreads:
    """Returns the spreads of images, or of images made so bright that σ and σ² can be told apart.

    Raises:
        UnexaminedError: What is decoded does not depend on z.
    """
    best: _Spreads | None = None
    for gain in GAINS:
        try:
            spreads = _spreads(replace(subject, images=gain * subject.images))
        except Exception:  # a module of anybody's may refuse pixels beyond 1, as binary_cross_entropy does
            if best is None:
                raise
            break
        if len(spreads.right) < len(subject.images) / 2:
            break
        if best is None or spreads.hidden > best.hidden:
            best = spreads
        if best.hidden > TELLING:
            return best
    if best is None:
        raise UnexaminedError("what is decoded does not depend on z")
    return best


def _spreads(subject: Subject) -> _Spreads:
    assert subject.decode is not None
    posterior = subject.encode(subject.images, subject.labels)
    centre = subject.decode(posterior.mean, subject.labels).flatten(1)
    by_variance = Posterior(posterior.mean, 2 * posterior.log_var)
    sums: list[Tensor] = [torch.zeros(len(centre), dtype=centre.dtype, device=centre.device)] * 3
    for _ in range(DRAWS):
        noise = torch.randn_like(posterior.mean)
        decoded = (subject.decode(q.sample(noise), subject.labels) for q in (posterior, by_variance))
        outputs = (_drawn(subject), *decoded)
        distances = [(output.flatten(1) - centre).square().mean(1) for output in outputs]
        sums = [total + distance for total, distance in zip(sums, distances, strict=True)]
    own, right, by_square = (total / DRAWS for total in sums)
    seen = (right > UNSEEN * float(centre.square().mean())) & (by_square > 0)
    seen &= own.isfinite() & right.isfinite() & by_square.isfinite()
    return _Spreads(own[seen], right[seen], by_square[seen])
