import json
import re
import subprocess
import sys
from collections.abc import Collection
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from vae_lab import tracking
from vae_lab.cli.group import commands
from vae_lab.errors import LabError
from vae_lab.report.lines import DRAWN
from vae_lab.report.page import panels, rendering, setup
from vae_lab.report.page.contents import Contents, gather
from vae_lab.report.page.rendering import html, markdown
from vae_lab.report.pictures import folded, load_picture, save_picture
from vae_lab.report.tables import Cell, Column, Table
from vae_lab.studies.claims import Explanation
from vae_lab.studies.comparison import comparisons
from vae_lab.studies.plan import PLAN_FILE, Plan
from vae_lab.studies.study import Study, load_study
from vae_lab.tracking import Store, StoredRun
from vae_lab.tracking.records import Points

HOSTILE = "<script>alert(1)</script> \"q\" 'q' & | $x$ ` <img src=x onerror=y>"


class Tags(HTMLParser):
    """The elements of a page with their attributes, and whether they close in order."""

    VOID = ("meta", "link", "img", "br", "path", "use")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


@pytest.fixture(scope="module")
def store(ablations: Path) -> Store:
    return Store.open(f"sqlite:///{ablations / 'mlflow.db'}")


@pytest.fixture(scope="module")
def contents(store: Store) -> Contents:
    return gather(store, load_study(store, "ablations"))


@pytest.fixture
def hostile(folder: Path) -> Store:
    """A store with a study whose every text was written by an enemy."""
    store = Store.open(f"sqlite:///{folder / 'mlflow.db'}", create=True)
    parent = store.start(
        "lab", HOSTILE, kind=tracking.SWEEP, tags={tracking.STUDY: HOSTILE, tracking.OWNER: HOSTILE}
    )
    plan = Plan(
        HOSTILE,
        HOSTILE,
        cross={"model": [HOSTILE, "b"]},
        one_at_a_time={"model.layers": [HOSTILE, "1"]},
        replicate={"seed": ["0"]},
        base={"model.layers": HOSTILE},
        claims=[{"id": HOSTILE, "text": HOSTILE}],
    )
    with parent.artifacts() as scratch:
        (scratch / PLAN_FILE).write_text(plan.to_json())
    tags = {
        tracking.PARENT: parent.run_id,
        tracking.member_tag(parent.run_id): "1",
        tracking.COMMAND: f"vae-lab train '{HOSTILE}'",
        tracking.ENVIRONMENT: json.dumps({HOSTILE: HOSTILE}),
        "vae_lab.data": HOSTILE,
    }
    for layers in (HOSTILE, "1"):
        params = {"model": HOSTILE, "model.layers": layers, "train.options": HOSTILE}
        run = store.start("lab", f"{HOSTILE} {layers}", kind=tracking.RUN, params=params, tags=tags)
        for step in (1, 2):
            run.log({f"{part}/{name}": 100.0 / step for part in ("train", "test")
                     for name in ("loss", "kl", "reconstruction")}, step)  # fmt: skip
        with run.artifacts() as scratch:
            save_picture(np.zeros((4, 19, 1), dtype=np.uint8), scratch / tracking.STRIP_FILE)
        run.finish("FINISHED")
    parent.finish("FINISHED")
    return store


def test_no_text_of_a_run_becomes_markup(hostile: Store) -> None:
    text = html(gather(hostile, load_study(hostile, HOSTILE)))
    tags = Tags(text)
    assert tags.open == []
    assert "script" not in {tag for tag, _ in tags.elements}
    assert not [
        attributes for _, attributes in tags.elements if any(key.startswith("on") for key in attributes)
    ]
    assert all(str(a["src"]).startswith("data:") for tag, a in tags.elements if tag == "img")
    assert text.count("&lt;script&gt;alert(1)") > 10


