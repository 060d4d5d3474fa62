"""A small convolutional classifier of a data set's classes, trained once and kept in the user's cache.

The field judges samples with a network trained on photographs. Digits are no photographs, and its weights
would have to be fetched, so the lab trains a judge of its own on the training images of each data set.

Shapes: N images, D pixels of an image over all channels, F features, C classes.
"""

from __future__ import annotations

import functools
import hashlib
import io
import logging
import math
from pathlib import Path
from typing import NamedTuple

import torch
from filelock import FileLock
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from vae_lab import code_version, folders, interruption, sealed, seeding
from vae_lab.data import Batches, Dataset, Images
from vae_lab.errors import LabError

log = logging.getLogger(__name__)

FEATURES = 64  # F; a few hundred samples already give their covariance full rank
BATCH = 128
EPOCHS, FEWEST_STEPS = 4, 400  # more epochs where they are short: the 8 x 8 digits have 12 steps in one
RELIABLE = 0.9  # share of held-out images; below it what is said of samples says little
PEAK_RATE = 4e-3  # of the one-cycle schedule


class Judge(NamedTuple):
    """What the classifier says of images."""

    probabilities: Tensor  # (N, C)
    features: Tensor  # (N, F)


class Classifier(nn.Module):
    """Two convolutions, a layer of features and one of classes, for images of any size.

    Args:
        shape: channels, height, width of one image.
        classes: C.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        self.shape = shape
        self.features = nn.Sequential(
            nn.Conv2d(shape[0], 24, 5, stride=2, padding=2, bias=False),
            nn.BatchNorm2d(24),
            nn.ReLU(),
            nn.Conv2d(24, 48, 3, padding=1, bias=False),
            nn.AdaptiveMaxPool2d(6),
            nn.BatchNorm2d(48),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(48 * 6 * 6, FEATURES),
            nn.ReLU(),
        )
        self.classes = nn.Linear(FEATURES, classes)
        self.to(memory_format=torch.channels_last)  # three times as fast on a CPU

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits (N, C) and features (N, F) of images x (N, D) in [0, 1]."""
        pixels = x.reshape(-1, *self.shape).contiguous(memory_format=torch.channels_last)
        features: Tensor = self.features(pixels)
        return self.classes(features), features

    @torch.inference_mode()
    def judge(self, x: Tensor, *, batch_size: int = 1000) -> Judge:
        """Probabilities and features of images x (N, D) in [0, 1], on the classifier's device."""
        self.eval()
        parts = [self(part.to(self.classes.weight.device)) for part in torch.split(x, batch_size)]
        logits, features = (torch.cat(each) for each in zip(*parts, strict=True))
        return Judge(logits.softmax(-1), features)


class Trained(NamedTuple):
    """A classifier and the share of held-out images whose class it finds."""

    model: Classifier
    accuracy: float


def trained(data: Dataset) -> Trained:
    """The classifier of a data set, on the data's device, from the cache or trained now.

    A file that is damaged, or was written by other code or for other data, is not used.

    Raises:
        LabError: the cache cannot be written.
    """
    folder = folders.cache("classifiers")
    path = folder / f"{data.name}-{key(data.checksum)}.pt"
    found = _load(path, data)
    if found is None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_suffix(".lock")):
                found = _load(path, data)  # again, now that no other process is training it
                if found is None:
                    found = _train(data)
                    _save(path, found)
        except OSError as error:
            raise LabError(f"evaluation.samples: no classifier can be kept in {folder}: {error}.") from None
    if found.accuracy < RELIABLE:
        _warn(data.name, found.accuracy)
    return Trained(found.model.to(data.train.pixels.device).eval(), found.accuracy)


@functools.cache  # once, and not for every run that is judged
def _warn(name: str, accuracy: float) -> None:
    share = f"{100 * accuracy:.1f} %"
    log.warning("The classifier that judges samples finds only %s of the held-out images of %s.", share, name)


@functools.cache
def key(checksum: str) -> str:
    """Twelve hex digits of the classifier's code and of the checksum of the data that it learns."""
    return hashlib.sha256(f"{code_version.checksum([__file__])} {checksum}".encode()).hexdigest()[:12]


def _train(data: Dataset) -> Trained:
    log.info("Training the classifier that judges samples of %s: once, a minute or two.", data.name)
    device = data.train.pixels.device
    with seeding.global_generator(0, "classifier"):
        model = Classifier(data.shape, data.classes).to(device)
    batches = Batches(data.train, batch_size=BATCH, C=data.classes, seed=0)
    epochs = max(EPOCHS, math.ceil(FEWEST_STEPS / len(batches)))
    optimizer = torch.optim.Adam(model.parameters(), lr=PEAK_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=epochs * len(batches))
    model.train()
    for epoch in range(epochs):
        for x, y in batches(epoch):
            interruption.check_now()
            optimizer.zero_grad()
            cross_entropy(model(x)[0], y).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return Trained(model, _accuracy(model, data.test))


def _accuracy(model: Classifier, images: Images) -> float:
    found = model.judge(images.scaled(slice(None))).probabilities.argmax(-1)
    return float((found == images.labels).double().mean())


def _save(path: Path, trained: Trained) -> None:
    weights = {name: value.cpu() for name, value in trained.model.state_dict().items()}
    content = io.BytesIO()
    torch.save({"weights": weights, "accuracy": trained.accuracy}, content)
    sealed.write(path, content.getvalue())


def _load(path: Path, data: Dataset) -> Trained | None:
    """The classifier in a file of `_save`; None if it is not there or not as it was written."""
    try:
        raw = sealed.read(path)
    except FileNotFoundError:
        return None
    except sealed.DamagedError as error:
        log.warning("%s The classifier is trained again.", error)
        return None
    stored = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
    model = Classifier(data.shape, data.classes)
    model.load_state_dict(stored["weights"])
    return Trained(model, stored["accuracy"])
