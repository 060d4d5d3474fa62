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
COARSEST, FINEST = 9.0, 14.0  # bits a weight
BITS = 0.5  # between two tries
LARGEST = 32_767  # of a rounded number


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
            rounded.append(np.round(flat / step).astype("<i2"))
        else:
            floats.append(flat.astype("<f4"))
    halves = np.concatenate([np.empty(0, "<i2"), *rounded]).view(np.uint8)
    content = (halves[0::2].tobytes(), halves[1::2].tobytes(), b"".join(part.tobytes() for part in floats))
    strategy = zlib.Z_HUFFMAN_ONLY if alike else zlib.Z_DEFAULT_STRATEGY
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, 9, strategy)
    # A flush begins another table of codes: high bytes are few values, low bytes are all alike often.
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
        names: Of the weights that are rounded, all with the same number of bits; vectors are not.
        error: What a copy of the module with rounded weights is off by.
        most: The bound; where even FINEST bits do not reach it, nothing is rounded.
    """
    weights = {name: value for name, value in module.state_dict().items() if name in names}
    for half in range(round((FINEST - COARSEST) / BITS) + 1):
        steps = {name: step_of(value, COARSEST + half * BITS) for name, value in weights.items()}
        if error(_rounded(module, steps)) <= most:
            return {name: step for name, step in steps.items() if step}
    return {}


@torch.inference_mode()
def _rounded(module: nn.Module, steps: Mapping[str, float]) -> nn.Module:
    other = copy.deepcopy(module)
    for name, value in other.state_dict().items():
        if step := steps.get(name):
            value.copy_((value.double() / step).round() * step)
    return other