def test_no_text_of_a_run_becomes_markup_in_markdown(hostile: Store) -> None:
    text = markdown(gather(hostile, load_study(hostile, HOSTILE)))
    outside = re.sub(r"^(`{3,})sh\n.*?^\1$", "", text, flags=re.DOTALL | re.MULTILINE)
    assert "<script" not in outside
    assert "<img" not in outside
    assert "&lt;script&gt;" in outside
    rows = [line for line in text.splitlines() if line.startswith("| ") and "every combination" in line]
    assert len(re.findall(r"(?<!\\)\|", rows[0])) == 5


def test_the_page_needs_nothing_from_elsewhere(contents: Contents) -> None:
    text = html(contents)
    tags = Tags(text)
    assert tags.open == []
    for tag, attributes in tags.elements:
        assert tag not in ("script", "iframe", "object")
        assert str(attributes.get("src", "data:")).startswith("data:")
        if tag == "link":
            assert str(attributes["href"]).startswith("data:")
        for key in ("xlink:href", "href"):
            if tag == "use" and key in attributes:
                assert str(attributes[key]).startswith("#")
    assert "url(http" not in text
    assert "@import" not in text
    assert len(text) < 1_000_000


def test_ids_are_unique_and_the_contents_lead_somewhere(contents: Contents) -> None:
    tags = Tags(html(contents)).elements
    ids = [a["id"] for tag, a in tags if "id" in a and tag in ("section", "clippath")]
    assert len(ids) == len(set(ids))
    targets = [str(a["href"])[1:] for tag, a in tags if tag == "a" and str(a["href"]).startswith("#")]
    assert len(targets) >= 9
    assert set(targets) <= {a["id"] for _, a in tags if "id" in a}


def test_the_page_holds_the_runs_own_numbers_and_pictures(contents: Contents, store: Store) -> None:
    study = load_study(store, "ablations")
    text = html(contents)
    for run in study.runs:
        assert f"{run.metrics['test/loss']:.2f}" in text
        assert f"runs/{run.run_id}" in text
    assert [len(strip.images) for strip in contents.samples] == [3, 3, 3, 3]
    assert [panel.title for panel in contents.curves] == [
        "VAE · depth", "CVAE · depth", "VAE · latent size", "CVAE · latent size"
    ]  # fmt: skip
    assert [image.label for image in contents.classes] == [
        f"cvae {rest}" for rest in ("L2 Z15", "L3 Z15", "L4 Z15", "L3 Z10", "L3 Z30")
    ]
    assert len(contents.interpolations) == 10
    base = next(run for run in study.runs if run.name == "vae L3 Z15 s0")
    strip = load_picture(store.download(base.run_id, tracking.STRIP_FILE))
    assert np.array_equal(contents.samples[0].images[1].picture, folded(strip))


def test_the_answers_give_losses_in_the_order_of_the_values(contents: Contents, store: Store) -> None:
    answer = contents.answers[0]
    assert (answer.family, answer.key, answer.values) == ("VAE", "layers", "2 → 3 → 4")
    losses = {run.name: run.metrics["test/loss"] for run in load_study(store, "ablations").runs}
    assert answer.losses == " → ".join(f"{losses[f'vae L{layers} Z15 s0']:.2f}" for layers in (2, 3, 4))


def test_setup_says_what_is_shared_and_what_varies(contents: Contents) -> None:
    shared = dict(contents.shared)
    assert ("hidden_size", "16") in shared["model"]
    assert ("", "Adam") in shared["optimizer"]
    assert not {"layers", "latent_size", "conditional"} & {key for key, _ in shared["model"]}
    assert "seed" not in shared
    assert [[cell.text(Column("")) for cell in row] for row in contents.varied.rows] == [
        ["model", "vae, cvae", "every combination", "–"],
        ["model.layers", "2, 3, 4", "one at a time", "3"],
        ["model.latent_size", "10, 15, 30", "one at a time", "15"],
        ["seed", "0", "replicates", "–"],
    ]


