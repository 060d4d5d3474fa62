"""What a part of a module gives while something else of the module runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def overhearing(module: nn.Module, name: str, hear: Callable[[Any], None]) -> Iterator[None]:
    """Calls a function with whatever a part of a module gives; afterwards the module is what it was.

    Args:
        module: The module.
        name: Of its part, another module or a method.
        hear: Called with each result, before the module goes on.

    Examples:
        >>> import torch
        >>> module, heard = nn.Sequential(nn.ReLU(), nn.Sigmoid()), []
        >>> with overhearing(module, "0", heard.append):
        ...     module(torch.tensor([-1.0])), heard
        (tensor([0.5000]), [tensor([0.])])
    """
    part = getattr(module, name)
    if isinstance(part, nn.Module):
        handle = part.register_forward_hook(lambda _part, _arguments, result: hear(result))
        try:
            yield
        finally:
            handle.remove()
        return

    def heard(*arguments: Any, **named: Any) -> Any:
        result = part(*arguments, **named)
        hear(result)
        return result

    attributes = module.__dict__  # not by setattr, which a module may have of its own
    before = {name: attributes[name]} if name in attributes else {}
    attributes[name] = heard
    try:
        yield
    finally:
        del attributes[name]
        attributes.update(before)
