import json
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from tests.misuse.conftest import PROFILE, TINY, Answer, Lab, left_behind
from vae_lab import config, tracking
from vae_lab.config.references import Reference
from vae_lab.errors import UserError
from vae_lab.jobs.job import Multirun
from vae_lab.jobs.lines.grid import axes, jobs
from vae_lab.report.page import rendering
from vae_lab.studies.plan import PLAN_FILE, Plan
from vae_lab.tracking import Store

NAMES = {
    "path": "../../x",
    "absolute": "/etc/x",
    "newline": "a\nb",
    "long": "x" * 10_000,
    "right to left": "\u202eabc",
    "hebrew": "שלום",
    "emoji": "😀",
    "dash": "-x",
    "quote": 'it\'s "x"',
    "markup": "[red]x[/blue]",
    "formula": "$\\frac$ x_$",
    "script": "<script>alert(1)</script>",
    "image": "<img src=x onerror=alert(1)>",
    "link": "[x](javascript:alert(1)) ![y](http://e/z)",
    "escape": "\x1b[31mred",
    "backticks": "`x` ```",
    "empty": "",
    "interpolation": "${seed}",
    "backslash": "a\\",
}
Compose = Callable[..., DictConfig]
RULED = ("tracking.experiment", "study.name", "data.name")
LINES = ("tracking.run_name", "study.question")


def quoted(text: str) -> str:
    """A text as a value on the line, taken as it is."""
    escaped = re.sub(r"(\\+)($|')", r"\1\1\2", text).replace("'", "\\'")
    return f"'{escaped}'"


@pytest.mark.parametrize("key", [*RULED, *LINES])
def test_a_name_is_taken_by_its_rule_or_refused_by_it(composed: Compose, key: str) -> None:
    plain = composed(*TINY)
    for kind, name in NAMES.items():
        given = plain.copy()
        OmegaConf.update(given, key, name)
        line = key in LINES and name.isprintable() and 0 < len(name) <= 200
        if line or kind in ("hebrew", "interpolation"):
            config.checked(given)
        else:
            with pytest.raises(UserError, match=re.escape(key) + "=.*: must be ") as refused:
                config.checked(given)
            assert str(refused.value).isprintable()


@pytest.mark.parametrize("kind", ["quote", "newline", "long", "script", "backslash"])
def test_a_name_on_the_line_is_refused_in_one_message(answer: Answer, kind: str) -> None:
    assert answer(*TINY, f"study.name={quoted(NAMES[kind])}").startswith("study.name=")
    assert (answer(*TINY, f"tracking.run_name={quoted(NAMES[kind])}") == "") == (
        kind not in ("newline", "long")
    )


@settings(PROFILE, max_examples=100)
@given(name=st.text(max_size=300))
@example(name="../..")
@example(name="\u00e9" * 300)
def test_a_studys_page_stays_in_its_folder(name: str) -> None:
    file = rendering.file_name(name)
    assert Path(file).name == file
    assert file not in (".", "..")
    assert not file.startswith((".", "-"))
    assert len(f"{file}.html".encode()) < 256


@settings(PROFILE, max_examples=8)
@given(
    value=st.one_of(
        st.sampled_from([*NAMES.values(), "a'b\\", "x" * 190 + "'\\" * 20]),
        st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=250),
    )
)
def test_a_points_name_survives_hydras_quotes(composed: Compose, value: str) -> None:
    parser = OverridesParser.create()
    given = parser.parse_overrides([f"data.root={quoted(value)},/x"])
    empty = OmegaConf.create({"cross": {}, "one_at_a_time": {}, "replicate": {}})
    try:
        points = jobs(axes(empty, given, parser), lambda overrides: composed(*overrides))
    except (UserError, HydraException):
        assume(False)
    for job in points:
        assert config.checked(composed(*job.overrides)) == job.settings
        # Its name reaches the processes of other launchers within this override.
        multirun = Multirun("0" * 32, value, len(points), job.name)
        (sent,) = parser.parse_overrides([f"+hydra.job.env_set.X={multirun.to_text()}"])
        assert Multirun.from_text(str(sent.value())) == multirun


