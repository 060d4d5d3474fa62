from pathlib import Path

import pytest
import torch

from vae_lab.checkpoints import load_model, save_model
from vae_lab.errors import LabError
from vae_lab.models import VAE

ARGUMENTS = {"data_size": 16, "condition_size": 3, "latent_size": 2, "layers": 1, "hidden_size": [8]}


def test_a_saved_model_comes_back_whole(tmp_path: Path, device: torch.device) -> None:
    model = VAE(**ARGUMENTS).to(device)  # type: ignore[arg-type]
    save_model(model, tmp_path / "model.pt", target="vae_lab.models.VAE", arguments=ARGUMENTS)
    loaded = load_model(tmp_path / "model.pt", device=str(device))
    assert not loaded.training
    assert all(map(torch.equal, model.state_dict().values(), loaded.state_dict().values()))


def test_a_file_that_carries_code_is_refused(tmp_path: Path) -> None:
    torch.save({"format": 1, "code": print}, tmp_path / "model.pt")
    with pytest.raises(LabError, match="is no model that can be loaded"):
        load_model(tmp_path / "model.pt")


@pytest.mark.parametrize("target", ["os.system", "pathlib.Path"])
def test_a_file_that_names_no_model_is_refused(tmp_path: Path, target: str) -> None:
    save_model(VAE(16), tmp_path / "model.pt", target=target, arguments={})
    with pytest.raises(LabError, match=f"names {target}, which is not the lab's own"):
        load_model(tmp_path / "model.pt")
    with pytest.raises(LabError, match=r"is no torch\.nn\.Module|is no model that can be loaded"):
        load_model(tmp_path / "model.pt", trusted=[target])


@pytest.mark.parametrize("content", [b"", b"not a model", b"PK\x03\x04 cut short"])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.pt").write_bytes(content)
    with pytest.raises(LabError, match=r"model\.pt: is no model"):
        load_model(tmp_path / "model.pt")


def test_a_newer_format_is_named(tmp_path: Path) -> None:
    torch.save({"format": 99}, tmp_path / "model.pt")
    with pytest.raises(LabError, match="has format 99; this version reads format 1"):
        load_model(tmp_path / "model.pt")
