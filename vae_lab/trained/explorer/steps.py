"""What a page's steps come to, computed in PyTorch by the page's own rules, on flat numbers.

It is held against the function itself before a page is written: a step that means something else on the page
than it did in PyTorch, such as a write through a view, is thereby refused and not decoded wrongly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def computed(
    steps: Sequence[Mapping[str, Any]], outputs: Sequence[str], values: Mapping[str, Tensor]
) -> list[Tensor]:
    """Returns the outputs (size,) of a traced graph.

    Args:
        steps: Its operations, as the page reads them.
        outputs: Names of values.
        values: Its inputs and its tensors, by name.

    Examples:
        >>> steps = [{"op": "add", "of": ["x", 1], "to": "y", "size": 2}]
        >>> computed(steps, ["y"], {"x": torch.tensor([[1.0, 2.0]])})
        [tensor([2., 3.])]
    """
    known = {name: value.detach().float().flatten() for name, value in values.items()}
    for step in steps:
        operands = [
            known[operand] if isinstance(operand, str) else torch.tensor([float(operand)])
            for operand in step["of"]
        ]
        options = {key: value for key, value in step.items() if key not in ("op", "of", "to", "size")}
        known[step["to"]] = _result(step["op"], operands, options, step["size"])
    return [known[name] for name in outputs]


def _result(operation: str, operands: list[Tensor], options: Mapping[str, Any], size: int) -> Tensor:
    """Returns the numbers (size,) of one step."""
    first = operands[0]
    result: Tensor
    match operation:
        case "where":
            result = torch.where(first != 0, operands[1], operands[2])
        case "cat":
            result = torch.cat(operands)
        case "repeat":
            result = first.repeat_interleave(options["times"])
        case "slice":
            result = first[options["start"] : options["start"] + size]
        case "linear":
            weight = operands[1].reshape(len(operands[2]), -1)
            result = functional.linear(first.reshape(-1, weight.shape[1]), weight, operands[2]).flatten()
        case "conv2d" | "conv_transpose2d":
            result = _convolved(operands, options, spreads=operation == "conv_transpose2d")
        case _:  # of one number or of two
            result = getattr(torch.ops.aten, operation)(*operands, **options).float()
    return result.expand(size)


def _convolved(operands: Sequence[Tensor], options: Mapping[str, Any], *, spreads: bool) -> Tensor:
    """Returns a convolution of planes, or a transposed one that has the size which was traced."""
    x, weight, bias = operands
    taken, traced, filter_size = options["taken"], options["given"], options["filter"]
    planes = x.reshape(1, *taken)
    filters = weight.reshape((taken if spreads else traced)[0], -1, *filter_size)
    numbers = {key: options[key] for key in ("stride", "padding", "dilation", "groups")}
    if not spreads:
        return functional.conv2d(planes, filters, bias, **numbers).flatten()
    axes = zip(
        taken[1:], filter_size, *(options[key] for key in ("stride", "padding", "dilation")), strict=True
    )
    least = [(n - 1) * stride - 2 * pad + dilation * (k - 1) + 1 for n, k, stride, pad, dilation in axes]
    further = [side - small for side, small in zip(traced[1:], least, strict=True)]
    return functional.conv_transpose2d(planes, filters, bias, **numbers, output_padding=further).flatten()
