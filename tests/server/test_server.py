"""A real MLflow tracking server instead of the embedded store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import vae_lab
from tests.conftest import SMALL
from vae_lab import tracking
from vae_lab.tracking import Store

Lab = Callable[..., tuple[int, str, str]]


def test_a_sweep_is_kept_by_the_server_and_nothing_by_the_folder(lab: Lab, folder: Path, server: str) -> None:
    code, out, err = lab(*SMALL, "train.epochs=1", f"tracking.uri={server}", "-m", "model=vae,cvae")
    assert code == 0, err
    assert "Contact sheet" in out
    assert list(folder.iterdir()) == []
    store = Store.open(server)
    parent = next(record for record in store.records() if record.kind == tracking.SWEEP)
    runs = sorted(store.members(parent.run_id), key=lambda run: run.name)  # they start side by side
    assert [run.name for run in runs] == ["cvae L3 Z15 s0", "vae L3 Z15 s0"]
    assert "### model" in store.download(parent.run_id, "tables/ablations.md").read_text()
    model = vae_lab.load(runs[0].run_id, uri=server).module
    assert model.condition_size == 10