class Page(HTMLParser):
    """The elements and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data


HOSTILE = "<script>alert(1)</script><img src=x onerror=y> [red]x[/blue] $\\frac$ [x](javascript:y) `z` 😀 :fire: |a|"  # noqa: E501


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A store whose every text is hostile: a study, its claim, its runs, their parameters and errors."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("hostile")
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        uri = f"sqlite:///{folder / 'mlflow.db'}"
        claim = {
            "id": "C1",
            "text": HOSTILE,
            "metric": HOSTILE,
            "expect": "increasing",
            "along": "model.layers",
        }
        plan = Plan(
            name=HOSTILE,
            question=HOSTILE,
            one_at_a_time={"model.layers": ["1", HOSTILE]},
            base={"model.layers": "1"},
            claims=[claim | {"explanation": HOSTILE}],
            reference=Reference(source=HOSTILE, note=HOSTILE),
        )
        store = Store.open(uri, create=True)
        parent = store.start("lab", HOSTILE, kind=tracking.SWEEP, tags={tracking.STUDY: "hostile"})
        with parent.artifacts() as artifacts:
            (artifacts / PLAN_FILE).write_text(plan.to_json())
        tags = {
            tracking.member_tag(parent.run_id): "1",
            tracking.COMMAND: HOSTILE,
            tracking.ENVIRONMENT: json.dumps({HOSTILE: HOSTILE}),
            tracking.ERROR: HOSTILE,
            "vae_lab.data": HOSTILE,
        }
        for layers, status in (("1", "FINISHED"), (HOSTILE, "FINISHED"), ("1", "FAILED")):
            params = {"model.layers": layers, "model": HOSTILE, "seed": "0", "optimizer.x": HOSTILE}
            run = store.start("lab", f"{HOSTILE} {layers}", kind=tracking.RUN, params=params, tags=tags)
            run.log({"test/loss": 100.0, "test/kl": 1.0, "test/reconstruction": 99.0}, step=1)
            run.finish(status)
        parent.finish("FINISHED")
        yield uri


def test_a_page_of_hostile_texts_shows_them_and_does_nothing(
    command: Lab, folder: Path, hostile: str
) -> None:
    code, out, err = command("report", "hostile", "--uri", hostile)
    assert (code, err) == (0, "")
    (file,) = folder.glob("*.html")
    assert str(file) in out
    found = Page(file.read_text())
    assert {tag for tag, _ in found.elements} & {"script", "iframe", "object", "base", "form"} == set()
    for tag, attributes in found.elements:
        assert not [name for name in attributes if name.startswith("on")]
        if "href" in attributes and tag == "a":
            assert str(attributes["href"]).startswith(("#", "http://vae-lab.localhost:5000/#/"))
        if tag == "img":
            assert str(attributes["src"]).startswith("data:image/webp;base64,")
    assert found.words.count(HOSTILE) >= 8
    text = file.with_suffix(".md").read_text()
    outside = re.sub(r"^(`{3,})sh\n.*?^\1$", "", text, flags=re.DOTALL | re.MULTILINE)
    assert "<script" not in outside
    assert "<img" not in outside
    assert not re.search(r"(?<!\\)\[[^\]]*\]\(javascript", outside)


@pytest.mark.parametrize("form", ["terminal", "markdown", "csv", "latex", "html"])
def test_hostile_texts_are_printed_as_they_are(command: Lab, folder: Path, hostile: str, form: str) -> None:
    for line in (
        ["compare", "hostile"],
        ["compare", "hostile", "--by", "model.layers"],
        ["verdict", "hostile"],
    ):
        code, out, err = command(*line, "--uri", hostile, "--format", form)
        assert (code, err) == (0, "")
        if form == "terminal":
            assert ":fire:" in out
            assert "[red]x[/blue]" in out
        elif form in ("markdown", "html"):
            assert "<script" not in out
    assert command("compare", "--uri", hostile)[0] == 0
    assert left_behind(folder) == []


def test_a_study_that_is_not_there_is_named_on_one_line(command: Lab, hostile: str) -> None:
    for name in NAMES.values():
        if name and not name.startswith("-"):
            code, out, err = command("compare", name, "--uri", hostile)
            assert (code, out) == (2, "")
            assert len(err.splitlines()) == 1


def test_a_multirun_of_a_strangely_worded_study_ends_whole(lab: Lab, folder: Path) -> None:
    asked = "[/red] $\\frac$ 😀 <script>"
    root = folder / "$a$b [red]"
    root.mkdir()
    code, _, err = lab("-m", *TINY, "seed=0", f"study.question={quoted(asked)}", f"data.root='{root}',null")
    assert code == 0, err
    assert "✗" not in err
