"""Pixels: the range of images and of what the decoder gives, their kind, and what z and the label do to them.

Shapes: N images, D pixels, P outputs of the decoder, Z latent dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor
from torch.special import entr

from vae_lab.trained.doctor.findings import FAULT, NOTE, WARNING, Finding, UnexaminedError, reason_of
from vae_lab.trained.doctor.probes import probed
from vae_lab.trained.doctor.subject import IMAGES, LOGITS, Subject, pixels_of

EDGE = 1e-3  # by which rounding may leave a range
COUNT = 64  # images and draws of z
FAR = 30.0  # standard deviations of z at which a decoder's last activation is at its limits
OUTSIDE = 0.1  # pixels beyond [-0.1, 1.1] are none of a decoder that was trained on [0, 1]
MANY = 0.02  # share of them
NOTHING, LITTLE = 1e-8, 1e-3  # of the pixels' variance
GREY = 0.02  # pixels between it and 1 - it are grey
FEW_GREY = 0.005  # share of grey pixels of binarized images


def check_range(subject: Subject) -> Iterator[Finding]:
    """Yields what is wrong with the range of pixels, of images and of what is shown as such."""
    for name, images in (("held-out", subject.images), ("training", subject.train_images)):
        if images is None:
            continue
        least, largest = float(images.min()), float(images.max())
        if least < -EDGE or largest > 1 + EDGE or largest <= 2 / 255:
            seen = f"Pixels of {name} images run from {least:.3g} to {largest:.3g}."
            yield Finding("pixel_range", FAULT, seen, largest, "0 to 1")
            return
    if subject.decode is None:
        raise UnexaminedError("needs decode")
    yield from _of_output(subject.first(COUNT))


def _of_output(subject: Subject) -> Iterator[Finding]:
    assert subject.decode is not None
    mean = subject.encode(subject.images, subject.labels).mean
    near = torch.cat([subject.decode(z, subject.labels).flatten(1) for z in (mean, torch.randn_like(mean))])
    far = subject.decode(FAR * torch.randn_like(mean), subject.labels).flatten(1)
    within = bool(torch.cat([near, far]).ge(-EDGE).all() and torch.cat([near, far]).le(1 + EDGE).all())
    span = f"{float(near.min()):.3g} to {float(near.max()):.3g}"
    if within and _are_logits(subject, near):
        seen = f"What the decoder gives as logits lies from {span}: a sigmoid has been applied."
        yield Finding("sigmoid_twice", FAULT, seen, float(near.min()), "logits below 0 and above 1")
        return
    if subject.output == IMAGES and float(far.min()) < -0.5 and float(far.abs().max()) <= 1 + EDGE:
        seen = (
            f"The decoder's images reach down to {float(far.min()):.3g}, as a tanh's do; the pixels do not."
        )
        yield Finding("pixel_range", FAULT, seen, float(far.min()), "0 to 1, as the pixels")
        return
    shown = subject.images_of(near)
    outside = float(((shown < -OUTSIDE) | (shown > 1 + OUTSIDE)).float().mean())
    if outside > MANY:
        seen = f"{outside:.0%} of the pixels that are shown lie outside [0, 1]; they run from {span}."
        yield Finding("sigmoid_missing", FAULT, seen, outside, f"at most {MANY:.0%} of pixels")


def _are_logits(subject: Subject, outputs: Tensor) -> bool:
    """Returns whether outputs (N, P) from 0 to 1 are taken for logits, by the loss or by what is shown."""
    taken = taken_by_the_loss(subject)
    if taken is not None or subject.output != LOGITS or subject.expected is None:
        return (taken or subject.output) == LOGITS
    black = subject.shown(torch.zeros_like(outputs))  # if they are images; of the logit 0 it is grey
    return bool(black.mean() > OUTSIDE)


def taken_by_the_loss(subject: Subject) -> str | None:
    """Returns whether the loss takes logits or images; None if it does not say."""
    try:
        reconstruction = probed(subject).reconstruction
    except UnexaminedError:
        return None
    return None if reconstruction is None else reconstruction.takes


def check_decoder(subject: Subject) -> None:
    """Calls the decoder with as many z as the checks do, which may be more than it was ever called with.

    Raises:
        UnexaminedError: It fails, or has failed when it was first called.
    """
    if subject.decode is None:
        if subject.undecoded:
            raise UnexaminedError(subject.undecoded)
        return
    for part in (subject.first(COUNT), subject):
        mean = part.encode(part.images, part.labels).mean
        try:
            subject.decode(mean, part.labels)
        except Exception as error:  # a module of anybody's raises what it likes
            raise UnexaminedError(f"fails for {len(mean)} z: {reason_of(error)}") from error


def with_output(subject: Subject) -> Subject:
    """Returns the subject with what its decoder gives: as declared, as the loss takes it, or by its range."""
    output = subject.output or taken_by_the_loss(subject)
    if output is None and subject.decode is not None:
        few = subject.first(COUNT)
        given = subject.decode(few.encode(few.images, few.labels).mean, few.labels)
        output = IMAGES if bool((given >= -EDGE).all() and (given <= 1 + EDGE).all()) else LOGITS
    return replace(subject, output=output)


def check_use_of_z(subject: Subject) -> Iterator[Finding]:
    """Yields whether the decoder's images depend on z at all."""
    if subject.decode is None:
        raise UnexaminedError("needs decode")
    few = subject.first(COUNT)
    z = torch.randn_like(few.encode(few.images, few.labels).mean)
    labels = None if few.labels is None else few.labels[:1].expand_as(few.labels)
    response = float(few.shown(subject.decode(z, labels)).var(0).mean()) / _variance(subject)
    if response < LITTLE:
        decode = subject.decode
        is_fault = _is_cut_off(subject, response, lambda z: decode(z, labels), z)
        grade, name = (FAULT, "ignores_z") if is_fault else (WARNING, "z_hardly_used")
        seen = (
            f"Draws of z from the prior change the decoded images by {response:.2g} of the pixels' variance."
        )
        yield Finding(name, grade, seen, response, f"at least {LITTLE:g}")


