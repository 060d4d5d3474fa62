"""The number of values that YAML stands for, counted before it is made into a config."""

from __future__ import annotations

import yaml

from vae_lab.errors import UserError

MOST_VALUES = 100_000


def check_size(text: str, name: str) -> None:
    """Refuses YAML whose aliases stand for more than memory holds; a few lines can stand for gigabytes.

    Args:
        text: The YAML.
        name: What it is called in the message.

    Raises:
        UserError: It stands for too many values.
        yaml.YAMLError: It is no YAML.
        RecursionError: It is nested too deeply.

    >>> check_size("x: &x [*x]", "mine.yaml")
    Traceback (most recent call last):
    vae_lab.errors.UserError: mine.yaml: must stand for at most 100000 values, its aliases written out.
    """
    sizes: dict[int, int] = {}

    def size(node: yaml.Node) -> int:
        if id(node) not in sizes:
            sizes[id(node)] = MOST_VALUES + 1  # of a node that is part of itself
            children = node.value if isinstance(node, yaml.CollectionNode) else []
            if isinstance(node, yaml.MappingNode):
                children = [child for pair in children for child in pair]
            sizes[id(node)] = 1 + sum(map(size, children))
        return sizes[id(node)]

    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if root is not None and size(root) > MOST_VALUES:
        raise UserError(f"{name}: must stand for at most {MOST_VALUES} values, its aliases written out.")
