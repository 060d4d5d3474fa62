"""Numbers as the page holds them: rounded as coarsely as its images allow, deflated, in base 85.

Four models of 1.3 million weights each should fit into 10 MB. A weight rounded to a multiple of one step
costs about log2(4.13 standard deviations / step) bits, and decoded images tell which step is fine enough.
"""

from __future__ import annotations

import base64
import copy
import math
import zlib
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

# Largest change of a pixel by rounding the decoder's weights, and further by rounding the encoder's: together
# less than 1/255, of which JavaScript's own rounding takes nothing that could be seen.
DECODED, ENCODED = 0.5 / 255, 0.35 / 255
COARSEST, FINEST = 8.0, 14.0  # bits a weight; log-variance heads move no image and would end with none
BITS = 0.25  # between two tries
USUAL, LARGEST = 2**15, 2**23 - 2**15 - 1  # of rounded numbers: nearly all are below the first


def packed(
    tensors: Mapping[str, Tensor], steps: Mapping[str, float], *, alike: bool = True
) -> dict[str, Any]:
    """Returns tensors as `weights.js` reads them.

    Args:
        tensors: By name.
        steps: Of those that are rounded to its multiples; the rest is kept as it is.
        alike: Whether neighbours tell nothing of each other, as in weights; then none is searched for.

    Examples:
        >>> content = packed({"image": torch.tensor([0.0, 1.0])}, {"image": 1 / 255})
        >>> content["tensors"]
        [{'name': 'image', 'size': 2, 'step': 0.00392156862745098}]
    """
    rounded, floats, entries = [], [], []
    for name, values in tensors.items():
        step = steps.get(name, 0.0)
        flat = values.detach().cpu().double().reshape(-1).numpy()
        entries.append({"name": name, "size": flat.size, "step": step})
        if step:
            rounded.append(np.round(flat / step).astype("<i4"))
        else:
            floats.append(flat.astype("<f4"))
    numbers = (np.concatenate([np.empty(0, "<i4"), *rounded]) + USUAL).view(np.uint8)
    content = (
        *(numbers[byte::4].tobytes() for byte in range(3)),
        b"".join(part.tobytes() for part in floats),
    )
    strategy = zlib.Z_RLE if alike else zlib.Z_DEFAULT_STRATEGY
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, 9, strategy)
    # A flush begins another table of codes: low bytes are all alike often, middle bytes are few values, and
    # high bytes are 0 but for a weight in many thousands.
    deflated = b"".join(deflate.compress(part) + deflate.flush(zlib.Z_SYNC_FLUSH) for part in content)
    deflated += deflate.flush()
    return {"tensors": entries, "bytes": text_of(deflated)}


def text_of(content: bytes) -> str:
    """Returns bytes in base 85, five signs for four of them, none of which ends or escapes anything in HTML.

    Examples:
        >>> text_of(b"weights!")
        'cV%g3XmoQS'
    """
    return base64.b85encode(content).decode().replace("<", ",")


def step_of(weights: Tensor, bits: float) -> float:
    """Returns the step at which normal numbers of this size cost so many bits each; 0 where none serves."""
    deviation = float(weights.double().square().mean().sqrt())
    step = math.sqrt(2 * math.pi * math.e) * deviation / 2**bits
    fits = step > 0 and float(weights.abs().max()) / step <= LARGEST
    return step if fits and weights.ndim > 1 else 0.0


def coarsest_steps(
    module: nn.Module, names: Collection[str], error: Callable[[nn.Module], float], most: float
) -> dict[str, float]:
    """Returns the coarsest steps of some of a module's weights at which an error stays below a bound.

    Args:
        module: The module; it stays as it is.
        names: Of the weights that are rounded; vectors are not.
        error: What a copy of the module with rounded weights is off by.
        most: The bound; where even FINEST bits of every weight do not reach it, nothing is rounded.
    """
    weights = {name: value for name, value in module.state_dict().items() if name in names}
    other = _Rounded(module, weights)

    def steps(bits: Mapping[str, float]) -> dict[str, float]:
        return {name: step_of(value, bits[name]) for name, value in weights.items()}

    def serves(bits: Mapping[str, float]) -> bool:
        other.round_to(steps(bits))
        return error(other.module) <= most

    common = (COARSEST + BITS * count for count in range(round((FINEST - COARSEST) / BITS) + 1))
    bits = next((tried for b in common if serves(tried := dict.fromkeys(weights, b))), None)
    if bits is None:
        return {}
    # The error is often that of one tensor, and others can do with less. Rounds take a little from all,
    # the largest first; one that cannot do with less is not asked again.
    order = sorted(
        (name for name, step in steps(bits).items() if step), key=lambda name: -weights[name].numel()
    )
    while order:
        coarser = []
        for name in order:
            less = {**bits, name: bits[name] - BITS}
            if less[name] >= COARSEST and serves(less):
                bits = less
                coarser.append(name)
        order = coarser
    return {name: step for name, step in steps(bits).items() if step}


class _Rounded:
    """A copy of a module, some of whose weights are rounded to one step after another.

    Args:
        module: The module; it stays as it is.
        weights: Those weights of it, by name.
    """

    def __init__(self, module: nn.Module, weights: Mapping[str, Tensor]) -> None:
        self.module, self._weights = copy.deepcopy(module), weights
        self._own = self.module.state_dict()
        self._steps = dict.fromkeys(weights, 0.0)

    @torch.inference_mode()
    def round_to(self, steps: Mapping[str, float]) -> None:
        """Makes each of the weights a multiple of its step; 0 leaves it as it was."""
        for name, step in steps.items():
            if step != self._steps[name]:
                exact = self._weights[name]
                self._own[name].copy_((exact.double() / step).round() * step if step else exact)
                self._steps[name] = step
