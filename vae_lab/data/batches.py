"""Images as tensors on the device, and minibatches cut from them without per-image work.

Shapes: N images, D pixels of an image over all channels, C conditions (classes of a CVAE, 0 for a VAE), * the
leading axes of a stack of runs: none for one run, (K,) for K.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vae_lab import seeding


@dataclass(frozen=True, slots=True)
class Images:
    """Images as bytes: a quarter of the memory of floats, and faster to gather."""

    pixels: Tensor  # (N, D), uint8 from 0 to peak
    labels: Tensor  # (N,), int64
    peak: int  # the byte that means 1.0

    def __len__(self) -> int:
        return self.pixels.shape[0]

    def to(self, device: torch.device) -> Images:
        """The same images on `device`."""
        return Images(self.pixels.to(device), self.labels.to(device), self.peak)

    def first(self, count: int) -> Images:
        """The first `count` images, or all if there are fewer."""
        return Images(self.pixels[:count], self.labels[:count], self.peak)

    def scaled(self, index: Tensor | slice) -> Tensor:
        """Pixels in [0, 1] (*, n, D) of the images at `index`, a slice or indices (*, n)."""
        rows = self.pixels[index] if isinstance(index, slice) else _rows(self.pixels, index)
        return rows.to(torch.float32).div_(self.peak)

    def labelled(self, index: Tensor) -> Tensor:
        """Labels (*, n) of the images at indices (*, n)."""
        return _rows(self.labels, index)


def _rows(table: Tensor, index: Tensor) -> Tensor:
    # index_select gathers bytes several times faster than table[index]
    return table.index_select(0, index.flatten()).reshape(*index.shape, *table.shape[1:])


def one_hot(labels: Tensor, C: int) -> Tensor:
    """Labels (*,) as conditions (*, C); C = 0 gives the empty condition of a VAE."""
    return (labels[..., None] == torch.arange(C, device=labels.device)).to(torch.float32)


def binarized(images: Images, part: str) -> Images:
    """Every pixel drawn once, black or white, with its grey value as the probability of white.

    The draw depends on `part` ("train" or "test") and not on a run's seed: every run sees the same data.
    """
    generator = seeding.generator(0, "binarize", part, device=images.pixels.device)
    step = 10_000  # images at a time, to bound the memory of the floats
    parts = [
        torch.bernoulli(images.scaled(slice(i, i + step)), generator=generator).to(torch.uint8)
        for i in range(0, len(images), step)
    ]
    return Images(torch.cat(parts), images.labels, 1)


class Batches:
    """The minibatches of an epoch: shuffled, in [0, 1], with their conditions.

    Args:
        images: what is learned, already on the device.
        batch_size: images a batch; the last batch holds the rest.
        C: size of the condition, 0 for none.
        seed: the run's seed; epoch e is always shuffled in the same way. A list of K seeds gives the batches
            of K runs along a leading axis, each as that run alone would see them.
        dynamic: draw every pixel black or white anew each time it is shown (Burda et al. 2016, section 5.1).
    """

    def __init__(
        self, images: Images, *, batch_size: int, C: int, seed: int | Sequence[int], dynamic: bool = False
    ) -> None:
        self.images = images
        self.batch_size = batch_size
        self.C = C
        self.seed = seed
        self.dynamic = dynamic

    def __len__(self) -> int:
        return -(-len(self.images) // self.batch_size)

    def sizes(self) -> list[int]:
        """The number of images in each batch of an epoch."""
        full, rest = divmod(len(self.images), self.batch_size)
        return [self.batch_size] * full + [rest] * (rest > 0)

    def __call__(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Images x (*, n, D) and conditions c (*, n, C), batch after batch."""
        device = self.images.pixels.device
        order = seeding.each(
            self.seed,
            lambda generator: torch.randperm(len(self.images), generator=generator, device=device),
            "shuffle",
            epoch,
            device=device,
        )
        coins = seeding.generators(self.seed, "binarize", epoch, device=device) if self.dynamic else []
        for index in torch.split(order, self.batch_size, dim=-1):
            x = self.images.scaled(index)
            if self.dynamic:
                rows = x.reshape(len(coins), -1)
                for row, coin in zip(rows, coins, strict=True):
                    row.copy_(torch.bernoulli(row, generator=coin))
            yield x, one_hot(self.images.labelled(index), self.C)


def in_order(images: Images, *, batch_size: int, C: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Images x (n, D) and conditions c (n, C) in their own order, as held-out data are read."""
    for start in range(0, len(images), batch_size):
        part = slice(start, start + batch_size)
        yield images.scaled(part), one_hot(images.labels[part], C)
