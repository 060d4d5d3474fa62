"""Draws of PyTorch's global generator by parts of the user's own: seen in a trial, and seeded in a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor

from vae_lab import seeding


@contextmanager
def noticed(device: torch.device | str = "cpu") -> Iterator[Callable[[], bool]]:
    """Yields what says whether anything has been drawn from the global generator in the block.

    Args:
        device: Whose generator is looked at beside that of the CPU.

    Examples:
        >>> with noticed() as has_drawn:
        ...     _ = torch.rand(1, generator=torch.Generator())
        ...     before = has_drawn()
        ...     _ = torch.rand(1)
        ...     print(before, has_drawn())
        False True
    """
    device = torch.device(device)
    with seeding.global_generator(0, "trial of draws", device=device):
        before = _states(device)
        yield lambda: not all(map(torch.equal, before, _states(device)))


def seeded(
    draws: bool, seed: int, *name: str | int, device: torch.device | str = "cpu"
) -> AbstractContextManager[None]:
    """Returns the context in which the draws of a run's part are seeded, if it draws; threads take turns.

    Args:
        draws: Whether it does.
        seed: The run's.
        name: What for.
        device: Of the run.
    """
    return seeding.global_generator(seed, *name, device=device) if draws else nullcontext()


def _states(device: torch.device) -> list[Tensor]:
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]
