"""What the posteriors of held-out images say: their spread, their size, and whether they tell images apart.

Shapes: N images, Z latent dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from vae_lab.evaluation.latent import COLLAPSED
from vae_lab.models import Posterior
from vae_lab.objectives import kl_per_dimension
from vae_lab.trained.doctor.findings import FAULT, NOTE, WARNING, Finding
from vae_lab.trained.doctor.subject import Subject

LARGEST = 20.0  # log-variance: its exponential is 5e8
DOUBTFUL = 10.0
COUNT = 64  # images
STUCK = -1e-3  # a layer without a bound gives log-variances below it
AT_THE_BOUND = 0.01  # a softplus gives log-variances below it; else training may have led there
STEPS, STEP = 30, 1.0  # of pixels, downhill: a trained layer may lie above it for all images
GAINS = (10.0, 100.0)  # of pixels that are noise, for the same reason
WIDEST = 4.0  # mean square of z over images; under the prior it is 1


def check_latent(subject: Subject) -> Iterator[Finding]:
    """Yields what is wrong with the posteriors."""
    mean, log_var = (part.detach().float() for part in subject.encode(subject.images, subject.labels))
    finite = bool(mean.isfinite().all() and log_var.isfinite().all())
    largest = float(log_var.max())
    if not finite or largest > DOUBTFUL:
        grade = FAULT if not finite or largest > LARGEST else WARNING
        seen = f"The largest log-variance is {largest:.3g}: a standard deviation of e^{largest / 2:.3g}."
        yield Finding("log_variance_unbounded", grade, seen, largest, f"at most {DOUBTFUL:g}")
        return
    yield from _of_least(subject)
    kl = kl_per_dimension(Posterior(mean, log_var)).mean(0)
    collapsed, Z = int((kl < COLLAPSED).sum()), len(kl)
    if collapsed:
        grade = WARNING if collapsed == Z else NOTE
        seen = f"{collapsed} of {Z} latent dimensions carry less than {COLLAPSED:g} nats an image."
        yield Finding("collapse", grade, seen, float(collapsed), "0 dimensions")
    square = float((mean.square() + log_var.exp()).mean(0).max())
    if square > WIDEST:
        seen = f"A latent dimension's mean square over images is {square:.3g}; draws from the prior miss it."
        yield Finding("far_from_prior", WARNING, seen, square, f"1 under the prior, at most {WIDEST:g}")


def _of_least(subject: Subject) -> Iterator[Finding]:
    """Yields a finding if no image lowers a log-variance far enough; a fault only if all could be tried."""
    few = subject.first(COUNT)
    least = float(few.encode(few.images, few.labels).log_var.min())
    seen, tried = "Of all log-variances, also of images made to lower them, the least is {:.2g}.", True
    for lowered in (_of_noise, _of_descent):
        if least <= STUCK:
            return
        try:
            least = min(least, lowered(few))
        except Exception:  # no gradient through encode, or a module that refuses pixels beyond 1
            seen, tried = "The least log-variance is {:.2g}; not all images made to lower it work.", False
    if least > STUCK:
        # First weights of a deep encoder give nearly one answer to all images; training has yet to part them.
        grade = FAULT if subject.trained and tried and least < AT_THE_BOUND else WARNING
        sound = f"below {STUCK:g} for some image and dimension"
        yield Finding("sigma_stuck", grade, seen.format(least), least, sound)


def _of_noise(few: Subject) -> float:
    """Returns the least log-variance of images that are noise."""
    noise = (gain * torch.randn_like(few.images) for gain in GAINS)
    return min(float(few.encode(images, few.labels).log_var.min()) for images in noise)


def _of_descent(few: Subject) -> float:
    """Returns the least log-variance of images as they are changed to lower it."""
    x, least = few.images.clone(), math.inf
    for _ in range(STEPS):
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            log_var = few.encode(x, few.labels).log_var
            (slope,) = torch.autograd.grad(log_var.amin(-1).sum(), x)
        least = min(least, float(log_var.detach().min()))
        x = x - STEP * slope.sign()
    return least
