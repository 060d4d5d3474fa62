"""A search that has been run, shared by the tests of this folder."""

from pathlib import Path

import pytest

from tests.conftest import made_once, trained

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
