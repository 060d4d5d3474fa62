"""A VAE as the doctor asks it: a few functions and images, whatever class is behind them.

Shapes: N images, D pixels of an image over all channels, P outputs of the decoder, Z latent dimensions, C
condition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple

from torch import Tensor, nn

from vae_lab.evaluation.bounds import evenly_spaced
from vae_lab.models import Posterior
from vae_lab.trained.doctor.findings import UnexaminedError

OUTPUTS = LOGITS, IMAGES = ("logits", "images")  # what a decoder gives


class Recorded(NamedTuple):
    """What a run says of itself, beside the same computed anew with the lab's formulas."""

    recorded: dict[str, float]  # by metric, nats per image
    recomputed: dict[str, float]
    rate: float | None  # the learning rate that the config asks for, where it is constant
    first_rate: float | None  # the one that the first epoch was trained with
    error: str  # what ended the run; empty if it finished


@dataclass(frozen=True)
class Subject:
    """What is audited; checks that need a function which is None are left out, and said to be.

    Args:
        name: In the report.
        module: The module, whose mode and buffers the checks that change them restore.
        images: N held-out images, in [0, 1], in the form that the module takes.
        labels: Their conditions, in the form that the module takes; None for a VAE.
        encode: q(z | x, c) of images and conditions.
        decode: What the decoder gives for z (N, Z) and conditions.
        undecoded: Why `decode` is None, where the module has a decoder.
        forward: What the decoder gives for a draw of z that the module makes itself, and the posterior.
        loss: The total of a minibatch for what the decoder gave, images and posterior.
        output: One of `OUTPUTS`; None if nobody says.
        expected: The images that are shown for what the decoder gives.
        negative_log: -log p(x | z) (N,) of outputs and images (N, D), where the likelihood is declared.
        beta: The weight of the KL that the loss is meant to have.
        train_images: Images as the model saw them in training.
        losses: Training losses, from the first step or epoch on.
        recorded: What a run says of itself.
        trained: Whether its weights are more than the first ones.
    """

    name: str
    module: nn.Module
    images: Tensor
    encode: Callable[[Tensor, Tensor | None], Posterior]
    labels: Tensor | None = None
    decode: Callable[[Tensor, Tensor | None], Tensor] | None = None
    undecoded: str = ""
    forward: Callable[[Tensor, Tensor | None], tuple[Tensor, Posterior]] | None = None
    loss: Callable[[Tensor, Tensor, Posterior], Tensor] | None = None
    output: str | None = None
    expected: Callable[[Tensor], Tensor] | None = None
    negative_log: Callable[[Tensor, Tensor], Tensor] | None = None
    beta: float = 1.0
    train_images: Tensor | None = None
    losses: Sequence[float] = ()
    recorded: Recorded | None = None
    trained: bool = True

    def first(self, count: int) -> Subject:
        """Returns the subject with at most `count` of its images, at even steps."""
        labels = None if self.labels is None else evenly_spaced(self.labels, count)
        return replace(self, images=evenly_spaced(self.images, count), labels=labels)

    def images_of(self, output: Tensor) -> Tensor:
        """Returns the images (N, D) that are shown for what the decoder gave.

        Raises:
            UnexaminedError: It gave several numbers for a pixel, and there is no likelihood to read them.
        """
        shown, D = self.shown(output), self.images.flatten(1).shape[1]
        if shown.shape[1] != D:
            raise UnexaminedError(
                f"the decoder gives {shown.shape[1]} numbers for {D} pixels, of which the likelihood of a "
                "run makes images"
            )
        return shown

    def shown(self, output: Tensor) -> Tensor:
        """Returns what is shown for what the decoder gave: (N, D), or (N, P) without a likelihood."""
        flat = output.flatten(1).float()
        if self.expected is not None:
            return self.expected(flat)
        return flat.sigmoid() if self.output == LOGITS else flat


def pixels_of(images: Tensor) -> Tensor:
    """Returns images of any form as (N, D) numbers."""
    return images.flatten(1).float()


@contextmanager
def in_mode(module: nn.Module, *, training: bool) -> Iterator[None]:
    """Puts a module in training or evaluation mode; afterwards its modes and buffers are what they were.

    Examples:
        >>> import torch
        >>> module = nn.BatchNorm1d(2)
        >>> with in_mode(module.eval(), training=True):
        ...     _ = module(torch.ones(4, 2))
        >>> module.training, module.running_mean.tolist()
        (False, [0.0, 0.0])
    """
    modes = [(part, part.training) for part in module.modules()]
    names = [(part, dict(part._buffers)) for part in module.modules()]
    values = [(buffer, buffer.clone()) for buffer in module.buffers()]
    module.train(training)
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
        for buffer, value in values:
            buffer.data.copy_(value)
        for part, buffers in names:  # a module may have put another tensor under a name
            part._buffers.clear()
            part._buffers.update(buffers)
