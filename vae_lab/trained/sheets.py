"""What the commands draw of a trained model: samples, blends, traversals and reconstructions, with titles."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vae_lab.evaluation.arguments import checked_count
from vae_lab.evaluation.in_hand import FEWEST_STEPS
from vae_lab.report.drawing import Drawing
from vae_lab.report.pictures import image_grid
from vae_lab.trained.model import TrainedModel
from vae_lab.trained.subjects import Subject

COLUMNS = 10
WIDEST, HIGHEST = 40, 200  # images; Matplotlib draws no more than 65,535 pixels
LETTER = 0.085  # inches of a title's


def samples(lab: TrainedModel, labels: Sequence[int], count: int, seed: int) -> Drawing:
    """Returns images decoded from draws of the prior.

    Args:
        lab: The model.
        labels: Classes of a CVAE, one a row; without any a CVAE's classes take turns.
        count: How many images; with several labels, of each.
        seed: Starts the draw. The images of a column share their latent vector.

    Raises:
        UserError: The model draws no such class, or there are too many images.
    """
    title = f"draws of the prior, seed {seed}"
    if len(labels) > 1:
        rows = [lab.sample(checked_count("count", count, most=WIDEST), label, seed) for label in labels]
        return _sheet(lab, "samples", torch.stack(rows), title, [str(label) for label in labels])
    checked_count("count", count, most=COLUMNS * HIGHEST)
    label = labels[0] if labels else None
    named = "" if label is None else f", class {label}"
    drawn = lab.sample(count, label, seed)
    return _sheet(lab, "samples", drawn, f"{title}{named}")


def blends(lab: TrainedModel, first: Subject, last: Subject, steps: int) -> Drawing:
    """Returns one row of images from one subject to another; the two themselves stand at its ends.

    Raises:
        UserError: There are too few steps or too many.
    """
    checked_count("steps", steps, FEWEST_STEPS, WIDEST - 2)
    labels = [first.label, last.label] if lab.conditional else None
    between = lab.interpolate(first.image[0], last.image[0], steps, labels=labels)
    images = torch.cat([first.image, between, last.image])
    title = f"from {first.words} to {last.words}, between the originals"
    return _sheet(lab, "interpolation", images[None], title)


def traversals(
    lab: TrainedModel, subject: Subject | None, rows: int | None, steps: int, span: float
) -> Drawing:
    """Returns a row of images for each latent dimension, the most informative first.

    Args:
        lab: The model.
        subject: The image from whose posterior mean one dimension at a time leaves; None for the prior's.
        rows: How many dimensions; None for all, of more than 200 the first 200, which is said.
        steps: Images a row, both ends included.
        span: In standard deviations of the prior.

    Raises:
        UserError: A number is out of range.
    """
    checked_count("steps", steps, FEWEST_STEPS, WIDEST)
    most = min(lab.latent_size, HIGHEST)
    count = most if rows is None else checked_count("rows", rows, most=most)
    dimensions = lab.order[:count].tolist()
    start, label, where = None, None, "the mean of the prior"
    if subject is not None:
        start, where = lab.encode(subject.image, subject.label).mean[0], subject.words
        label = subject.label if lab.conditional else None
    elif lab.conditional:
        label = lab.classes[0]
        where = f"{where}, class {label}"
    images = lab.traverse(start, label=label, dimensions=dimensions, steps=steps, span=span)
    all_of_them, first = "each latent dimension", f"the first {count} of {lab.latent_size} latent dimensions"
    which = all_of_them if count == lab.latent_size else first
    title = f"along {which} from -{span:g} to {span:g}, around {where}"
    names = [f"{dimension}: {lab.kl[dimension]:.2f} nats" for dimension in dimensions]
    return _sheet(lab, "traversal", images, title, names)


def reconstructions(lab: TrainedModel, subjects: Sequence[Subject]) -> Drawing:
    """Returns images as the model is shown them, each above its reconstruction.

    Raises:
        UserError: There are too many.
    """
    checked_count("pictures", len(subjects), most=WIDEST)
    images = torch.cat([subject.image for subject in subjects])
    labels = [subject.label for subject in subjects] if lab.conditional else None
    both = torch.stack([images, lab.reconstruct(images, labels)])
    return _sheet(lab, "reconstruction", both, "reconstructions", ["as it is shown", "reconstructed"])


def _sheet(lab: TrainedModel, name: str, images: Tensor, title: str, rows: Sequence[str] = ()) -> Drawing:
    """Returns images (N, C, H, W), or (rows, columns, C, H, W), under the model's name."""
    columns = images.shape[1] if images.ndim == 5 else min(COLUMNS, len(images))
    flat = images.reshape(-1, images[0].numel() // (columns if images.ndim == 5 else 1))
    drawing = image_grid(name, flat, lab.shape, columns, f"{lab.run.name}\n{title}", rows)
    return drawing._replace(width=max(drawing.width, LETTER * max(len(title), len(lab.run.name))))
