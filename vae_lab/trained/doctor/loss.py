"""Whether a loss is reconstruction + beta KL, each summed over its last axis and averaged over images."""

from __future__ import annotations

import math
from collections.abc import Iterator

from vae_lab.trained.doctor.findings import FAULT, NOTE, WARNING, Finding, UnexaminedError
from vae_lab.trained.doctor.probes import ABSOLUTE, SQUARED, TOLERANCE, Probed, Term, probed
from vae_lab.trained.doctor.subject import Subject

ERRORS = (SQUARED, ABSOLUTE)  # whose unit is nobody's likelihood: a factor is theirs to choose
SOUND_WEIGHT = f"1 ± {TOLERANCE:g} times beta"


def check_loss(subject: Subject) -> Iterator[Finding]:
    """Yields what is wrong with the loss of a subject.

    Raises:
        UnexaminedError: There is none, it fails, or one of its terms is none of the known ones.
    """
    loss = probed(subject)
    yield from _of_formula(loss)
    if loss.reconstruction is None:
        raise UnexaminedError("the reconstruction is neither cross entropy nor squared or absolute error")
    if loss.kl is None:
        return
    yield from _of_batch(loss.kl, loss.reconstruction)
    kl, reconstruction = (_an_image(term, loss.n) for term in (loss.kl, loss.reconstruction))
    yield from _of_reductions(loss, kl, reconstruction, subject.beta)


def _of_formula(loss: Probed) -> Iterator[Finding]:
    by_mean, by_smaller, by_larger = loss.kl_ratios
    ratios = f"{by_mean:.3g} by the mean, {by_smaller:.3g} by smaller and {by_larger:.3g} by larger σ"
    if loss.kl is None:
        seen = f"What the posterior changes in the loss is no multiple of the KL's change: {ratios}."
        yield Finding("kl_formula", WARNING, seen, by_smaller / by_mean if by_mean else None, "one ratio")
    elif loss.kl.name:
        seen = f"The KL term is no KL: {loss.kl.words}; its changes are the right ones' times {ratios}."
        yield Finding(loss.kl.name, FAULT, seen, by_smaller / by_mean, "one ratio")
    elif loss.kl.scale < 0:
        seen = f"The KL is subtracted from the loss: its weight is {loss.kl.scale:.3g}."
        yield Finding("kl_sign", FAULT, seen, loss.kl.scale, "a positive weight")


def _of_batch(kl: Term, reconstruction: Term) -> Iterator[Finding]:
    if not kl.scale:
        return
    if kl.summed and reconstruction.summed:
        seen = "Twice the images double the loss: it is a sum over the minibatch."
        yield Finding("batch_sum", NOTE, seen, 2.0, "1, a mean")
    elif kl.summed or reconstruction.summed:
        one, other = ("KL", "reconstruction") if kl.summed else ("reconstruction", "KL")
        seen = f"Twice the images double the {one} and leave the {other}: the minibatch's size is a weight."
        yield Finding("batch_size", FAULT, seen, 2.0, "1, both terms alike")


def _an_image(term: Term, images: int) -> float:
    """Returns the scale of a term for a mean over the images of the minibatch."""
    return term.scale / images if term.summed else term.scale


def _of_reductions(loss: Probed, kl: float, reconstruction: float, beta: float) -> Iterator[Finding]:
    """Yields findings of the terms' scales, for a mean over images."""
    assert loss.reconstruction is not None
    if not beta:  # an autoencoder, whose reconstruction may have any scale
        if kl:
            seen = f"The KL weighs {kl / reconstruction:.3g} times the reconstruction, where 0 is declared."
            yield Finding("kl_weight", FAULT, seen, kl / reconstruction, "0, no KL at all")
        return
    is_error = loss.reconstruction.name in ERRORS
    halves = (1.0, 0.5) if is_error else (1.0,)  # squared errors come with a half, or without
    weight = kl / reconstruction / beta
    if any(_is_near(weight, 1 / half) for half in halves):
        if not any(_is_near(reconstruction, half) for half in halves):
            seen = f"The loss is {reconstruction:.3g} times the negative ELBO in nats per image."
            yield Finding("loss_scale", NOTE, seen, reconstruction, "1")
        return
    pixels_averaged = any(_is_near(reconstruction * loss.D, half) for half in halves)
    latent_averaged = loss.Z > 1 and _is_near(kl * loss.Z, beta)
    by_pixels = _is_near(kl * loss.D, beta)
    if pixels_averaged and (latent_averaged or _is_near(kl, beta)):
        name = loss.reconstruction.name
        seen = f"The {name} is a mean over {loss.D} pixels: its weight is {reconstruction:.3g}."
        yield Finding("reconstruction_mean", FAULT, seen, reconstruction, "1, a sum over pixels")
    if latent_averaged or by_pixels:
        over = f"{loss.Z} latent dimensions" if latent_averaged else f"{loss.D} pixels"
        seen = f"The KL is a mean over {over}: its weight is {kl:.3g}."
        yield Finding("kl_mean", FAULT, seen, kl, f"{SOUND_WEIGHT}, a sum")
    elif kl >= 0 and not (pixels_averaged and _is_near(kl, beta)):
        yield from _of_weight(weight, beta, loss.reconstruction.name)


def _of_weight(weight: float, beta: float, reconstruction: str) -> Iterator[Finding]:
    """Yields a finding if the KL has another weight than beta.

    Args:
        weight: Of the KL, over beta and the reconstruction's scale.
        beta: The declared weight.
        reconstruction: What the reconstruction is called.
    """
    if reconstruction not in ERRORS:
        seen = f"The KL weighs {weight * beta:.3g} times the reconstruction, where {beta:g} is declared."
        yield Finding("kl_weight", FAULT, seen, weight, SOUND_WEIGHT)
        return
    if reconstruction == SQUARED:  # over 2 std², it is a Gaussian's
        width, words = math.sqrt(max(weight, 0.0) / 2), "pixels with a standard deviation"
    else:  # over its scale, it is a Laplace distribution's
        width, words = weight, "Laplace pixels with a scale"
    if not 0.003 <= width <= 1.1:
        seen = f"The error's weight beside the KL is that of {words} of {width:.2g}."
        yield Finding("kl_weight", FAULT, seen, width, "0.003 to 1, in units where white is 1")


def _is_near(value: float, target: float) -> bool:
    return abs(value - target) <= TOLERANCE * abs(target)
