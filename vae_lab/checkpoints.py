"""Files of models, trained and in training; only tensors and plain values are ever unpickled."""

from __future__ import annotations

import io
import pickle
import warnings
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from vae_lab import files
from vae_lab.config.trust import check_trusted
from vae_lab.errors import LabError
from vae_lab.files import imported
from vae_lab.models import VAE
from vae_lab.objectives import PART, Likelihood, join

FORMAT = 1


class Checkpoint(NamedTuple):
    """Everything that a run needs to resume after an epoch, and what its record says of that epoch.

    Generators have no state to be stored: `seeding` derives each from the seed, its purpose and the epoch.
    """

    fingerprint: str
    epoch: int  # the last finished one; 0 before the first
    model: dict[str, Any]
    optimizer: dict[str, Any]
    scheduler: dict[str, Any] | None
    precision: str  # the one that was chosen for the run
    threads: int  # of the CPU; another number rounds sums in another way
    history: list[dict[str, float]]  # metrics of every epoch
    step_losses: list[float]  # of every step so far
    at: int = 0  # when it was recorded, milliseconds since 1970; 0 before that

    def save(self, path: Path) -> None:
        """Writes the checkpoint; at every moment the file holds the previous one or this one, whole.

        Raises:
            OSError: The disk is full or cannot be written; the file holds the previous one.
        """
        files.write_sealed(path, self.to_bytes())

    def to_bytes(self) -> bytes:
        """Returns what `from_bytes` reads, here or on another machine."""
        content = io.BytesIO()
        stored = self._replace(model=_copied_to_cpu(self.model))
        torch.save({"format": FORMAT, **stored._asdict()}, content)
        return content.getvalue()

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Returns the checkpoint in a file of `save`; `load_state_dict` moves its tensors off the CPU.

        Raises:
            FileNotFoundError: The file does not exist.
            DamagedError: The file is damaged, or another version of the lab wrote it.
        """
        return cls.from_bytes(files.read_sealed(path), str(path))

    @classmethod
    def from_bytes(cls, content: bytes, source: str) -> Checkpoint:
        """Returns what `to_bytes` wrote; `source` is where it came from.

        Raises:
            DamagedError: It is damaged, or another version of the lab wrote it.
        """
        try:
            stored = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            file_format = stored.pop("format")
            if file_format != FORMAT:
                raise files.DamagedError(f"{source}: has format {file_format}; this version reads {FORMAT}.")
            return cls(**stored)
        except (RuntimeError, KeyError, TypeError, AttributeError, EOFError, pickle.UnpicklingError) as error:
            raise files.DamagedError(f"{source}: is no checkpoint that can be read: {error}") from error


def save_model(model: nn.Module, path: Path, *, target: str, arguments: dict[str, Any]) -> None:
    """Writes what `load_model` needs: the class's dotted name, its arguments and the weights."""
    weights = _copied_to_cpu(model.state_dict())
    content = io.BytesIO()  # on a full disk torch's own writer complains of an unexpected position
    torch.save({"format": FORMAT, "target": target, "arguments": arguments, "weights": weights}, content)
    path.write_bytes(content.getvalue())


def _copied_to_cpu(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns copies of the weights: those of a run in a stack are views, stored with all runs' weights."""
    return {name: value.detach().cpu().clone() for name, value in weights.items()}


def load_model(
    path: Path,
    *,
    device: str = "cpu",
    trusted: Collection[str] = (),
    likelihood: Likelihood | None = None,
) -> VAE:
    """Returns the model in a file of `save_model`, in evaluation mode.

    Args:
        path: The file.
        device: Where the weights are put.
        trusted: Dotted names of model classes, beside the lab's own, that may be imported.
        likelihood: The run's; if it has weights, it gets those in the file, and becomes a part of the model.

    Raises:
        UserError: The file names a class that is not trusted.
        LabError: The file is damaged, of another format, or names no model class.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            compressed = any(entry.compress_type for entry in archive.infolist())
        if compressed:
            raise LabError(f"{path}: is compressed, as no model of the lab's is; it could fill the memory.")
        with warnings.catch_warnings():  # torch warns of a file's pickle protocol before it refuses the file
            warnings.simplefilter("ignore", UserWarning)
            stored = torch.load(path, map_location=device, weights_only=True)
        if stored["format"] != FORMAT:
            raise LabError(f"{path}: has format {stored['format']}; this version reads format {FORMAT}.")
        model_class = imported(check_trusted(stored["target"], trusted, str(path)))
        if not isinstance(model_class, type) or not issubclass(model_class, nn.Module):
            raise LabError(f"{path}: names {stored['target']}, which is no torch.nn.Module.")
        model = model_class(**stored["arguments"])
        _take_weights(model, stored["weights"], likelihood)
    except LabError:
        raise
    except Exception as error:  # a stranger's file may hold anything anywhere
        raise LabError(f"{path}: is no model that can be loaded: {error}") from error
    return cast("VAE", model.to(device).eval())


def _take_weights(model: nn.Module, weights: Mapping[str, Tensor], likelihood: Likelihood | None) -> None:
    """Gives a model its weights, and those of its likelihood if that is there to take them."""
    if likelihood is not None:
        join(model, likelihood)
    alone = not hasattr(model, PART)
    taken = {key: value for key, value in weights.items() if not (alone and key.startswith(f"{PART}."))}
    model.load_state_dict(taken)
