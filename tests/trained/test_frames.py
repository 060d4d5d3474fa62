from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import vae_lab
from vae_lab.errors import UserError
from vae_lab.metrics import KL_DIMENSION
from vae_lab.studies.plan import Plan
from vae_lab.studies.study import Study, load_study
from vae_lab.tracking import RUN, Reader, Store, reader
from vae_lab.trained import frames, reference
from vae_lab.trained.study_table import StudyTable


@pytest.fixture(scope="module")
def store(uri: str) -> Reader:
    return reader(uri)


def test_a_study_is_a_row_a_run(uri: str, store: Reader) -> None:
    table = vae_lab.runs("reference", uri=uri)
    study = load_study(store, "reference")
    assert [*table.index] == [run.name for run in study.runs]
    assert [*table.columns[:4]] == ["model", "model.layers", "model.latent_size", "seed"]
    for run in study.runs:
        row = table.loc[run.name]
        assert row["run_id"] == run.run_id
        assert row["test/loss"] == run.metrics["test/loss"]
        assert row["model.layers"] == int(run.params["model.layers"])
    assert pd.api.types.is_integer_dtype(table["model.layers"])
    assert pd.api.types.is_bool_dtype(table["model.conditional"])
    assert {*table["status"]} == {"FINISHED"}
    assert table["started"].dt.tz is not None


def test_curves_are_a_row_a_run_and_epoch(uri: str, store: Reader) -> None:
    table = vae_lab.curves("reference", uri=uri)
    assert table.index.names == ["run", "epoch"]
    assert len(table) == 20
    for run in load_study(store, "reference").runs:
        curve = table.loc[run.name]
        assert [*curve.index] == [1, 2]
        for metric in ("test/loss", "train/loss", "train/last_minibatch_loss"):
            assert [*curve[metric]] == store.history(run.run_id, metric)
        assert {*curve["model.layers"]} == {int(run.params["model.layers"])}
    assert "train/step_loss" not in table
    assert table["test/loss"].unstack("run").shape == (2, 10)


def test_without_a_name_it_is_every_run_of_the_store(uri: str) -> None:
    table = vae_lab.runs(uri=uri)
    assert len(table) == 10
    assert not isinstance(table, StudyTable)


def test_an_unknown_study_is_answered_with_the_known(uri: str) -> None:
    with pytest.raises(UserError, match=r"referenc: no such study .* did you mean reference\?"):
        vae_lab.runs("referenc", uri=uri)


def test_mlflows_client_gives_the_same_tables(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read = [vae_lab.runs("reference", uri=uri), vae_lab.curves("reference", uri=uri)]
    monkeypatch.setattr(frames, "reader", Store.open)
    asked = [vae_lab.runs("reference", uri=uri), vae_lab.curves("reference", uri=uri)]
    for one, other in zip(read, asked, strict=True):
        pd.testing.assert_frame_equal(pd.DataFrame(one), pd.DataFrame(other))


def test_a_notebook_shows_the_studys_tables_and_of_a_part_that_part(uri: str) -> None:
    table = vae_lab.runs("reference", uri=uri)
    shown = table._repr_html_()  # type: ignore[operator]
    assert "<b>reference</b>: 10 of 10 runs finished" in shown
    assert "Depth (model.layers)" in shown
    assert f"{table['test/loss'].min():.2f}" in shown
    assert "10 rows, one a run" in shown
    part = table[["test/loss"]]
    assert type(part) is pd.DataFrame
    assert "dataframe" in str(part._repr_html_())  # type: ignore[operator]
    assert type(table.groupby("model")["test/loss"].mean()) is pd.Series


def test_tables_need_neither_pytorch_nor_mlflow(uri: str) -> None:
    program = (
        f"import sys, vae_lab; uri = {uri!r}; vae_lab.runs('reference', uri=uri); "
        "vae_lab.curves('reference', uri=uri); print(*sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert not {"torch", "mlflow"} & {*out.split()}


@pytest.mark.parametrize("table", [vae_lab.runs, vae_lab.curves])
def test_a_study_that_is_no_name_is_one_line(uri: str, table: Any) -> None:
    with pytest.raises(UserError, match=r"^study=5: must be a study's name, or the id of a parent run\.$"):
        table(5, uri=uri)


def test_a_measure_of_the_end_is_no_curve() -> None:
    assert "test/loss" in frames.CURVES
    assert not [key for key in frames.CURVES if key.startswith((KL_DIMENSION, "eval/", "test/iwae"))]


def test_runs_of_one_name_are_told_apart_by_their_results(
    tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(database, tmp_path / "mlflow.db")
    writer = Store.open(f"sqlite:///{tmp_path / 'mlflow.db'}")
    for loss, fingerprint in ((3.0, "a"), (5.0, "b")):
        recorder = writer.start("lab", "twin", kind=RUN, tags={"vae_lab.fingerprint": fingerprint})
        recorder.log({"test/loss": loss}, 1)
        recorder.finish("FINISHED")
    twins = writer.tagged("vae_lab.kind", RUN)
    for module in (frames, reference):
        monkeypatch.setattr(module, "load_study", lambda *_: Study(twins[0], Plan("twins"), twins))
    table = vae_lab.curves("twins", uri=writer.uri)
    assert {*table["test/loss"]} == {3.0, 5.0}
    with pytest.raises(UserError, match=r"^twins:twin: 2 runs of different results .* Valid: their ids: "):
        reference.chosen_run(reader(writer.uri), "twins:twin")
