"""Names of classes and functions that stand in a store, and which of them are imported.

What a run's config or model file names is run when it is imported. Whoever can write to a store can name
anything, so of such names only the lab's own are followed, and those that the reader has named too.
"""

from __future__ import annotations

from collections.abc import Collection

from vae_lab.errors import UserError, quoted

# Whole names, no prefix: a dotted name can lead through a module to what that imports.
OWN = frozenset(
    {
        "vae_lab.models.VAE",
        "vae_lab.data.digits",
        "vae_lab.data.fashion_mnist",
        "vae_lab.data.idx",
        "vae_lab.data.mnist",
    }
)


def check_trusted(target: object, trusted: Collection[str], where: str) -> str:
    """The name, if it may be imported.

    Args:
        target: dotted name that was found in a store.
        trusted: names that the reader gave, beside the lab's own.
        where: what names it, for the message.

    Raises:
        UserError: it is neither the lab's own nor trusted.
    """
    if isinstance(trusted, str):
        raise UserError(
            f"trust={quoted(trusted)}: must be a list of names, as in trust=[{quoted(trusted)!r}]."
        )
    if isinstance(target, str) and (target in OWN or target in trusted):
        return target
    raise UserError(
        f"{where}: names {quoted(target)}, which is not the lab's own, and importing it would run it. If you "
        f"know it to be yours: --trust {quoted(target)}, or in Python vae_lab.load(..., trust=[...])."
    )
