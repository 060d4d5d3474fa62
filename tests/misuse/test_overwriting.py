"""Nothing is overwritten that the lab did not write."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.misuse.conftest import Lab, left_behind
from vae_lab import tracking
from vae_lab.report.page.rendering import is_own
from vae_lab.studies.plan import PLAN_FILE, Plan
from vae_lab.tracking import Store


@pytest.fixture
def study(folder: Path) -> str:
    """The store of an empty study, `mine`."""
    store = Store.open("sqlite:///mlflow.db", create=True)
    parent = store.start("lab", "mine", kind=tracking.SWEEP, tags={tracking.STUDY: "mine"})
    with parent.artifacts(sealed=[PLAN_FILE]) as artifacts:
        (artifacts / PLAN_FILE).write_text(Plan("mine").to_json())
    parent.finish("FINISHED")
    return store.uri


def test_a_page_takes_the_place_of_the_labs_own_and_of_nothing_else(
    study: str, command: Lab, folder: Path
) -> None:
    assert command("report", "mine")[0] == 0
    assert is_own(folder / "mine.html")
    assert is_own(folder / "mine.md")
    assert command("report", "mine")[0] == 0, "its own page of before"
    words = (folder / "mine.md").read_text()
    (folder / "notes.md").write_text(f"What I think of it.\n{words}")
    (folder / "lost.html").symlink_to("nowhere")
    (folder / "folder.html").mkdir()
    before = left_behind(folder)
    for name in ("notes", "lost", "folder"):
        code, _, err = command("report", "mine", "--output", f"{name}.html")
        assert code == 2
        assert (
            f"vae-lab: {name}.{'md' if name == 'notes' else 'html'}: is there and no page of the lab's" in err
        )
        assert len(err.splitlines()) == 1
    (folder / "mine.html").write_text((folder / "mine.html").read_text().replace("<h1>", "<h1>My "))
    assert command("report", "mine")[0] == 2, "its own page, changed since"
    assert left_behind(folder) == before
    assert (folder / "notes.md").read_text().startswith("What I think of it.")


def test_a_figure_takes_the_place_of_nothing(command: Lab, folder: Path) -> None:
    (folder / "mine.png").write_bytes(b"mine")
    code, _, err = command("data", "digits", "--svd", "--figure", "mine.png")
    assert code == 2
    assert "--figure mine.png: is there already" in err
    assert (folder / "mine.png").read_bytes() == b"mine"
