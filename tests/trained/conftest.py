"""A store with the study `reference` on the 8 x 8 digits, and models of it in the hand."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

import vae_lab
from tests.conftest import SMALL, made_once, trained
from vae_lab.trained.model import TrainedModel

VAE_NAME, CVAE_NAME = "reference:vae L3 Z15 s0", "reference:cvae L3 Z15 s0"


@pytest.fixture(scope="session")
def reference(ablations: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `experiments=reference` has taken the runs that `sweeps=ablations` had trained."""

    def make(folder: Path) -> None:
        shutil.copytree(ablations, folder, dirs_exist_ok=True)
        trained(folder, "experiments=reference", *SMALL)

    return made_once(tmp_path_factory, "reference", make)


@pytest.fixture(scope="session")
def uri(reference: Path) -> str:
    return f"sqlite:///{reference / 'mlflow.db'}"


@pytest.fixture(scope="session")
def vae(uri: str, device: torch.device) -> TrainedModel:
    return vae_lab.load(VAE_NAME, uri=uri, device=str(device))


@pytest.fixture(scope="session")
def cvae(uri: str, device: torch.device) -> TrainedModel:
    return vae_lab.load(CVAE_NAME, uri=uri, device=str(device))
