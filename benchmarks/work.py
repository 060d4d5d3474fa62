"""The matrix products of training, which every way of writing the loop must compute."""

from __future__ import annotations

from typing import NamedTuple

IMAGES, PIXELS, CLASSES = 60_000, 784, 10  # of MNIST


class Architecture(NamedTuple):
    """Sizes of a fully connected VAE; `classes` is the size of its condition, 0 for a VAE."""

    layers: int = 3
    hidden: int = 400
    latent: int = 15
    classes: int = 0

    def __str__(self) -> str:
        kind = "CVAE" if self.classes else "VAE"
        return f"{kind} {PIXELS}-{self.hidden}x{self.layers}-{self.latent}"

    def weights(self) -> list[int]:
        """Returns the number of weights of every layer, without biases, from the image to the image."""
        between = [self.hidden * self.hidden] * (self.layers - 1)
        return [
            (PIXELS + self.classes) * self.hidden,
            *between,
            2 * self.hidden * self.latent,  # mean and log-variance
            (self.latent + self.classes) * self.hidden,
            *between,
            self.hidden * PIXELS,
        ]

    def work(self, images: int = IMAGES) -> float:
        """Returns the floating-point operations of the matrix products of one epoch.

        Each weight is used in the forward pass, for its own gradient and, but for the encoder's first layer,
        for the gradient of what came in: a multiplication and an addition a weight and image each time.
        """
        weights = self.weights()
        return 2.0 * images * (3 * sum(weights) - weights[0])


BASE = Architecture()


class TrainedRun(NamedTuple):
    """The training of a finished run."""

    architecture: Architecture
    epochs: int
    seconds: float  # of training alone, all epochs


def floor_seconds(runs: list[TrainedRun], peak: float) -> float:
    """Returns the seconds that the runs' matrix products need at `peak` operations a second."""
    return sum(run.architecture.work() * run.epochs for run in runs) / peak


def training_seconds(runs: list[TrainedRun], workers: int) -> float:
    """Returns the seconds of training in a command that trained `workers` runs at a time."""
    return sum(run.seconds for run in runs) / workers


def loop_seconds(runs: list[TrainedRun], epoch_seconds: dict[tuple[int, bool], float]) -> float:
    """Returns the seconds of all runs in sequence, given a loop's for an epoch by (layers, is a CVAE)."""
    return sum(
        run.epochs * epoch_seconds[run.architecture.layers, bool(run.architecture.classes)] for run in runs
    )
