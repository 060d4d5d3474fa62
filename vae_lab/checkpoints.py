"""Models as files, trained ones and those under way; nothing is unpickled but tensors and plain values."""

from __future__ import annotations

import io
import pickle
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from hydra.utils import get_class
from torch import Tensor, nn

from vae_lab import files
from vae_lab.config.trust import check_trusted
from vae_lab.errors import LabError
from vae_lab.models import VAE

FORMAT = 1


class Checkpoint(NamedTuple):
    """Everything that a run needs to go on after an epoch, and what its record says of that epoch.

    Generators have no state to be kept: `seeding` makes each anew from the seed, its purpose and the epoch.
    """

    fingerprint: str
    epoch: int  # the last one that is finished; 0 before the first
    model: dict[str, Any]
    optimizer: dict[str, Any]
    scheduler: dict[str, Any] | None
    precision: str  # that was chosen for the run
    threads: int  # CPU threads; with another number sums are rounded otherwise
    history: list[dict[str, float]]  # metrics of every epoch
    step_losses: list[float]  # of the last one
    at: int  # when it was recorded, milliseconds since 1970

    def save(self, path: Path) -> None:
        """Writes the checkpoint; at every moment the last one or this one is there, whole.

        Raises:
            OSError: the disk is full or cannot be written; the last one is there.
        """
        content = io.BytesIO()
        kept = self._replace(model=_own(self.model))
        torch.save({"format": FORMAT, **kept._asdict()}, content)
        files.write_sealed(path, content.getvalue())

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """The checkpoint in a file of `save`, its tensors on the CPU: their owners know where they belong.

        Raises:
            FileNotFoundError: there is none.
            DamagedError: it is damaged, or another version of the lab wrote it.
        """
        raw = files.read_sealed(path)
        try:
            stored = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
            found_format = stored.pop("format")
            if found_format != FORMAT:
                raise files.DamagedError(f"{path}: has format {found_format}; this version reads {FORMAT}.")
            return cls(**stored)
        except (RuntimeError, KeyError, TypeError, AttributeError, EOFError, pickle.UnpicklingError) as error:
            raise files.DamagedError(f"{path}: is no checkpoint that can be read: {error}") from error


def save_model(model: nn.Module, path: Path, *, target: str, arguments: dict[str, Any]) -> None:
    """Writes what `load_model` needs: the class's dotted name, its arguments and the weights."""
    weights = _own(model.state_dict())
    content = io.BytesIO()  # torch's own writer says of a full disk that a position is unexpected
    torch.save({"format": FORMAT, "target": target, "arguments": arguments, "weights": weights}, content)
    path.write_bytes(content.getvalue())


def _own(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights in memory of their own: a run of a stack has views into all runs' weights."""
    return {name: value.detach().cpu().clone() for name, value in weights.items()}


def load_model(path: Path, *, device: str = "cpu", trusted: Collection[str] = ()) -> VAE:
    """The model in a file of `save_model`, in evaluation mode.

    Args:
        path: the file.
        device: where the weights are put.
        trusted: dotted names of model classes, beside the lab's own, that may be imported for it.

    Raises:
        UserError: the file names a class that is not trusted.
        LabError: the file is damaged, of another format, or names no model class.
    """
    try:
        with warnings.catch_warnings():  # of the pickle protocol of a file that is refused just so
            warnings.simplefilter("ignore", UserWarning)
            stored = torch.load(path, map_location=device, weights_only=True)
        if stored["format"] != FORMAT:
            raise LabError(f"{path}: has format {stored['format']}; this version reads format {FORMAT}.")
        model_class = get_class(check_trusted(stored["target"], trusted, str(path)))
        if not issubclass(model_class, nn.Module):
            raise LabError(f"{path}: names {stored['target']}, which is no torch.nn.Module.")
        model = model_class(**stored["arguments"])
        model.load_state_dict(stored["weights"])
    except LabError:
        raise
    except Exception as error:  # a file of others may hold anything in the place of anything
        raise LabError(f"{path}: is no model that can be loaded: {error}") from error
    return cast("VAE", model.to(device).eval())