def test_setup_says_how_measures_were_taken_that_were_added_after_training(store: Store) -> None:
    study = load_study(store, "ablations")

    def with_measures(*runs: StoredRun) -> list[tuple[str, str]]:
        return dict(setup.shared(study._replace(runs=list(runs))))["evaluation"]

    tags = {tracking.EVALUATION: "samples=500 judges=2 own/gap=1f2e3d"}
    judged = [replace(run, tags={**run.tags, **tags}) for run in study.runs]
    assert ("samples", "0") in with_measures(*study.runs)
    assert {("samples", "500"), ("judges", "2"), ("metrics", "own/gap")} <= {*with_measures(*judged)}
    assert "samples" not in dict(with_measures(*judged[1:], study.runs[0])), "they do not agree"


def test_setup_says_how_many_seeds_a_configuration_has_where_some_have_more(
    contents: Contents, store: Store
) -> None:
    study = load_study(store, "ablations")
    further = replace(study.runs[0], params={**study.runs[0].params, "seed": "1"})
    *_, seeds = setup.varied(study._replace(runs=[*study.runs, further])).rows
    assert seeds[2].text(Column("")) == "replicates, 1 to 2 a configuration"


def test_the_environment_names_data_device_and_versions(contents: Contents) -> None:
    facts = dict(contents.environment)
    assert facts["data and checksum"][0].startswith("digits ")
    assert facts["device"][0].startswith("cpu (")
    assert {"Python", "torch", "numpy", "processor", "cores", "threads"} <= facts.keys()


def test_the_recorded_commands_make_the_same_runs_again(
    contents: Contents, store: Store, folder: Path
) -> None:
    from vae_lab.cli import train

    assert contents.command == (
        "vae-lab train -m sweeps=ablations data=digits model.hidden_size=16 train.epochs=2 train.device=cpu"
    )
    commands = dict(contents.commands)
    assert len(commands) == 10
    again = commands["cvae L4 Z15 s0"].removeprefix("vae-lab train ").split()
    assert train.run_hydra(again) == 0
    (alone,) = Store.open(f"sqlite:///{folder / 'mlflow.db'}").records()
    original = next(
        run for run in load_study(store, "ablations").runs if run.params["model.layers"] == "4"
        and run.params["model"] == "cvae"
    )  # fmt: skip
    assert alone.tags[tracking.FINGERPRINT] == original.tags[tracking.FINGERPRINT]
    assert alone.metrics["test/loss"] == original.metrics["test/loss"]


def test_claims_stand_unjudged_until_there_are_verdicts(contents: Contents) -> None:
    asked = contents._replace(claims=[("C1", "Depth hurts.")])
    for text in (html(asked), markdown(asked)):
        assert "Depth hurts." in text
        assert "not yet judged" in text.lower()
    verdicts = Table("Verdicts", [Column("claim", numeric=False)], [[Cell("C1 refuted")]])
    for text in (html(asked._replace(verdicts=verdicts)), markdown(asked._replace(verdicts=verdicts))):
        assert "C1 refuted" in text
        assert "not yet judged" not in text.lower()


def test_the_page_says_what_contradicts_an_explanation(contents: Contents) -> None:
    text = html(
        contents._replace(explanations=[Explanation("Noise.", "contradicted", [])], claims=[("a", "b")])
    )
    assert "is contradicted if one is refuted or shown to be negligible." in text


def test_runs_whose_distortions_do_not_compare_lie_in_planes_of_their_own(contents: Contents) -> None:
    rates = {"test/kl": 20.0, "test/reconstruction": 90.0}
    runs = [
        tracking.StoredRun(
            f"{likelihood}{seed}", "1", f"vae s{seed}", "FINISHED",
            {"model": "vae", "objective.likelihood": likelihood, "seed": seed}, rates, {}, 0,
        )
        for likelihood in ("bernoulli", "gaussian")
        for seed in "01"
    ]  # fmt: skip
    plan = Plan(
        "kinds", cross={"objective.likelihood": ["bernoulli", "gaussian"]}, replicate={"seed": [*"01"]}
    )
    planes = panels.rate_distortion_panels(comparisons(Study(runs[0], plan, runs)))
    assert [plane.title for plane in planes] == ["likelihood bernoulli", "likelihood gaussian"]
    text = html(contents._replace(planes=planes))
    assert "<h3>likelihood gaussian</h3>" in text
    assert text.count("lower left is better within one model") == 2
    assert [plane.title for plane in contents.planes] == ["all runs"]


