"""Names of classes and functions in a store, and which of them may be imported.

Importing what a run's config or model file names runs its code. Whoever can write to a store can name
anything, so only the lab's own names are imported, and those that the reader has given as trusted.
"""

from __future__ import annotations

from collections.abc import Collection

from omegaconf import DictConfig

from vae_lab.errors import UserError, quoted

# Whole names, no prefix: a dotted name can lead through a module to what that imports.
OWN = frozenset(
    {
        "vae_lab.faults.FaultyVAE",
        "vae_lab.models.VAE",
        "vae_lab.objectives.Objective",
        "vae_lab.data.digits",
        "vae_lab.data.fashion_mnist",
        "vae_lab.data.idx",
        "vae_lab.data.mnist",
    }
)


def check_trusted(target: object, trusted: Collection[str], where: str) -> str:
    """Returns the name, if it may be imported.

    Args:
        target: Dotted name from a store.
        trusted: Names that the reader gave, beside the lab's own.
        where: What names it, for the message.

    Raises:
        UserError: It is neither the lab's own nor trusted.

    >>> check_trusted("my_models.Ladder", ["my_models.Ladder"], "model.pt")
    'my_models.Ladder'
    >>> check_trusted("os.system", [], "model.pt")
    Traceback (most recent call last):
    vae_lab.errors.UserError: model.pt: names os.system, which is not the lab's own, and importing ...
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


def check_trusted_loss(config: DictConfig, trusted: Collection[str], where: str) -> None:
    """Checks the classes that a run's loss and likelihood are of.

    Args:
        config: The run's, from a store.
        trusted: Names that the reader gave, beside the lab's own.
        where: The run, for the message.

    Raises:
        UserError: One of them is neither the lab's own nor trusted.
    """
    check_trusted(config.objective._target_, trusted, f"{where}: objective._target_")
    if "." in config.objective.likelihood:  # else one of the lab's by its short name
        check_trusted(config.objective.likelihood, trusted, f"{where}: objective.likelihood")
