"""YAML as others wrote it, looked at before it is made into a config."""

from __future__ import annotations

import yaml

from vae_lab.errors import UserError

MOST_VALUES = 100_000


def check_size(text: str, name: str) -> None:
    """Refuses YAML whose aliases stand for more than memory holds; a few lines can stand for gigabytes.

    Args:
        text: the YAML.
        name: what it is called in the message.

    Raises:
        UserError: it stands for too many values.
        yaml.YAMLError: it is none.
        RecursionError: it is nested too deeply.
    """
    sizes: dict[int, int] = {}

    def size(node: yaml.Node) -> int:
        if id(node) not in sizes:
            sizes[id(node)] = MOST_VALUES + 1  # of a node that is part of itself
            parts = node.value if isinstance(node, yaml.CollectionNode) else []
            inner = [each for pair in parts for each in pair] if isinstance(node, yaml.MappingNode) else parts
            sizes[id(node)] = 1 + sum(map(size, inner))
        return sizes[id(node)]

    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if root is not None and size(root) > MOST_VALUES:
        raise UserError(f"{name}: must stand for at most {MOST_VALUES} values, its aliases written out.")