class ManyRuns:
    """A study of 100 configurations with three seeds each, as a command that only reads sees it."""

    uri = "http://many"

    def __init__(self, file: Path) -> None:
        sizes, seeds = [str(size) for size in range(2, 102)], ["0", "1", "2"]
        self.plan = file
        plan = Plan("many", cross={"model.latent_size": sizes}, replicate={"seed": seeds})
        file.write_text(plan.to_json())
        losses = {size: 100 + (int(size) - 40) ** 2 / 500 for size in sizes}
        self.runs = [
            tracking.StoredRun(
                f"{size}-{seed}", "1", f"vae Z{size} s{seed}", "FINISHED",
                {"model": "vae", "model.latent_size": size, "seed": seed},
                {"test/loss": losses[size] + int(seed), "test/kl": 20.0, "test/reconstruction": losses[size]},
                {}, 0,
            )
            for size in sizes
            for seed in seeds
        ]  # fmt: skip

    def tagged(self, key: str, value: str) -> list[tracking.StoredRun]:
        return [tracking.StoredRun("parent", "1", "many", "FINISHED", {}, {}, {tracking.STUDY: "many"}, 0)]

    def experiments(self) -> dict[str, str]:
        return {}

    def members(self, parent_run_id: str, **_wanted: bool) -> list[tracking.StoredRun]:
        return self.runs

    def record(self, run_id: str) -> tracking.StoredRun:
        return next(run for run in self.runs if run.run_id == run_id)

    def history(self, run_id: str, metric: str) -> list[float]:
        return [self.record(run_id).metrics[metric]]

    def points(self, run_ids: Collection[str], metrics: Collection[str]) -> Points:
        return {run_id: {"test/loss": {1: self.record(run_id).metrics["test/loss"]}} for run_id in run_ids}

    def download(self, run_id: str, path: str) -> Path:
        if path != PLAN_FILE:
            raise LabError(f"{run_id} has no {path}")
        return self.plan


def test_a_study_of_many_configurations_draws_some_and_says_so(tmp_path: Path) -> None:
    store = ManyRuns(tmp_path / PLAN_FILE)
    contents = gather(store, load_study(store, "many"))
    assert contents.abridged.startswith("The study has 100 configurations.")
    (curves,) = contents.curves
    assert curves.caption.count(" for ") == DRAWN
    assert curves.caption.startswith("Held-out loss at the end, by latent size: 103.9 for 2,")
    assert "108.4 for 101" in curves.caption
    text = html(contents)
    assert contents.abridged in text
    assert "<summary>latent size: 100 rows</summary>" in text
    assert Tags(text).open == []
    assert len(contents.runs) == 300


def test_a_study_without_claims_or_finished_runs_has_a_page(folder: Path) -> None:
    store = Store.open(f"sqlite:///{folder / 'mlflow.db'}", create=True)
    parent = store.start("lab", "empty", kind=tracking.SWEEP, tags={tracking.STUDY: "empty"})
    with parent.artifacts() as scratch:
        (scratch / PLAN_FILE).write_text(Plan("empty", cross={"model": ["vae"]}).to_json())
    run = store.start(
        "lab", "vae", kind="run", params={"model": "vae"}, tags={tracking.member_tag(parent.run_id): "1"}
    )
    run.finish("FAILED")
    contents = gather(store, load_study(store, "empty"))
    assert contents.state == "0 of 1 runs finished, 1 failed"
    text = html(contents)
    assert Tags(text).open == []
    assert 'id="verdicts"' not in text
    assert 'id="curves"' not in text
    assert "failed" in text


