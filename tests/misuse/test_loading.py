import ast
import json
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mlflow import MlflowClient

import vae_lab
from tests.conftest import trained
from tests.misuse.conftest import PROFILE, TINY, Lab
from vae_lab import files, tracking
from vae_lab.cli import ui
from vae_lab.cli.train import run_hydra
from vae_lab.errors import LabError
from vae_lab.files import PACKAGE
from vae_lab.report import pictures
from vae_lab.studies.latent_size import Spectrum
from vae_lab.studies.plan import PLAN_FILE, Plan
from vae_lab.tracking import Store
from vae_lab.tracking.records import checksum_tag


class Kept(NamedTuple):
    """A store with a finished multirun of one run, and where its artifacts lie."""

    uri: str
    run_id: str
    parent_id: str
    run: Path
    parent: Path


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    folder = trained(tmp_path_factory.mktemp("kept"), "-m", *TINY, "seed=0", "study.name=mine")
    store = Store.open(f"sqlite:///{folder / 'mlflow.db'}")
    (parent,) = store.tagged(tracking.KIND, tracking.SWEEP)
    (run,) = store.members(parent.run_id)
    places = [Path(store.place(run_id, "")) for run_id in (run.run_id, parent.run_id)]
    return Kept(store.uri, run.run_id, parent.run_id, *places)


@pytest.fixture
def replaced(kept: Kept) -> Iterator[Any]:
    """Puts other content in place of an artifact while a test lasts, as whoever writes to the store can.

    The run's checksum of it is made anew, so that what reads the content gets to see it.
    """
    before: dict[Path, bytes] = {}
    client = MlflowClient(kept.uri)

    def put(path: Path, content: bytes) -> None:
        before.setdefault(path, path.read_bytes())
        path.write_bytes(content)
        for place, run_id in ((kept.run, kept.run_id), (kept.parent, kept.parent_id)):
            if path.is_relative_to(place):
                tag = checksum_tag(path.relative_to(place).as_posix())
                client.set_tag(run_id, tag, files.checksum(path))

    yield put
    for path, content in before.items():
        put(path, content)


