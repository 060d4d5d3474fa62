"""The model of a finished run in the hand, with what the run says of it.

Shapes: N images, C channels, H height and W width of an image, Z latent dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import torch
from omegaconf import DictConfig
from PIL.Image import Image

from vae_lab.data import Dataset
from vae_lab.data.arrays import MOST_CLASSES
from vae_lab.errors import LabError, UserError, quoted
from vae_lab.evaluation import ModelInHand
from vae_lab.evaluation.arguments import checked_count
from vae_lab.models import VAE
from vae_lab.objectives import Objective
from vae_lab.tracking import IMAGES, StoredRun
from vae_lab.tracking.records import parsed_object
from vae_lab.trained.display import model_html
from vae_lab.trained.explorer.widget import HEIGHT, Explorer
from vae_lab.trained.own_pictures import Adapted, Look, adapted, look_of, open_picture

LOOKED_AT = 200  # images, to say how the model's images look


class TrainedModel(ModelInHand):
    """The model of a finished run, and what the run says of it; `vae_lab.load` makes one.

    Images go in and come out as (N, C, H, W) with pixels in [0, 1], latent vectors as (N, Z). What goes in
    may be a tensor, an array or a list, on any device; what comes out are tensors on `device`, without
    gradients: for those there is `module`. Labels are whole numbers (N,), or one for all. A CVAE needs them;
    a VAE takes no notice of the labels of its images, and is asked for no class of choice.

    Attributes:
        run: The run as the store has it.
        metrics: Its metrics, the last value of each.
        config: Its config, typed and complete.
        module: The torch module, in evaluation mode, on `device`.
        objective: The loss that it was trained with; `likelihood` is that of the pixels.
        device: Where weights and results lie.
        chosen: Why it is this run, where a study's best was asked for; else empty.

    Examples:
        An image of each digit, and what lies between the first two::

            lab = vae_lab.load("reference:best")
            images, labels = lab.examples(2)
            between = lab.interpolate(*images, steps=9, labels=labels)     # (9, 1, 28, 28)
    """

    def __init__(
        self,
        run: StoredRun,
        config: DictConfig,
        module: VAE,
        objective: Objective,
        *,
        device: torch.device,
        load_data: Callable[[], Dataset],
        chosen: str = "",
    ) -> None:
        super().__init__(module, objective, device=device, load_data=load_data, name=run.name)
        self.run, self.config, self.chosen = run, config, chosen
        self.metrics = dict(run.metrics)

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image; a run of an older lab must load its data to know them."""
        match parsed_object(self.run.tags.get(IMAGES, "")).get("shape"):
            case [int(channels), int(height), int(width)]:
                return channels, height, width
        return self.data.shape

    @cached_property
    def classes(self) -> list[int]:
        """The labels of which it has seen images."""
        match parsed_object(self.run.tags.get(IMAGES, "")).get("classes"):
            case int(count) if 0 < count <= MOST_CLASSES:
                return [*range(count)]
        return self.data.trained_classes

    @cached_property
    def look(self) -> Look:
        """How its images look: those held out, or where the data cannot be had, those that it draws."""
        try:
            images, _ = self.examples(LOOKED_AT)
        except LabError:
            images = self.sample(LOOKED_AT)
        return look_of(images)

    @property
    def _remedy(self) -> str:
        """What to do about images that are too bright for it, as the end of a message."""
        if self.config.fault == "pixel_range":
            return "the run has fault=pixel_range, whose pixels nobody scales; look at its samples"
        return super()._remedy

    def read(self, picture: str | Path | Image, *, invert: bool | None = None) -> Adapted:
        """Returns a picture of one's own as an image (1, C, H, W), and in words what was done to it.

        Args:
            picture: A file, or a picture of Pillow's, of any size and colour.
            invert: Whether dark becomes light; None where the grounds of picture and images decide.

        Raises:
            UserError: There is no such file, or none that can be read.
        """
        if not isinstance(picture, str | Path | Image):
            raise UserError(f"picture={quoted(picture)}: must be a file's name or a picture of Pillow's.")
        opened = picture if isinstance(picture, Image) else open_picture(Path(picture))
        image, changes = adapted(opened, self.look, invert=invert)
        return Adapted(image.to(self.device), changes)

    def explore(self, *others: TrainedModel, height: int = HEIGHT) -> Explorer:
        """Returns a page that decodes in the browser, which a notebook shows: sliders, a map, own drawings.

        Args:
            others: Up to three models that have seen the same data, to stand beside this one.
            height: Of the frame in a notebook, in pixels.

        Raises:
            UserError: Their data differ, they are too many, or one is none of `vae_lab.load`.
            LabError: The data cannot be had.
        """
        # Late: what traces a model takes a second to import.
        from vae_lab.trained.explorer.contents import gather
        from vae_lab.trained.explorer.page import html

        for other in others:
            if not isinstance(other, TrainedModel):
                raise UserError(f"{quoted(other)}: must be a model that vae_lab.load has returned.")
        models = [self, *others]
        title = ", ".join(model.run.name for model in models)
        return Explorer(html(gather(models)), title, checked_count("height", height))

    def __repr__(self) -> str:
        """Returns the run's name, its held-out loss and its id."""
        loss = self.metrics.get("test/loss", math.nan)
        return f"TrainedModel({self.run.name!r}, held-out loss {loss:.2f} nats/image, run {self.run.run_id})"

    def _repr_html_(self) -> str:
        """Returns what a notebook shows: the run's name and figures above a few of its samples."""
        return model_html(self)