def check_condition(subject: Subject) -> Iterator[Finding]:
    """Yields whether the decoder's images depend on the label.

    Raises:
        UnexaminedError: There are no labels, or all are the same.
    """
    if subject.labels is None:
        raise UnexaminedError("no labels: the model has no condition, or labels= says which")
    if subject.decode is None:
        raise UnexaminedError("needs decode")
    z = torch.randn_like(subject.encode(subject.images, subject.labels).mean)
    others = subject.labels[torch.randperm(len(subject.labels), device=subject.labels.device)]
    changed = (others != subject.labels).flatten(1 if others.ndim > 1 else 0)
    if not bool(changed.any()):
        raise UnexaminedError("all labels are the same")
    own, other = (subject.shown(subject.decode(z, labels)) for labels in (subject.labels, others))
    response = float((own - other).square().mean()) / _variance(subject)
    if response < LITTLE:
        decode = subject.decode
        is_fault = _is_cut_off(subject, response, lambda labels: decode(z, labels), subject.labels)
        grade = FAULT if is_fault else WARNING
        seen = f"Other labels change the decoded images by {response:.2g} of the pixels' variance."
        yield Finding("condition_ignored", grade, seen, response, f"at least {LITTLE:g}")


def _is_cut_off(
    subject: Subject, response: float, decode: Callable[[Tensor], Tensor], argument: Tensor
) -> bool:
    """Returns whether decoded images do not depend on an argument.

    In first weights each layer passes on about a sixth of a variance, which leaves next to nothing of ten
    layers: of these it is asked whether the argument has a gradient at all.
    """
    if subject.trained or response >= NOTHING:
        return response < NOTHING
    with torch.enable_grad():
        variable = argument.clone().requires_grad_()
        output = decode(1 * variable)  # as a decoder may change it in place
        if not output.requires_grad:
            return True
        weights = torch.randn_like(output)
        (slope,) = torch.autograd.grad((weights * output).sum(), variable, allow_unused=True)
    return slope is None or not bool(slope.any())


def check_grey(subject: Subject) -> Iterator[Finding]:
    """Yields whether training and held-out pixels are of one kind, and whether cross entropy has a floor."""
    held_out = grey_share(subject.images)
    train = held_out if subject.train_images is None else grey_share(subject.train_images)
    if (train < FEW_GREY) != (held_out < FEW_GREY):
        seen = f"{train:.1%} of training pixels are grey, and {held_out:.1%} of held-out ones."
        yield Finding("grey_binarized", FAULT, seen, held_out - train, "grey in both, or in neither")
    elif held_out >= FEW_GREY and _is_cross_entropy(subject):
        x = pixels_of(subject.images).clamp(0, 1)
        floor = float((entr(x) + entr(1 - x)).sum(-1).mean())
        seen = f"The cross entropy of grey pixels is no -log p(x): it stays above {floor:.1f} nats an image."
        yield Finding("grey_pixels", NOTE, seen, floor, "0 nats, for binarized pixels")


def grey_share(images: Tensor) -> float:
    """Returns the share of pixels that are neither black nor white.

    Examples:
        >>> grey_share(torch.tensor([[0.0, 1.0, 0.5, 0.0]]))
        0.25
    """
    return float(((images > GREY) & (images < 1 - GREY)).float().mean())


def _is_cross_entropy(subject: Subject) -> bool:
    try:
        reconstruction = probed(subject).reconstruction
    except UnexaminedError:
        return False
    return reconstruction is not None and reconstruction.name.startswith("cross entropy")


def _variance(subject: Subject) -> float:
    """Returns the pixels' mean variance over images, at most that of black and white ones."""
    return min(float(pixels_of(subject.images).var(0).mean()), 0.25) or 0.25
