"""Named, independent random generators that follow from one seed."""

from __future__ import annotations

import hashlib
import operator
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

# A metric of the user's own, which has its turn, may seed draws itself or have the lab train a classifier.
_global_generator = threading.RLock()


def derive_seed(seed: int, *name: str | int) -> int:
    """Returns a 63-bit seed for one purpose: the start of SHA-256 over the run's seed and the purpose's name.

    Examples:
        >>> derive_seed(0, "shuffle", 1)
        955032806499468100
    """
    number = int(operator.index(seed))  # equal numbers of NumPy's, say, have another repr
    digest = hashlib.sha256(repr((number, *name)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, *name: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """Returns the generator of one purpose of a run, such as `generator(seed, "shuffle", epoch)`.

    Its state follows from seed and name alone: a run that resumes at epoch 7 needs no saved generator, and
    drawing more numbers for one purpose never changes the numbers of another.

    Examples:
        >>> first, again = generator(0, "shuffle", 1), generator(0, "shuffle", 1)
        >>> torch.equal(torch.rand(3, generator=first), torch.rand(3, generator=again))
        True
        >>> torch.equal(torch.rand(3, generator=first), torch.rand(3, generator=generator(0, "posterior", 1)))
        False
    """
    return torch.Generator(device).manual_seed(derive_seed(seed, *name))


def generators(
    seed: int | Sequence[int], *name: str | int, device: torch.device | str = "cpu"
) -> list[torch.Generator]:
    """Returns the generators of one purpose: one for a run, one a run for the seeds of a stack."""
    seeds = [seed] if isinstance(seed, int) else seed
    return [generator(run_seed, *name, device=device) for run_seed in seeds]


def draw_for_each_seed(
    seed: int | Sequence[int],
    draw: Callable[[torch.Generator], Tensor],
    *name: str | int,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Returns `draw(generator)` for one seed; for K seeds their draws along a new first axis (K, ...).

    Examples:
        >>> draw_for_each_seed([0, 1, 2], lambda generator: torch.randperm(5, generator=generator)).shape
        torch.Size([3, 5])
    """
    draws = [draw(generator) for generator in generators(seed, *name, device=device)]
    return draws[0] if isinstance(seed, int) else torch.stack(draws)


@contextmanager
def global_generator(seed: int, *name: str | int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Seeds torch's global generator, of the CPU and of `device`, inside the block and restores it after it.

    `torch.nn` layers draw their first weights, and dropout its masks, from the global generator; the lock
    lets several threads do so without mixing their draws.
    """
    device = torch.device(device)
    forked = [device] if device.type == "cuda" else []
    with _global_generator, torch.random.fork_rng(devices=forked):
        torch.default_generator.manual_seed(derive_seed(seed, *name))
        if forked:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(derive_seed(seed, *name))
        yield