def test_every_multirun_ends_with_its_page(store: Store) -> None:
    parent = load_study(store, "ablations").parent
    assert "<h1>ablations</h1>" in store.download(parent.run_id, rendering.ARTIFACT).read_text()
    assert store.download(parent.run_id, "report.md").read_text().startswith("# ablations\n")


def test_the_command_writes_both_files_and_says_where(ablations: Path, folder: Path, store: Store) -> None:
    result = CliRunner().invoke(commands, ["report", "ablations", "--uri", store.uri])
    assert result.exit_code == 0, result.output
    assert (folder / "ablations.html").read_text().startswith("<!doctype html>")
    assert (folder / "ablations.md").read_text().startswith("# ablations\n")
    assert [line.split("  ")[0] for line in result.output.splitlines()] == [
        str(folder / "ablations.html"), str(folder / "ablations.md"),
    ]  # fmt: skip


def test_the_command_only_reads_the_store(ablations: Path, folder: Path, store: Store) -> None:
    parent = load_study(store, "ablations").parent
    pages = [store.download(parent.run_id, name) for name in (rendering.ARTIFACT, "report.md")]
    before = [(page.read_bytes(), page.stat().st_mtime_ns) for page in pages]
    database = (ablations / "mlflow.db").read_bytes()
    assert CliRunner().invoke(commands, ["report", "ablations", "--uri", store.uri]).exit_code == 0
    assert [(page.read_bytes(), page.stat().st_mtime_ns) for page in pages] == before
    assert (ablations / "mlflow.db").read_bytes() == database


def test_a_page_to_be_published_leads_nobody_to_a_local_server(
    ablations: Path, folder: Path, store: Store
) -> None:
    result = CliRunner().invoke(commands, ["report", "ablations", "--uri", store.uri, "--no-links"])
    assert result.exit_code == 0, result.output
    for name in ("ablations.html", "ablations.md"):
        written = (folder / name).read_text()
        assert "localhost" not in written
        assert "In MLflow" not in written
    parent = load_study(store, "ablations").parent
    assert "In MLflow" in store.download(parent.run_id, rendering.ARTIFACT).read_text()


def test_a_page_is_made_without_mlflow_and_is_the_same(
    ablations: Path, folder: Path, contents: Contents
) -> None:
    program = """
import sys
from vae_lab.report.page.contents import gather
from vae_lab.report.page.rendering import html
from vae_lab.studies.study import load_study
from vae_lab.tracking import reader
store = reader(sys.argv[1])
open("page.html", "w").write(html(gather(store, load_study(store, "ablations"))))
assert not {"mlflow", "torch"} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", program, f"sqlite:///{ablations / 'mlflow.db'}"], check=True)
    assert (folder / "page.html").read_text() == html(contents)


def test_the_environment_of_stored_runs_is_found() -> None:
    assert tracking.ENVIRONMENT == "vae_lab.environment", "stores keep it under this tag"


@pytest.mark.parametrize("out", ["page.pdf", "no/such/folder/page.html"])
@pytest.mark.parametrize("option", ["--out", "--output"])
def test_a_file_that_cannot_be_is_named(ablations: Path, store: Store, option: str, out: str) -> None:
    result = CliRunner().invoke(commands, ["report", "ablations", "--uri", store.uri, option, out])
    assert result.exit_code != 0
    assert f"--out {out}: " in str(result.exception)


def test_a_studys_name_becomes_a_file_name() -> None:
    assert rendering.file_name("layers x seed") == "layers-x-seed"
    assert rendering.file_name("../../etc/passwd") == "etc-passwd"
    assert rendering.file_name("..") == "study"


def test_wide_pictures_are_made_smaller() -> None:
    wide = np.random.default_rng(0).integers(0, 255, (600, 1200, 3), dtype=np.uint8)
    assert len(rendering.data(wide)) < wide.size / 3
    assert rendering.data(wide[:10, :10]).startswith("data:image/webp;base64,")
