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
    """Images as bytes where these suffice: a quarter of the memory of floats, and faster to gather."""

    pixels: Tensor  # (N, D), uint8 from 0 to peak; fractions of white as float32 from 0 to 1
    labels: Tensor  # (N,), int64
    peak: int  # the pixel value that means white; 1 for fractions

    def __len__(self) -> int:
        return self.pixels.shape[0]

    def to(self, device: torch.device) -> Images:
        """Returns the same images on `device`."""
        return Images(self.pixels.to(device), self.labels.to(device), self.peak)

    def first(self, count: int) -> Images:
        """Returns the first `count` images, or all if there are fewer."""
        return Images(self.pixels[:count], self.labels[:count], self.peak)

    def scaled(self, index: Tensor | slice) -> Tensor:
        """Returns pixels in [0, 1] (*, n, D) of the images at `index`, a slice or indices (*, n)."""
        pixels = self.pixels[index] if isinstance(index, slice) else _gathered(self.pixels, index)
        return pixels.to(torch.float32).div_(self.peak)

    def labels_at(self, index: Tensor) -> Tensor:
        """Returns the labels (*, n) of the images at indices (*, n)."""
        return _gathered(self.labels, index)


def _gathered(table: Tensor, index: Tensor) -> Tensor:
    # index_select gathers bytes several times faster than table[index]
    return table.index_select(0, index.flatten()).reshape(*index.shape, *table.shape[1:])


def one_hot(labels: Tensor, C: int) -> Tensor:
    """Returns labels (*) as conditions (*, C); for C = 0 the empty condition of a VAE.

    Examples:
        >>> one_hot(torch.tensor([2, 0]), 3)
        tensor([[0., 0., 1.],
                [1., 0., 0.]])
        >>> one_hot(torch.tensor([2, 0]), 0).shape
        torch.Size([2, 0])
    """
    return (labels[..., None] == torch.arange(C, device=labels.device)).to(torch.float32)


def binarized(images: Images, part: str) -> Images:
    """Returns images whose pixels are drawn once, black or white, with the grey value as white's probability.

    The draw depends on `part` ("train" or "test") and not on a run's seed: every run sees the same data. It
    depends on where the images lie, too: those of a run are drawn on the CPU.
    """
    generator = seeding.generator(0, "binarize", part, device=images.pixels.device)
    step = 10_000  # images at a time, to bound the memory of the floats
    drawn = [
        torch.bernoulli(images.scaled(slice(i, i + step)), generator=generator).to(torch.uint8)
        for i in range(0, len(images), step)
    ]
    return Images(torch.cat(drawn), images.labels, 1)


class Batches:
    """The minibatches of an epoch: shuffled, in [0, 1], with their conditions.

    Args:
        images: The training images, already on the device.
        batch_size: Images a batch; the last batch holds the rest.
        C: Size of the condition, 0 for none.
        seed: The run's seed, which with the epoch's number sets the order. With K seeds a batch has a leading
            axis of K runs, each of which sees the same images as it would alone.
        dynamic: Whether every pixel is drawn black or white anew in every epoch (Burda et al. 2016,
            section 5.1).

    Examples:
        >>> images = Images(torch.zeros(10, 784, dtype=torch.uint8), torch.arange(10), peak=255)
        >>> batches = Batches(images, batch_size=4, C=10, seed=0)
        >>> batches.sizes()
        [4, 4, 2]
        >>> [(tuple(x.shape), tuple(c.shape)) for x, c in batches(epoch=1)]
        [((4, 784), (4, 10)), ((4, 784), (4, 10)), ((2, 784), (2, 10))]
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
        """Returns the number of images in each batch of an epoch."""
        full, rest = divmod(len(self.images), self.batch_size)
        return [self.batch_size] * full + [rest] * (rest > 0)

    def with_seed(self, seed: int | Sequence[int]) -> Batches:
        """Returns the same batches for another seed, or for the seeds of a stack."""
        return Batches(self.images, batch_size=self.batch_size, C=self.C, seed=seed, dynamic=self.dynamic)

    def __call__(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields images x (*, n, D) and conditions c (*, n, C), batch after batch."""
        device = self.images.pixels.device
        order = seeding.draw_for_each_seed(
            self.seed,
            lambda generator: torch.randperm(len(self.images), generator=generator, device=device),
            "shuffle",
            epoch,
            device=device,
        )
        generators = seeding.generators(self.seed, "binarize", epoch, device=device) if self.dynamic else []
        for index in torch.split(order, self.batch_size, dim=-1):
            x = self.images.scaled(index)
            if self.dynamic:
                for pixels, generator in zip(x.reshape(len(generators), -1), generators, strict=True):
                    pixels.copy_(torch.bernoulli(pixels, generator=generator))
            yield x, one_hot(self.images.labels_at(index), self.C)


def in_order(images: Images, *, batch_size: int, C: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields images x (n, D) and conditions c (n, C) in the order of the data, without shuffling."""
    for start in range(0, len(images), batch_size):
        part = slice(start, start + batch_size)
        yield images.scaled(part), one_hot(images.labels[part], C)
