"""A loss as a black box: what it does with outputs and posteriors that the doctor makes up.

Shapes: n images, D pixels, Z latent dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vae_lab.models import Posterior
from vae_lab.objectives import cross_entropy, kl_per_dimension
from vae_lab.trained.doctor.findings import UnexaminedError, reason_of
from vae_lab.trained.doctor.subject import IMAGES, LOGITS, Subject, pixels_of

COUNT = 32  # images, at most
TOLERANCE = 0.02  # of ratios that are one and the same
OUTPUTS = 4  # probes; the first is what the others are compared with
BASE = -0.5  # the log-variance of the first posterior; 0 is a pole of one wrong formula

Formula = Callable[[Tensor, Tensor], Tensor]  # of mean and log-variance (n, Z), each dimension's share

KL_FORMULAS: tuple[tuple[str, str, Formula], ...] = (
    ("", "", lambda mean, v: kl_per_dimension(Posterior(mean, v))),
    ("kl_sign", "its log-variance has the wrong sign", lambda mean, v: (mean**2 + v.exp() + v) / 2),
    ("kl_sigma", "it has σ where σ² belongs", lambda mean, v: (mean**2 + (v / 2).exp() - v) / 2),
    ("kl_sigma", "it takes the log-variance for σ", lambda mean, v: (mean**2 + v**2 - (v**2).log()) / 2),
    (
        "kl_sigma",
        "it takes log σ² for log σ",
        lambda mean, v: (mean**2 + (2 * v).exp() - 2 * v) / 2,
    ),
)


def _of_each_pixel(logits: Tensor, x: Tensor) -> Tensor:
    return cross_entropy(logits[..., None], x[..., None])


Reconstruction = tuple[str, str | None, Formula]  # its name, and whether it takes logits or images

CROSS_ENTROPIES: tuple[Reconstruction, ...] = (
    ("cross entropy of images", IMAGES, lambda p, x: _of_each_pixel(p.logit(), x)),
    ("cross entropy of logits", LOGITS, _of_each_pixel),
)
SQUARED, ABSOLUTE = "squared error", "absolute error"
ERRORS: tuple[Reconstruction, ...] = (
    (SQUARED, IMAGES, lambda p, x: (p - x) ** 2),
    (ABSOLUTE, IMAGES, lambda p, x: (p - x).abs()),
)


class Term(NamedTuple):
    """How one term enters the loss."""

    scale: float  # times the term summed over its last axis and averaged over images
    summed: bool  # over the minibatch, instead of averaged
    name: str = ""  # of a KL, what the doctor calls its fault; of a reconstruction, which one it is
    words: str = ""
    takes: str | None = None  # of a reconstruction, whether it takes logits or images


class Probed(NamedTuple):
    """What a loss was seen to be made of; None for a term that is none of the known ones."""

    kl: Term | None
    reconstruction: Term | None
    kl_ratios: list[float]  # the loss's changes over the right KL's: by the mean, by smaller and by larger σ
    n: int  # images of the minibatch
    D: int
    Z: int


def probed(subject: Subject) -> Probed:
    """Returns what the loss of a subject is made of.

    Raises:
        UnexaminedError: There is no loss, or it takes none of the probes.
    """
    if subject.loss is None or subject.forward is None:
        raise UnexaminedError("needs the loss, as in loss=lambda reconstruction, x, mean, log_var: ...")
    few = subject.first(COUNT)
    try:
        output, posterior = subject.forward(few.images, few.labels)
        for dtype in (torch.float64, torch.float32):  # a loss may hold numbers of its own in single precision
            try:
                made_up = (part.to(dtype) for part in (few.images, output, posterior.mean))
                probes = _Probes(subject.loss, *made_up)
                return probes.result(subject.negative_log)
            except (RuntimeError, TypeError):
                if dtype is torch.float32:
                    raise
        raise AssertionError("unreachable")
    except Exception as error:  # a loss of anybody's raises what it likes
        raise UnexaminedError(f"the loss fails: {reason_of(error)}") from error


class _Probes:
    """Outputs and posteriors that are made up, and what a loss says of them."""

    def __init__(
        self, loss: Callable[[Tensor, Tensor, Posterior], Tensor], x: Tensor, output: Tensor, mean: Tensor
    ) -> None:
        generator = torch.Generator().manual_seed(0)

        def normal(shape: torch.Size) -> Tensor:
            return torch.randn(shape, generator=generator).to(x)

        self.loss, self.x = loss, x
        self.outputs = [normal(output.shape).sigmoid() for _ in range(OUTPUTS)]  # both logits and images
        zero, size = torch.zeros_like(mean), normal(mean.shape).abs() + 0.1
        base = torch.full_like(mean, BASE)
        self.posteriors = [
            Posterior(zero, base),
            Posterior(normal(mean.shape), base),
            Posterior(zero, base - size),
            Posterior(zero, base + size),
        ]
        self.noise = (1e-9 if x.dtype is torch.float64 else 1e-5) * max(1.0, abs(self.total(0, 0)))

    def total(self, output: int, posterior: int, times: int = 1) -> float:
        """Returns the loss of a minibatch that holds every image `times` times."""
        q = self.posteriors[posterior]
        repeated = Posterior(torch.cat([q.mean] * times), torch.cat([q.log_var] * times))
        outputs, x = torch.cat([self.outputs[output]] * times), torch.cat([self.x] * times)
        return float(self.loss(outputs, x, repeated).mean())

    def result(self, negative_log: Callable[[Tensor, Tensor], Tensor] | None) -> Probed:
        """Returns what the loss is made of."""
        changes = _changes([self.total(0, number) for number in range(len(self.posteriors))])
        right = _changes([self._mean(KL_FORMULAS[0][2], q.mean, q.log_var) for q in self.posteriors])
        ratios = [change / expected for change, expected in zip(changes, right, strict=True)]
        reconstruction = self._reconstruction(negative_log)
        D, Z = pixels_of(self.x).shape[1], self.posteriors[0].mean.shape[-1]
        return Probed(self._kl(changes), reconstruction, ratios, len(self.x), D, Z)

    def _kl(self, changes: Sequence[float]) -> Term | None:
        if all(abs(change) <= self.noise for change in changes):
            return Term(0.0, summed=False)
        doubled = self.total(0, 1, times=2) - self.total(0, 0, times=2)
        summed = _is_doubled(doubled, changes[0])
        for name, words, formula in KL_FORMULAS:
            expected = _changes([self._mean(formula, q.mean, q.log_var) for q in self.posteriors])
            if (scale := proportion(changes, expected, self.noise)) is not None:
                return Term(scale, summed, name, words)
        return None

    def _reconstruction(self, negative_log: Callable[[Tensor, Tensor], Tensor] | None) -> Term | None:
        changes = _changes([self.total(number, 0) for number in range(OUTPUTS)])
        summed = _is_doubled(self.total(1, 0, times=2) - self.total(0, 0, times=2), changes[0])
        for name, takes, formula in self._candidates(negative_log):
            expected = _changes([self._mean(formula, p.flatten(1), self.x.flatten(1)) for p in self.outputs])
            if (scale := proportion(changes, expected, self.noise)) is not None:
                return Term(scale, summed, name, takes=takes)
        return None

    def _candidates(self, negative_log: Formula | None) -> Iterator[Reconstruction]:
        """Yields what the reconstruction may be; without a likelihood, only of as many outputs as pixels."""
        alike = self.outputs[0].flatten(1).shape == self.x.flatten(1).shape
        if alike:
            yield from CROSS_ENTROPIES
        if negative_log is not None:  # before the errors, whose factor is anybody's choice
            yield "declared likelihood", None, lambda p, x: negative_log(p, x)[:, None]
        if alike:
            yield from ERRORS

    @staticmethod
    def _mean(formula: Formula, first: Tensor, second: Tensor) -> float:
        return float(formula(first, second).sum(-1).mean())


def _changes(values: Sequence[float]) -> list[float]:
    return [value - values[0] for value in values[1:]]


def _is_doubled(doubled: float, change: float) -> bool:
    return change != 0 and abs(doubled / change - 2) < 0.1


def proportion(changes: Sequence[float], expected: Sequence[float], noise: float = 0.0) -> float | None:
    """Returns the factor between two series; None if they are not proportional.

    Examples:
        >>> proportion([2.0, 4.0, 1.0], [1.0, 2.0, 0.5]), proportion([2.0, 4.0], [1.0, 3.0])
        (2.0, None)
    """
    if not expected[0]:
        return None
    scale = changes[0] / expected[0]
    fit = all(
        abs(change - scale * value) <= TOLERANCE * abs(change) + noise
        for change, value in zip(changes, expected, strict=True)
    )
    return scale if fit and abs(scale) > 0 else None