class Bomb:
    """What touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.path,)  # type: ignore[return-value]


def test_a_pickled_bomb_in_place_of_a_model_is_refused(
    kept: Kept, replaced: Any, command: Lab, tmp_path: Path
) -> None:
    model, fuse = kept.run / "model" / "model.pt", tmp_path / "fuse"
    torch.save(
        {"format": 1, "target": "vae_lab.models.VAE", "arguments": {}, "weights": Bomb(fuse)}, tmp_path / "x"
    )
    for content in (
        pickle.dumps(Bomb(fuse), 2),
        (tmp_path / "x").read_bytes(),
        b"",
        b"PK\x03\x04",
        b"x" * 99,
    ):
        replaced(model, content)
        with pytest.raises(LabError, match=r"model\.pt: is no model that can be loaded"):
            vae_lab.load(kept.run_id, uri=kept.uri)
        code, _, err = command("evaluate", kept.run_id, "--uri", kept.uri, "evaluation.samples=0")
        assert code == 1
        assert "is no model that can be loaded" in err
    assert not fuse.exists()


CONFIGS = {
    "tag": b"data: !!python/object/apply:os.system ['touch pwned']\n",
    "bomb": b"a: &a [1,1,1,1,1,1,1,1,1,1]\n"
    + b"".join(b"%c: &%c [%s]\n" % (98 + i, 98 + i, b",".join([b"*%c" % (97 + i)] * 10)) for i in range(9)),
    "list": b"[1]",
    "nothing": b"",
    "bytes": b"\xff\xfe\x00",
    "deep": b"[" * 1500,
    "interpolation": b"data: {name: '${oc.env:HOME}', root: '${nowhere}'}\nobjective: {}\nseed: 0\n",
    "types": b"data: 3\nobjective: []\nseed: x\n",
    "loader": b"data: {_target_: os.system, name: x, root: touch pwned, binarize: none}\n",
    "range": b"seed: -1\n",
}


@pytest.mark.parametrize("case", CONFIGS)
def test_a_runs_config_is_data_and_nothing_else(
    kept: Kept, replaced: Any, command: Lab, folder: Path, case: str
) -> None:
    replaced(kept.run / "config.yaml", CONFIGS[case])
    code, _, err = command(
        "evaluate", kept.run_id, "--uri", kept.uri, "evaluation=full", "evaluation.samples=0"
    )
    assert code in (1, 2), err
    assert not list(folder.glob("pwned"))


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a module leaves behind when it is imported: it holds a model class and a data function."""
    fuse = tmp_path / "fuse"
    (tmp_path / "stranger.py").write_text(
        "import pathlib\n"
        "from vae_lab.data import digits as load\n"
        "from vae_lab.models import VAE\n"
        f"pathlib.Path({str(fuse)!r}).touch()\n"
        "class Model(VAE):\n"
        "    pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "stranger", raising=False)
    return fuse


def test_a_model_class_of_a_store_is_imported_only_if_the_reader_names_it(
    kept: Kept, replaced: Any, command: Lab, stranger: Path
) -> None:
    model = kept.run / "model" / "model.pt"
    stored = torch.load(model, weights_only=True)
    evaluate = ("evaluate", kept.run_id, "--uri", kept.uri, "--again", "evaluation.samples=0")
    quick = (*evaluate, "evaluation.importance_samples=0", "evaluation.posterior_draws=1")
    for name in ("stranger.Model", "vae_lab.checkpoints.pickle.Unpickler", "vae_lab.models", 3):
        torch.save(stored | {"target": name}, model.with_name("x"))
        replaced(model, model.with_name("x").read_bytes())
        with pytest.raises(LabError, match="which is not the lab's own"):
            vae_lab.load(kept.run_id, uri=kept.uri)
        code, _, err = command(*quick)
        assert code == 1
        assert "which is not the lab's own" in err
        assert not stranger.exists()
        if name == "stranger.Model":
            assert type(vae_lab.load(kept.run_id, uri=kept.uri, trust=[name]).module).__name__ == "Model"
            assert stranger.exists()
            assert command(*quick, "--trust", name)[0] == 0
            stranger.unlink()


def test_a_data_function_of_a_store_is_called_only_if_the_reader_names_it(
    kept: Kept, replaced: Any, command: Lab, stranger: Path
) -> None:
    file = kept.run / "config.yaml"
    text = file.read_text()
    evaluate = ("evaluate", kept.run_id, "--uri", kept.uri, "--again", "evaluation.samples=0")
    quick = (*evaluate, "evaluation.importance_samples=0", "evaluation.posterior_draws=1")
    for name in ("stranger.load", "vae_lab.data.sets.hashlib.sha256"):
        replaced(file, text.replace("vae_lab.data.digits", name).encode())
        code, _, err = command(*quick)
        assert code == 1
        assert f"data._target_: names {name}, which is not the lab's own" in err
        assert not stranger.exists()
    replaced(file, text.replace("vae_lab.data.digits", "stranger.load").encode())
    assert command(*quick, "--trust", "stranger.load")[0] == 0
    assert stranger.exists()


def test_nothing_is_fetched_into_a_folder_that_a_store_names(
    kept: Kept, replaced: Any, command: Lab, folder: Path
) -> None:
    (folder / "there").mkdir()
    text = (kept.run / "config.yaml").read_text().replace("vae_lab.data.digits", "vae_lab.data.mnist")
    replaced(kept.run / "config.yaml", text.replace("root: null", f"root: {folder / 'there'}").encode())
    code, _, err = command("evaluate", kept.run_id, "--uri", kept.uri, "evaluation.samples=0")
    assert code == 1
    assert "was trained on data" in err, "the reader's own folder was read"
    assert list((folder / "there").iterdir()) == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from([*Plan.__struct_fields__, "more"])
DAMAGED_PLANS = st.one_of(
    JSON.map(json.dumps),
    st.dictionaries(FIELDS, JSON, max_size=4).map(lambda found: json.dumps({"name": "mine"} | found)),
    st.text(max_size=20),
)


@settings(PROFILE, max_examples=40)
@given(text=DAMAGED_PLANS)
@example("[" * 100_000)
@example('{"name": "mine", "cross": 3}')
@example('{"name": "mine", "cross": {"seed": 3}}')
@example('{"name": "mine", "also": {"a": 3}}')
@example('{"name": "mine", "reference": {"conditions": 3}}')
@example('{"name": "mine", "reference": {"values": [{"epochs": 1}]}}')
@example('{"name": "mine", "oracle": {}}')
@example('{"name": "mine", "claims": [3]}')
@example('{"name": "mine", "runs": 3}')
@example('{"name": "mine", "runs": [[1]]}')
@example('{"name": "mine", "runs": [["a", "b", "c"]]}')
def test_a_damaged_plan_is_one_message(kept: Kept, replaced: Any, command: Lab, text: str) -> None:
    replaced(kept.parent / PLAN_FILE, text.encode(errors="surrogatepass"))
    code, _, err = command("compare", "mine", "--uri", kept.uri)
    assert code in (0, 1)
    if code:
        assert PLAN_FILE in err


@pytest.fixture
def without_plan(kept: Kept) -> Iterator[str]:
    """The newest parent run of the store, of the study `mine` too, killed before it had a plan."""
    store = Store.open(kept.uri)
    run_id = store.start("vae_lab", "mine", kind=tracking.SWEEP, tags={tracking.STUDY: "mine"}).run_id
    yield run_id
    store.client.delete_run(run_id)


@pytest.mark.parametrize("line", [["status"], ["status", "mine"], ["compare", "mine"], ["report", "mine"]])
def test_a_parent_that_cannot_be_read_is_named_and_the_others_are_shown(
    kept: Kept,
    without_plan: str,
    command: Lab,
    caplog: pytest.LogCaptureFixture,
    line: list[str],
    folder: Path,
) -> None:
    code, out, _ = command(*line, "--uri", kept.uri)
    assert code == 0
    assert "mine" in out
    (message,) = caplog.messages
    assert message.startswith(f"Left out: {without_plan}: has no artifact {PLAN_FILE}")
    assert len(message.splitlines()) == 1


def test_a_parent_that_cannot_be_read_is_refused_by_its_id(
    kept: Kept, without_plan: str, command: Lab
) -> None:
    code, _, err = command("compare", without_plan, "--uri", kept.uri)
    assert code == 1
    assert f"{without_plan}: has no artifact {PLAN_FILE}" in err


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"name": 3}'])
def test_a_damaged_plan_is_left_out_of_the_list_and_of_the_ui(
    kept: Kept, replaced: Any, command: Lab, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    replaced(kept.parent / PLAN_FILE, content)
    code, out, _ = command("status", "--uri", kept.uri)
    assert code == 0
    assert "mine" not in out
    (message,) = caplog.messages
    assert message.startswith(f"Left out: {kept.parent_id}: its {PLAN_FILE} cannot be read: ")
    assert ui.first_page(Store.open(kept.uri)).startswith("#/experiments/")


def test_the_ui_opens_at_the_newest_study_that_can_be_read(kept: Kept, without_plan: str) -> None:
    page = ui.first_page(Store.open(kept.uri))
    assert "viewStateShareKey" in page or "compareRunsMode" in page, page


@pytest.mark.parametrize("moment", ["_record_spectrum", "record_plan", "_train"])
def test_a_multirun_that_is_stopped_in_its_first_seconds_leaves_a_store_that_can_be_read(
    folder: Path, command: Lab, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    from vae_lab.jobs.lines import multirun

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(multirun, moment, interrupted)
        assert run_hydra(["-m", *TINY, "seed=0", "study.name=mine"]) == 130
    code, out, _ = command("status")
    assert code == 0
    if moment != "record_plan":  # it is written with the parent, before anything else is done
        assert "0 of 1 runs finished" in out
    assert run_hydra(["-m", *TINY, "seed=0", "study.name=mine"]) == 0
    assert "1 of 1 runs finished" in command("status")[1]


def test_a_studys_page_does_not_leave_the_folder(
    kept: Kept, replaced: Any, command: Lab, folder: Path
) -> None:
    (folder / "here").mkdir()
    plan = json.loads((kept.parent / PLAN_FILE).read_text())
    for name in ("../../x", "/etc/x", "..", "x" * 10_000, "a\nb"):
        replaced(kept.parent / PLAN_FILE, json.dumps(plan | {"name": name}).encode())
        code, out, err = command("report", "mine", "--uri", kept.uri)
        assert (code, err) == (0, "")
        written = Path(out.splitlines()[0].rpartition("  ")[0])
        assert written.parent == folder
        written.unlink()
        written.with_suffix(".md").unlink()
    assert [each.name for each in folder.iterdir()] == ["here"]


@pytest.mark.parametrize("content", [b"", b"\x89PNG", b"GIF89a", b"x" * 99])
def test_a_damaged_picture_is_left_out_of_the_page(
    kept: Kept, replaced: Any, command: Lab, content: bytes
) -> None:
    for name in (tracking.STRIP_FILE, tracking.INTERPOLATION_FILE, "figures/interpolation.png"):
        replaced(kept.run / name, content)
    code, _, err = command("report", "mine", "--uri", kept.uri)
    assert (code, err) == (0, "")


def test_a_picture_that_would_fill_the_memory_is_not_read(tmp_path: Path) -> None:
    from PIL import Image

    for side in (20_000, 9_000, 4_097):
        Image.new("1", (side, side)).save(tmp_path / "bomb.png")
        with pytest.raises(LabError, match="is no PNG that can be shown"):
            pictures.load_picture(tmp_path / "bomb.png")


@settings(PROFILE, max_examples=60)
@given(st.one_of(JSON.map(json.dumps), st.text(max_size=9)))
@example("[" * 100_000)
@example('{"data": "", "checksum": "", "images": 1, "eigenvalues": 3, "noise_variance": 1}')
def test_a_damaged_spectrum_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  each with words of its own
        Spectrum.from_json(text)


def test_the_lab_never_unpickles_and_never_runs_text() -> None:
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            assert called not in ("eval", "exec", "os.system", "pickle.load", "pickle.loads", "yaml.load"), (
                file
            )
            arguments = {each.arg: ast.unparse(each.value) for each in node.keywords}
            assert arguments.get("shell", "False") == "False", file
            if called == "torch.load":
                assert arguments["weights_only"] == "True", file


def test_the_server_that_the_lab_starts_listens_on_this_machine_only(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def refuse(command: list[str], **_: object) -> None:
        asked.append(command)
        raise OSError("no process")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    with pytest.raises(OSError, match="no process"):
        ui.start("sqlite:///x.db", 5000)
    (line,) = asked
    assert line[line.index("--host") + 1] == "127.0.0.1"
    for flag in ("--allowed-hosts", "--cors-allowed-origins"):
        names = {
            name.partition(":")[0] for name in line[line.index(flag) + 1].replace("http://", "").split(",")
        }
        known = {"127.0.0.1", "localhost", "vae-lab.localhost"}
        assert known <= names
        assert all(name.endswith(".localhost") for name in names - known), "a name that only the lab knows"
