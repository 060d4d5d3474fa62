import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.misuse.conftest import PROFILE, TINY, Answer
from vae_lab.config import valid_keys

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12),
    st.sampled_from(["${seed}", "${nowhere}", "???", "1,2", "range(1,3)", "2,", "[", "a=b", "model"]),
)
KEYS = st.one_of(
    st.sampled_from(
        ["model.layers", "seed", "model", "optimizer.lr", "id", "metric", "expect", "epochs", "values"]
    ),
    st.text(max_size=5),
    st.integers(0, 3),
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=8,
)
PLACES = [
    *("sweep", "sweep.cross", "sweep.one_at_a_time", "sweep.also", "sweep.replicate", "study", "study.name"),
    *("study.question", "study.reference", "study.claims", "study.oracle", "seeds", "hydra", "defaults"),
    *("model", "train", "seed", "optimizer", "scheduler", "tracking", "data"),
]


def nested(place: str, value: object) -> dict[str, object]:
    first, _, rest = place.partition(".")
    return {first: nested(rest, value) if rest else value}


@pytest.fixture
def ask(answer: Answer, tmp_path_factory: pytest.TempPathFactory) -> Answer:
    """What the lab says to a multirun of a study whose file has this content."""
    own = tmp_path_factory.mktemp("own")
    (own / "experiments").mkdir()

    def written(content: str | bytes, *arguments: str) -> str:
        raw = content if isinstance(content, bytes) else content.encode()
        (own / "experiments" / "mine.yaml").write_bytes(raw)
        return answer(*arguments, "--config-dir", str(own), "experiments=mine", *TINY)

    return written


@settings(PROFILE, max_examples=15)
@given(place=st.sampled_from(PLACES), value=TREES, alone=st.booleans())
@example(place="sweep.cross", value={"seed": []}, alone=False)
@example(place="sweep.cross", value={"model.layers": "range(3,1)"}, alone=False)
@example(place="sweep.cross", value={"seed": "range(0,1000000000)"}, alone=False)
@example(place="sweep.cross", value={"seed": [{"a": 1}]}, alone=False)
@example(place="sweep.also", value={"a": None}, alone=False)
@example(place="sweep.also", value={"a": {"seed": "${seed}"}}, alone=False)
@example(place="study.reference", value={"conditions": []}, alone=True)
@example(place="study.reference", value={"values": [{"epochs": []}]}, alone=True)
@example(place="study.reference", value={"at": [0], "metric": "x"}, alone=True)
@example(place="study.reference", value={"landmarks": [{"source": "x"}]}, alone=True)
@example(place="optimizer", value={"x": {1: 2, "b": 3}}, alone=True)
@example(place="seeds", value=True, alone=False)
@example(place="hydra", value=None, alone=False)
@example(place="defaults", value=3, alone=False)
@example(place="study", value={"claims": [{"id": "x"}]}, alone=False)
def test_a_study_of_any_form_is_planned_or_refused(
    ask: Answer, place: str, value: object, alone: bool
) -> None:
    text = yaml.safe_dump(nested(place, value), allow_unicode=True)
    ask(f"# @package _global_\n{text}", *([] if alone else ["-m"]))


@settings(PROFILE, max_examples=20)
@given(st.one_of(st.binary(max_size=40), st.text("{}[]:,-!&*#|>%@`'\"\n ab", max_size=40).map(str.encode)))
@example(b"\xff\xfe")
@example(b"a: \x07")
def test_any_bytes_are_a_study_or_refused(ask: Answer, content: bytes) -> None:
    ask(content)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (
            "x: !!python/object/apply:os.system ['touch pwned']",
            "mine.yaml, line 2: is no YAML that is safe to load",
        ),
        ("x: !!python/name:os.system", "mine.yaml, line 2: is no YAML that is safe to load"),
        ("train: {epochs: 1\n", "mine.yaml, line"),
        ("\tseed: 1", "mine.yaml, line 2"),
        ("seed: 1\nseed: 2", "mine.yaml, line"),
        ("x: *nowhere", "mine.yaml, line 2"),
        ("[" * 1500, "nested too deeply"),
        ("model: {layers: 0}", "model.layers=0: must be a whole number from 1 to 1000."),
        ("modle: {layers: 1}", "modle"),
        ("model: 5", "model"),
        ("seed: {a: 1}", "seed"),
        ("study: {name: ../../x}", "study.name=../../x: must be null or letters, digits"),
        ('study: {name: "a\\nb"}', "study.name=a\\nb: must be null or letters, digits"),
        ("study: {question: [1]}", "study.question"),
        ("study: {reference: {conditions: 3}}", "study.reference.conditions=3: must be parameters"),
        ("study: {reference: {at: [1]}}", "study.reference.metric: must be given"),
        ("study: {reference: {nothing: 1}}", "study.reference.nothing: unknown key"),
        ("study: {oracle: {shares: [2]}}", "study.oracle.shares=2.0"),
        ("sweep: {cross: {model.layers: 0}}", "model.layers=0"),
        ("sweep: 3", "sweep=3: must be a mapping of keys"),
        ("sweep: {crss: {seed: [1]}}", "sweep.crss: unknown key; did you mean sweep.cross?"),
    ],
    ids=lambda value: value[:40],
)
def test_a_mistake_in_a_study_is_named(ask: Answer, content: str, named: str) -> None:
    assert named in ask(f"# @package _global_\n{content}", "-m")


def test_a_file_whose_aliases_stand_for_gigabytes_is_not_unfolded(ask: Answer) -> None:
    rows = [f"x{i}: &x{i} [{','.join([f'*x{i - 1}'] * 10)}]" for i in range(1, 10)]
    named = "mine.yaml: must stand for at most 100000 values"
    assert named in ask("\n".join(["# @package _global_", "x0: &x0 [1]", *rows]))
    assert named in ask("x: &x [*x]")


def test_a_study_that_is_no_file_is_not_there(
    answer: Answer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    own = tmp_path_factory.mktemp("own")
    (own / "experiments" / "mine.yaml").mkdir(parents=True)
    assert "experiments=mine: no such option" in answer("--config-dir", str(own), "experiments=mine")
    for outside in ("../../../etc/passwd", "/etc/passwd", "..", "mine/../../x"):
        assert "experiments" in answer("--config-dir", str(own), f"experiments={outside}")


def test_a_key_of_a_study_is_named_as_on_the_command_line(ask: Answer) -> None:
    for key in valid_keys("objective."):
        assert key in ask(f"# @package _global_\n{yaml.safe_dump(nested(key, {'a': [1]}))}")
