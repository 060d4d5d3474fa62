"""Trained models as files: weights and constructor arguments, read without unpickling code."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, cast

import torch
from hydra.utils import get_class
from torch import nn

from vae_lab.errors import LabError
from vae_lab.models import VAE

FORMAT = 1


def save_model(model: nn.Module, path: Path, *, target: str, arguments: dict[str, Any]) -> None:
    """Writes what `load_model` needs: the class's dotted name, its arguments and the weights."""
    weights = {name: value.detach().cpu() for name, value in model.state_dict().items()}
    torch.save({"format": FORMAT, "target": target, "arguments": arguments, "weights": weights}, path)


def load_model(path: Path, *, device: str = "cpu") -> VAE:
    """The model in a file of `save_model`, in evaluation mode.

    Raises:
        LabError: the file is damaged, of another format, or names no model class.
    """
    try:
        stored = torch.load(path, map_location=device, weights_only=True)
        if stored["format"] != FORMAT:
            raise LabError(f"{path}: has format {stored['format']}; this version reads format {FORMAT}.")
        model_class = get_class(stored["target"])
        if not issubclass(model_class, nn.Module):
            raise LabError(f"{path}: names {stored['target']}, which is no torch.nn.Module.")
        model = model_class(**stored["arguments"])
        model.load_state_dict(stored["weights"])
    except (
        OSError,
        RuntimeError,
        KeyError,
        TypeError,
        ValueError,
        ImportError,
        EOFError,
        pickle.UnpicklingError,
    ) as error:
        raise LabError(f"{path}: is no model that can be loaded: {error}") from error
    return cast("VAE", model.to(device).eval())
