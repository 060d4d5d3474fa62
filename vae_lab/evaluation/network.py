"""The network that judges samples, and its training; `classifier` trains it anew when this code changes.

Shapes: N images, D pixels of an image over all channels, F features, C classes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from vae_lab import interruption, seeding
from vae_lab.data import Batches, Dataset, Images

FEATURES = 64  # F; a few hundred samples already give their covariance full rank
BATCH = 128
EPOCHS, FEWEST_STEPS = 4, 400  # more epochs where they are short: the 8 x 8 digits have 12 steps in one
PEAK_RATE = 4e-3  # of the one-cycle schedule


class Judgement(NamedTuple):
    """The classifier's outputs for images."""

    probabilities: Tensor  # (N, C)
    features: Tensor  # (N, F)


class Classifier(nn.Module):
    """Two convolutions, a layer of features and one of classes, for images of any size.

    Args:
        shape: Channels, height, width of one image.
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
        """Returns class logits (N, C) and features (N, F) of images x (N, D) in [0, 1]."""
        pixels = x.reshape(-1, *self.shape).contiguous(memory_format=torch.channels_last)
        features: Tensor = self.features(pixels)
        return self.classes(features), features

    @torch.inference_mode()
    def judge(self, x: Tensor, *, batch_size: int = 1000) -> Judgement:
        """Returns probabilities and features of images x (N, D) in [0, 1], on the classifier's device."""
        self.eval()
        outputs = [self(batch.to(self.classes.weight.device)) for batch in torch.split(x, batch_size)]
        logits, features = (torch.cat(tensors) for tensors in zip(*outputs, strict=True))
        return Judgement(logits.softmax(-1), features)


def train(data: Dataset, number: int = 0) -> Classifier:
    """Returns a classifier of the training images.

    Its number is the seed of first weights and batches: on one machine it gives the same weights every time.
    """
    device = data.train.pixels.device
    with seeding.global_generator(number, "classifier"):
        model = Classifier(data.shape, data.classes).to(device)
    batches = Batches(data.train, batch_size=BATCH, C=data.classes, seed=number)
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
    return model


def accuracy(model: Classifier, images: Images) -> float:
    """Returns the share of images that the classifier assigns to their class."""
    predicted = model.judge(images.scaled(slice(None))).probabilities.argmax(-1)
    return float((predicted == images.labels).double().mean())
