"""The notebook of the documents, from a study's runs to a figure, in a kernel of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

from tests.house import ROOT

NOTEBOOK = ROOT / "docs" / "trained_models.ipynb"


@pytest.fixture(scope="module")
def executed(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[NotebookNode, Path]:
    """The notebook after its last cell, and the folder in which it ran: a stranger's, with the runs in it."""
    folder = Path(shutil.copytree(reference, tmp_path_factory.mktemp("notebook") / "runs"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(folder)}}).execute()
    return notebook, folder


def outputs(notebook: NotebookNode, kind: str) -> list[str]:
    """What cells have shown of a kind, such as image/png."""
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output["data"][kind] for output in shown if kind in output.get("data", {})]


def test_every_cell_runs_under_the_event_loop_of_a_kernel(executed: tuple[NotebookNode, Path]) -> None:
    notebook, folder = executed
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == [*range(1, len(counts) + 1)]
    said = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [output for output in said if "ename" in output or output.get("name") == "stderr"]
    assert (folder / "depth.png").stat().st_size > 10_000


def test_a_study_a_model_and_pictures_show_themselves(executed: tuple[NotebookNode, Path]) -> None:
    study, part, model = outputs(executed[0], "text/html")
    assert "<b>reference</b>: 10 of 10 runs finished" in study
    assert 'class="dataframe"' in part
    assert "held-out loss" in model
    assert "data:image/png;base64," in model
    assert len(outputs(executed[0], "image/png")) == 7


def test_the_notebook_is_kept_as_it_ran() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == [*range(1, len(cells) + 1)]
    assert len(outputs(notebook, "image/png")) == 7
