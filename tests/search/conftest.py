"""A search that has been run, and what it left, shared by the tests of this folder."""

import shutil
from pathlib import Path

import optuna
import pytest

from tests.conftest import made_once, trained
from vae_lab.tracking import KIND, RUN, Store, StoredRun

SPACE = ("model.latent_size=range(2,9)", "optimizer.lr=tag(log,interval(1e-4,1e-1))")
LINE = (
    *(
        "-m",
        "hydra/sweeper=search",
        "data=digits",
        "model.hidden_size=8",
        "train.device=cpu",
        "train.epochs=4",
    ),
    *(
        "search.eta=2",
        "search.trials=9",
        "search.epochs=20",
        "evaluation.pictures=false",
        "study.name=hunt",
        *SPACE,
    ),
)
SHORT = (  # one point for one epoch
    *(
        "-m",
        "hydra/sweeper=search",
        "data=digits",
        "model.hidden_size=8",
        "train.device=cpu",
        "train.epochs=1",
    ),
    *("search.epochs=1", "evaluation.pictures=false", "model.layers=1,2"),
)


@pytest.fixture(scope="session")
def hunted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which LINE has run."""
    return made_once(tmp_path_factory, "hunt", lambda folder: trained(folder, *LINE))


def storage(folder: Path) -> optuna.Study:
    address = f"sqlite:///{folder}/mlflow.searches.db"
    (summary,) = optuna.get_all_study_summaries(address)
    return optuna.load_study(study_name=summary.study_name, storage=address)


def runs(folder: Path) -> list[StoredRun]:
    return Store.open(f"sqlite:///{folder}/mlflow.db").tagged(KIND, RUN)


@pytest.fixture
def again(hunted: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder, with its state, to go on in."""
    shutil.copytree(hunted, folder, dirs_exist_ok=True)
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))
    return folder
