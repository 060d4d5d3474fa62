"""The images that a model is asked about: a held-out one of a class, or a picture of the user's."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vae_lab.data import one_hot
from vae_lab.errors import quoted
from vae_lab.files import from_home
from vae_lab.objectives import kl_per_dimension
from vae_lab.tracking import whole_number
from vae_lab.trained.model import TrainedModel


class Subject(NamedTuple):
    """An image that a model is asked about."""

    image: Tensor  # (1, C, H, W) in [0, 1]
    label: int | None  # its class, where it is known or the model needs it
    words: str  # what it is
    changes: tuple[str, ...] = ()  # to a picture of the user's, in words


def held_out(lab: TrainedModel, count: int) -> list[Subject]:
    """Returns the first held-out images.

    Raises:
        LabError: The data cannot be had.
    """
    images, labels = lab.examples(count)
    return [
        Subject(image[None], label, f"a held-out {label}")
        for image, label in zip(images, labels.tolist(), strict=True)
    ]


def subject_named(
    lab: TrainedModel, name: str, label: int | None = None, invert: bool | None = None
) -> Subject:
    """Returns what a class or a file's name stands for.

    Args:
        lab: The model that is asked.
        name: A class, for its first held-out image, or the path of a picture of any size and colour.
        label: The class of a picture; without one a CVAE is given the class with the lowest loss.
        invert: Whether a picture's dark becomes light; None where its ground decides.

    Raises:
        UserError: There is no image of that class, or no such picture.
    """
    if (number := whole_number(name)) is not None:
        images, _ = lab.examples(1, number)
        return Subject(images, number, f"a held-out {number}")
    path = from_home(name)
    image, changes = lab.read(path, invert=invert)
    if lab.conditional and label is None:
        label = likeliest_label(lab, image)
        changes.append(f"taken as class {label}, whose loss is lowest")
    return Subject(image, label, quoted(path.name), tuple(changes))


@torch.no_grad()
def likeliest_label(lab: TrainedModel, image: Tensor) -> int:
    """Returns the class under which a CVAE's loss of an image (1, C, H, W) is lowest.

    The loss is the negative ELBO with the posterior's mean in place of a draw.
    """
    labels = torch.tensor(lab.classes, device=lab.device)
    x = image.flatten(1).expand(len(labels), -1)
    c = one_hot(labels, lab.module.condition_size)
    posterior = lab.module.posterior(x, c)
    logits = lab.module.logits(posterior.mean, c)
    losses = lab.likelihood.negative_log(logits, x) + kl_per_dimension(posterior).sum(-1)
    return lab.classes[int(losses.argmin())]
