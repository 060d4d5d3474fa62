"""A password in the address of a server is in nothing that the lab writes, shows or keeps."""

import base64
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from click.testing import CliRunner

from tests.conftest import SMALL
from tests.server.conftest import Server
from vae_lab import tracking
from vae_lab.cli.group import commands
from vae_lab.tracking import Store, courier

Lab = Callable[..., tuple[int, str, str]]
USER, PASSWORD = "carol_k", "pl@nted/s3cret"
FORMS = {
    *(PASSWORD, quote(PASSWORD, safe=""), f"{USER}:", f"{USER}@"),  # the name alone is that of the owner
    *(base64.b64encode(text.encode()).decode().rstrip("=") for text in (PASSWORD, f"{USER}:{PASSWORD}")),
}


def places(*folders: Path) -> Iterator[str]:
    """Every file in the folders that holds the secret, and the form of it."""
    for folder in folders:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            content = path.read_bytes()
            yield from (f"{path}: {form}" for form in FORMS if form.encode() in content or form in str(path))


@pytest.fixture
def cached(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the lab's own."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


def test_no_byte_that_is_written_or_printed_holds_the_password(
    lab: Lab,
    folder: Path,
    cached: Path,
    mlflow_server: Server,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    address = mlflow_server.address.replace("//", f"//{USER}:{quote(PASSWORD, safe='')}@") + "/"
    monkeypatch.setattr(courier, "AWAY_PATIENCE", 0.5)
    line, said = [*SMALL, "train.epochs=1", "tracking.experiment=secrets"], ""

    def tell(*arguments: str) -> int:
        nonlocal said
        result = CliRunner().invoke(commands, list(arguments))
        said += f"{result.output}{result.exception!r}"
        return result.exit_code

    storage = f"search.storage=postgresql://{USER}:{quote(PASSWORD, safe='')}@127.0.0.1/lab"
    for words in (
        *(["-m", "seed=0,1"], ["seed=0"], ["optimizer.lr=1e30"], ["data.root=nowhere", "data=idx"]),
        ["-m", "hydra/sweeper=search", "model.layers=1,2", storage],
    ):
        code, out, err = lab(*line, f"tracking.uri={address}", *words)
        assert (code == 0) == ("seed" in words[-1]), out + err
        said += out + err
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    code, out, err = lab(*line, "seed=1")
    assert "is there already" in out + err
    said += out + err
    for words in (["compare", "seed"], ["status", "seed"], ["status"], ["report", "seed"]):
        assert tell(*words) == 0, said
    assert tell("evaluate", "seed", "evaluation=full", "evaluation.samples=0") == 0, said
    for words in (["compare", "sead"], ["verdict", "seed"]):
        assert tell(*words, "--uri", address) != 0
    assert tell("report", "seed", "--output", "page.html", "--uri", address) == 0, said
    assert tell("ui") == 0
    assert f"{mlflow_server.address}/#/" in said
    recorder = Store.open(address).start("secrets", "run", kind=tracking.RUN)
    mlflow_server.kill()
    recorder.log({"loss": 1.0}, step=1)
    recorder.finish("FINISHED")
    assert tell("sync") == 1
    for words in (["compare", "seed"], ["sync", "--uri", address], ["train", *line, "seed=2"]):
        assert tell(*words) != 0
    state = Path(os.environ["XDG_STATE_HOME"])
    assert list(state.rglob("*.record"))
    (folder / "said.txt").write_text(said + caplog.text)
    assert [*places(folder, state, cached, mlflow_server.folder)] == []
    mlflow_server.start()
    while list(state.rglob("*.record")):  # this process delivers them itself
        time.sleep(0.05)
