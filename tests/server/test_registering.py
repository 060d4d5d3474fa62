"""A model is given away from a server, to which the registry belongs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.conftest import SMALL
from vae_lab.cli.group import commands
from vae_lab.tracking import RUN, Store

Lab = Callable[..., tuple[int, str, str]]


def test_a_servers_registry_takes_a_model_once(
    lab: Lab, folder: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lab(*SMALL, "train.epochs=1", "seed=16", f"tracking.uri={server}")[0] == 0
    store = Store.open(server)
    run = next(run for run in store.tagged("vae_lab.kind", RUN) if run.params["seed"] == "16")
    for word in ("new", "described anew"):
        result = CliRunner().invoke(commands, ["register", run.run_id, "--uri", server])
        assert result.exit_code == 0, result.output
        for function in ("decoder", "encoder"):
            assert f"models:/vae-L3-Z15-s16-{function}/1  " in result.output
        assert result.output.count(word) == 2
    version = store.client.get_model_version("vae-L3-Z15-s16-decoder", "1")
    assert version.run_id == run.run_id
    assert "### Claims" not in str(version.description), "it is of no study"
    assert version.aliases == []
    import mlflow.onnx  # late: MLflow warns of type hints of its own, which the command has kept quiet

    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    model = mlflow.onnx.load_model("models:/vae-L3-Z15-s16-decoder/1", dst_path=str(folder))
    assert [value.name for value in model.graph.output] == ["images"]
