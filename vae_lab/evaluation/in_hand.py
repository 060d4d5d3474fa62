"""A trained model with its likelihood: it encodes, decodes, reconstructs, draws and blends images.

Shapes: N images, C channels, H height and W width of an image, D = C H W pixels, Z latent dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from vae_lab import devices
from vae_lab.data import Dataset
from vae_lab.errors import LabError, UserError, quoted
from vae_lab.evaluation.arguments import (
    Numbers,
    checked_count,
    checked_dimensions,
    checked_images,
    checked_labels,
    checked_latents,
    checked_number,
    checked_seed,
    is_number,
)
from vae_lab.evaluation.decoded import TOGETHER, prior_samples
from vae_lab.evaluation.latent import posteriors
from vae_lab.models import VAE, Posterior
from vae_lab.objectives import Likelihood, Objective, kl_per_dimension

FEWEST_STEPS = 2  # from one end to the other, both ends included


class ModelInHand:
    """A trained model that takes and gives images; what `evaluation.metrics` are functions of.

    Images go in and come out as (N, C, H, W) with pixels in [0, 1], latent vectors as (N, Z). What goes in
    may be a tensor, an array or a list, on any device; what comes out are tensors on `device`, without
    gradients: for those there is `module`. Labels are whole numbers (N,), or one for all. A CVAE needs them;
    a VAE takes no notice of the labels of its images, and is asked for no class of choice.

    Args:
        module: The torch module; it is put in evaluation mode.
        objective: The loss that it was trained with; `likelihood` is that of the pixels.
        device: Where weights and results lie.
        load_data: Returns its data set, when that is first asked for.
        name: What messages call it.
    """

    def __init__(
        self,
        module: VAE,
        objective: Objective,
        *,
        device: torch.device,
        load_data: Callable[[], Dataset],
        name: str,
    ) -> None:
        self.module, self.objective = module.eval(), objective
        self.device, self.name = device, name
        self._load_data = load_data

    @property
    def likelihood(self) -> Likelihood:
        """The likelihood of the pixels."""
        return self.objective.likelihood

    @property
    def latent_size(self) -> int:
        """Z, the number of latent dimensions."""
        return self.module.latent_size

    @property
    def conditional(self) -> bool:
        """Whether it is a CVAE, which encodes and decodes with a label."""
        return self.module.condition_size > 0

    @cached_property
    def data(self) -> Dataset:
        """The data set on `device`, as the model saw it: read, or fetched, when it is first asked for.

        Raises:
            LabError: The data cannot be had, or are not those that the model was trained on.
        """
        return self._load_data()

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        return self.data.shape

    @cached_property
    def classes(self) -> list[int]:
        """The labels of which it has seen images."""
        return self.data.trained_classes

    @property
    def _remedy(self) -> str:
        """What to do about images that are too bright for it, as the end of a message."""
        return "divide by 255"

    @cached_property
    def kl(self) -> Tensor:
        """The KL to the prior (Z,) of each latent dimension, in nats, its mean over held-out images.

        Raises:
            LabError: The data cannot be had.
        """
        posterior = posteriors(self.module, self.data.test)
        return kl_per_dimension(posterior).cpu().double().mean(0)

    @cached_property
    def order(self) -> Tensor:
        """The latent dimensions (Z,), that with the largest `kl` first.

        Raises:
            LabError: The data cannot be had.
        """
        return self.kl.argsort(descending=True, stable=True)

    def examples(self, count: int, label: int | None = None) -> tuple[Tensor, Tensor]:
        """Returns the first held-out images (N, C, H, W) and their labels (N,), N at most `count`.

        Args:
            count: How many.
            label: Only images of this class.

        Raises:
            UserError: There is no such image.
            LabError: The data cannot be had.
        """
        held_out = self.data.test
        index = torch.arange(len(held_out), device=held_out.labels.device)
        if label is not None:
            index = index[held_out.labels == label]
            if not len(index):
                valid = ", ".join(map(str, self.classes))
                raise UserError(f"label={quoted(label)}: no held-out image has it. Valid: {valid}.")
        index = index[: checked_count("count", count)]
        return self._images(held_out.scaled(index)), held_out.labels_at(index)

    @torch.no_grad()
    def encode(self, images: Numbers, labels: Numbers | int | None = None) -> Posterior:
        """Returns the posterior q(z | x) of each image: mean and log-variance, each (N, Z).

        Args:
            images: Pixels in [0, 1], (N, C, H, W).
            labels: Their classes (N,), or one for all; a CVAE needs them.

        Raises:
            UserError: A shape, a pixel or a label does not fit.
        """
        x = checked_images(images, self.shape, self.device, self._remedy)
        batches = _together(x, self._conditions(labels, len(x)))
        with devices.float32_products("float32", self.device):
            means, log_vars = zip(*(self.module.posterior(*batch) for batch in batches), strict=True)
        return Posterior(torch.cat(means), torch.cat(log_vars))

    @torch.no_grad()
    def decode(self, z: Numbers, labels: Numbers | int | None = None) -> Tensor:
        """Returns the image (N, C, H, W) that is expected of each latent vector, in [0, 1].

        Args:
            z: Latent vectors (N, Z), in standard deviations of the prior.
            labels: The classes to decode (N,), or one for all; a CVAE needs them.

        Raises:
            UserError: A shape or a label does not fit, or a VAE is asked for one class.
        """
        if not self.conditional and is_number(labels):
            raise self._without_classes("labels", labels)
        latents = checked_latents(z, self.latent_size, self.device)
        return self._decoded(latents, self._conditions(labels, len(latents)))

    def reconstruct(self, images: Numbers, labels: Numbers | int | None = None) -> Tensor:
        """Returns each image (N, C, H, W) as it is decoded from the mean of its posterior.

        Args:
            images: Pixels in [0, 1], (N, C, H, W).
            labels: Their classes (N,), or one for all; a CVAE needs them.

        Raises:
            UserError: A shape, a pixel or a label does not fit.
        """
        return self.decode(self.encode(images, labels).mean, labels if self.conditional else None)

    def sample(self, count: int, label: int | None = None, seed: int = 0) -> Tensor:
        """Returns images (N, C, H, W) of latent vectors that are drawn from the prior, N = `count`.

        Args:
            count: How many.
            label: The class of all of them; without one a CVAE draws its classes in turn.
            seed: Starts the draw; a whole number, the same on every device.

        Raises:
            UserError: `count` is below 1, `seed` is none, or the model cannot draw that class.
        """
        if label is not None:
            if not self.conditional:
                raise self._without_classes("label", label)
            if not is_number(label):
                raise UserError(f"label={quoted(label)}: must be one class, which all images have.")
            label = int(self._conditions(label, 1).argmax())
        classes = ([label] if label is not None else self.classes) if self.conditional else []
        number, start = checked_count("count", count), checked_seed(seed)
        drawn = prior_samples(self.module, self.likelihood, number, seed=start, classes=classes)
        return self._images(drawn.to(self.device))

    def traverse(
        self,
        start: Numbers | None = None,
        *,
        label: int | None = None,
        dimensions: Sequence[int] | Tensor | None = None,
        steps: int = 9,
        span: float = 3.0,
    ) -> Tensor:
        """Returns images (rows, steps, C, H, W): along each row one latent dimension goes from -span to span.

        Args:
            start: The latent vector (Z,) whose other dimensions stay; without one the prior's mean, zeros.
            label: The class that a CVAE decodes; without one the first of `classes`.
            dimensions: One a row; without any all of them, the most informative (`order`) first.
            steps: Images a row, both ends included: 2 or more.
            span: In standard deviations of the prior.

        Raises:
            UserError: There is no such dimension or class, or a number is out of range.
            LabError: No dimensions are named, and the data that tell their order cannot be had.
        """
        wanted = self.order if dimensions is None else dimensions
        rows, columns = (
            checked_dimensions(wanted, self.latent_size),
            checked_count("steps", steps, FEWEST_STEPS),
        )
        base = torch.zeros(self.latent_size) if start is None else start
        z = checked_latents([base], self.latent_size, self.device).repeat(len(rows), columns, 1)
        end = checked_number("span", span)
        for row, dimension in enumerate(rows):
            z[row, :, dimension] = torch.linspace(-end, end, columns, device=self.device)
        label = self.classes[0] if self.conditional and label is None else label
        images: Tensor = torch.unflatten(self.decode(z.flatten(0, 1), label), 0, (len(rows), columns))
        return images

    @torch.no_grad()
    def interpolate(
        self, a: Numbers, b: Numbers, steps: int = 9, *, labels: Numbers | int | None = None
    ) -> Tensor:
        """Returns images (steps, C, H, W) from `a` to `b`, whose latent vectors lie on a line.

        The line runs between the means of the two posteriors. A CVAE's labels are blended as well, where they
        differ, which it has not been trained on.

        Args:
            a: The first image, (C, H, W).
            b: The last one.
            steps: How many images, both ends included: 2 or more.
            labels: The classes of the two (2,), or one for both; a CVAE needs them.

        Raises:
            UserError: A shape, a pixel or a label does not fit, or `steps` is below 2.
        """
        z = self.encode([a, b], labels).mean
        c = self._conditions(labels, 2)
        count = checked_count("steps", steps, FEWEST_STEPS)
        share = torch.linspace(0, 1, count, device=self.device)[:, None]
        return self._decoded(torch.lerp(z[:1], z[1:], share), torch.lerp(c[:1], c[1:], share))

    def _conditions(self, labels: Numbers | int | None, count: int) -> Tensor:
        return checked_labels(labels, count, self.module.condition_size, self.device)

    def _without_classes(self, key: str, label: Any) -> UserError:
        return UserError(f"{key}={quoted(label)}: {self.name} is a VAE, which draws no class of choice.")

    def _decoded(self, z: Tensor, c: Tensor) -> Tensor:
        with devices.float32_products("float32", self.device):
            decoded = [self.likelihood.mean(self.module.logits(*batch)) for batch in _together(z, c)]
        return self._images(torch.cat(decoded))

    def _images(self, pixels: Tensor) -> Tensor:
        """Returns pixels (N, D) as images (N, C, H, W)."""
        if pixels.shape[-1] != math.prod(self.shape):
            raise LabError(f"{self.name}: has {pixels.shape[-1]} pixels, not those of {self.shape}.")
        return pixels.float().reshape(-1, *self.shape)


def _together(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yields as many of their rows at a time as are encoded or decoded at once."""
    return zip(*(torch.split(tensor, TOGETHER) for tensor in tensors), strict=True)
