"""One seed to named, independent random generators."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

_global_generator = threading.Lock()


def derive(seed: int, *name: str | int) -> int:
    """A 63-bit seed for one purpose: the start of SHA-256 over the run's seed and the purpose's name."""
    digest = hashlib.sha256(repr((seed, *name)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, *name: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator of its own for one purpose, as in `generator(seed, "shuffle", epoch)`.

    Its state follows from its name alone, so a run that goes on at epoch 7 needs no saved generator,
    and drawing more numbers for one purpose never moves another.
    """
    return torch.Generator(device).manual_seed(derive(seed, *name))


def generators(
    seed: int | Sequence[int], *name: str | int, device: torch.device | str = "cpu"
) -> list[torch.Generator]:
    """The generators of one purpose for a run, or for each run of a stack."""
    seeds = [seed] if isinstance(seed, int) else seed
    return [generator(each, *name, device=device) for each in seeds]


def each(
    seed: int | Sequence[int],
    draw: Callable[[torch.Generator], Tensor],
    *name: str | int,
    device: torch.device | str = "cpu",
) -> Tensor:
    """What `draw` gives for one seed; for a list of K seeds their draws along a new first axis (K, ...)."""
    drawn = [draw(generator) for generator in generators(seed, *name, device=device)]
    return drawn[0] if isinstance(seed, int) else torch.stack(drawn)


@contextmanager
def global_generator(seed: int, *name: str | int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Seeds torch's global generator, of the CPU and of `device`, inside the block and restores it after.

    `torch.nn` layers draw their first weights, and dropout its masks, from the global generator; the lock
    lets several threads do so without mixing their draws.
    """
    device = torch.device(device)
    forked = [device] if device.type == "cuda" else []
    with _global_generator, torch.random.fork_rng(devices=forked):
        torch.default_generator.manual_seed(derive(seed, *name))
        if forked:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(derive(seed, *name))
        yield
