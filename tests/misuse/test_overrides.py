import time
from pathlib import Path

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from tests.misuse.conftest import PROFILE, TINY, Answer, Lab, left_behind
from vae_lab import tracking
from vae_lab.cli.completion import complete_overrides
from vae_lab.cli.train import train
from vae_lab.config import valid_keys

KEYS = [
    *(key for key in valid_keys() if not key.startswith("data._target_")),
    *("optimizer.lr", "optimizer.fused", "optimizer.betas", "optimizer.weight_decay", "optimizer._target_"),
    *("model.options.x", "sweep.cross.seed", "study.oracle.shares", "study.oracle.points"),
]
GROUPS = ["model", "objective", "optimizer", "scheduler", "train", "evaluation", "sweeps", "experiments"]
STRANGE = ["", "modle", "model.", ".model", "model.layers.x", "model/x", "seed@x", "hydra", "a b", "_target_"]
NUMBERS = ["0", "-0", "1", "-1", "2.5", "1e3", "1e400", "-1e400", "nan", "inf", "-inf", "0x10", "1_000"]
NUMBERS += [str(10**9), str(10**12), str(2**63), str(10**30), "1e-400", "007", ".5", "5."]
WORDS = [
    "null",
    "true",
    "false",
    "NULL",
    "vae",
    "cvae",
    "digits",
    "adam",
    "cosine",
    "default",
    "quick",
    "???",
    "none",
]
WORDS += [
    "x" * 10_000,
    "ключ",
    "层",
    "😀",
    "a/b",
    "../x",
    "-",
    "--",
    "~",
    "torch.nn.Linear",
    "os.getcwd",
    "a..b",
]
SHAPES = [
    "[]",
    "{}",
    "[8,8,8]",
    "[8,0]",
    "[???]",
    "[null]",
    "[[1]]",
    "{a:1}",
    "{a:{b:[1]}}",
    "[" * 400,
    "[" * 40 + "]" * 40,
]
QUOTED = ["''", "'a b'", '"\\""', "'[red]'", "'a\nb'", "'\x1b[31m'", "'<script>'", "'${'", "'\u202eabc'"]
INTERPOLATIONS = [
    "${seed}",
    "${oc.env:HOME}",
    "${oc.env:NOT_SET_HERE}",
    "${missing}",
    "${train}",
    "${model.layers}",
]
INTERPOLATIONS += [
    "${",
    "${}",
    "${a:b}",
    "${oc.decode:'['}",
    "${oc.create:{a:1}}",
    "${${seed}}",
    "${.x}",
    "${..seed}",
]
INTERPOLATIONS += ["${hydra:runtime.cwd}", "${now:%Y}"]
SEVERAL = [
    "1,2",
    "choice(1,2)",
    "choice()",
    "range(1,3)",
    "range(3,1)",
    "range(0,1000000000)",
    "range(0,1,0)",
    "range(1)",
]
SEVERAL += [
    "shuffle(range(0,1000000000))",
    "range(0,inf)",
    "range(0,nan)",
    "sort(3,1,2)",
    "shuffle(1,2)",
    "glob(*)",
]
SEVERAL += [
    "glob(zzz)",
    "interval(0,1)",
    "tag(a,choice(1,2))",
    "float(1,2)",
    "str([1,2])",
    "int(x)",
    "range(a,b)",
    "1,",
]

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
VALUES = st.one_of(
    st.sampled_from(NUMBERS + WORDS + SHAPES + QUOTED + INTERPOLATIONS),
    st.integers().map(str),
    st.floats().map(str),
    TEXT,
)
PREFIXES = st.sampled_from(["", "", "", "", "+", "++", "~"])


@settings(PROFILE, max_examples=25)
@given(key=st.sampled_from(KEYS), value=VALUES)
@example(key="model.layers", value="10000000000000000000000000000000")
@example(key="optimizer.lr", value="[1]")
@example(key="seed", value="${seed}")
@example(key="model.hidden_size", value="[8,???,8]")
@example(key="train.threads", value="1000000000")
def test_whatever_a_key_is_set_to_is_valid_or_named_with_its_rule(
    answer: Answer, key: str, value: str
) -> None:
    message = answer(*(each for each in TINY if not each.startswith(f"{key}=")), f"{key}={value}")
    if message and "nested too deeply" not in message:
        assert key.rpartition(".")[2] in message or key.partition(".")[0] in message


@settings(PROFILE, max_examples=25)
@given(
    st.lists(
        st.one_of(
            st.tuples(PREFIXES, st.sampled_from(KEYS + GROUPS + STRANGE), st.just("="), VALUES).map("".join),
            st.tuples(PREFIXES, st.sampled_from(KEYS + GROUPS + STRANGE)).map("".join),
            TEXT,
        ),
        min_size=1,
        max_size=3,
    )
)
@example(["+optimizer._partial_=true"])
@example(["+optimizer.capturable=true"])
@example(["optimizer._target_=torch.optim.LBFGS"])
@example(["optimizer._target_=torch.optim.SparseAdam"])
@example(["~optimizer.lr"])
@example(["~model"])
@example(["~train.epochs"])
@example(["scheduler=step", "scheduler.step_size=0"])
@example(["scheduler=cosine", "+scheduler.last_epoch=5"])
def test_whatever_is_typed_is_a_valid_run_or_one_message(answer: Answer, line: list[str]) -> None:
    answer(*TINY, *line)


@settings(PROFILE, max_examples=15)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["", "", "", "+", "~"]),
            st.sampled_from([*KEYS, *GROUPS]),
            st.just("="),
            st.one_of(st.sampled_from(SEVERAL), VALUES),
        ).map("".join),
        min_size=1,
        max_size=2,
    )
)
@example(["seed=range(0,1000000000)"])
@example(["seed=shuffle(range(0,1000000000))"])
@example(["seed=range(0,1000)", "model.layers=range(1,1000)"])
@example(["seed=range(3,1)"])
@example(["seed=range(0,10,0)"])
@example(["seed=range(0,nan)"])
@example(["sweep=3"])
@example(["sweep.cross=5"])
@example(["~sweep"])
@example(["~seeds"])
@example(["~scheduler", "seed=0,1"])
@example(["sweep.cross={model.layers:glob(*)}"])
@example(["model.layers=glob(*)"])
@example(["seeds=1000000000"])
@example(["hydra.launcher.workers=many"])
@example(["hydra.launcher.stack=0"])
def test_lists_of_values_are_planned_or_refused(answer: Answer, line: list[str]) -> None:
    answer("-m", *TINY, *line)


@pytest.mark.parametrize(
    "several", [[], ["-m", "seed=0,1"], ["-m", 'data.root="${hydra:runtime.cwd}/1","2"']]
)
def test_the_folder_of_the_command_is_known_to_a_run_and_to_each_of_a_multirun(
    answer: Answer, several: list[str]
) -> None:
    assert answer(*TINY, 'data.root="${hydra:runtime.cwd}/data"', *several) == ""


FLAGS = [
    *(["--nonsense"], ["--cfg"], ["--cfg", "nothing"], ["--info", "nothing"], ["--config-dir"], ["-x"]),
    *(
        ["--config-dir", "nowhere"],
        ["--config-name", "nothing"],
        ["--config-path", "nothing"],
        ["--run", "-m"],
    ),
    *(["--resolve"], ["--config-name", "data/digits"]),
    *(
        ["--experimental-rerun", "x.pickle"],
        ["--shell-completion", "x"],
        ["--multirun=3"],
        ["-m", "-m", "--run"],
    ),
]


@pytest.mark.parametrize("flags", FLAGS, ids=" ".join)
def test_a_flag_that_is_not_taken_is_one_message(answer: Answer, flags: list[str]) -> None:
    assert answer(*flags, *TINY)


@pytest.mark.parametrize(
    "flags", [["--cfg", "job"], ["--cfg", "all", "--resolve"], ["--hydra-help"], ["--version"]]
)
def test_a_flag_that_only_shows_something_does_so(lab: Lab, folder: Path, flags: list[str]) -> None:
    code, out, err = lab(*flags)
    assert (code, err) == (0, "")
    assert out
    assert left_behind(folder) == []


@pytest.mark.parametrize(
    "override",
    [
        *(
            "hydra=3",
            "hydra.mode=nothing",
            "hydra.run=null",
            "hydra.searchpath=[nowhere]",
            "hydra.searchpath=3",
        ),
        *(
            "hydra/launcher=nothing",
            "hydra/sweeper=nothing",
            "hydra.nothing=1",
            "~hydra",
            "hydra.job.nothing=1",
        ),
        *(
            "hydra.sweeper._target_=nothing.here",
            "hydra.launcher._target_=os.getcwd",
        ),
        *("hydra.launcher.workers=0", "hydra.launcher.stack=x", "+hydra.launcher.more=1", "hydra.verbose={}"),
    ],
)
def test_what_hydra_itself_cannot_do_is_one_message(answer: Answer, override: str) -> None:
    assert answer("-m", *TINY, "seed=0,1", override)


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["model.layers=1000000"], "model.layers=1000000: must be a whole number from 1 to 1000."),
        (["model.hidden_size=1000000000"], "model.hidden_size=1000000000: must be a whole number from 1 to"),
        (["model.hidden_size=1000000"], "model.hidden_size=1000000, model.latent_size=15"),
        (
            ["model.latent_size=1000000000000"],
            "model.latent_size=1000000000000: must be a whole number from 1",
        ),
        (["model.hidden_size=100000", "model.layers=900"], "must fit into memory"),
        (
            ["evaluation.samples=1000000000000000"],
            "evaluation.samples=1000000000000000: must be 0 or a whole",
        ),
        (["train.batch_size=1000000000000000000"], "train.batch_size=1000000000000000000: must be a whole"),
        (["train.threads=100000"], "train.threads=100000: must be null or a whole number from 1 to 1024."),
        (
            ["-m", "seeds=1000000000"],
            "seeds=1000000000: must be null, auto or a whole number from 1 to 10000.",
        ),
        (["-m", "seed=range(0,1000000000)"], "seed=range(0,1000000000): must be at most 10000 values."),
        (["-m", "seed=shuffle(range(0,1000000000))"], "must be at most 10000 values."),
        (["-m", "seed=range(0,1,0.0000000001)"], "must be at most 10000 values."),
        (
            ["-m", "seed=range(0,200)", "model.layers=range(1,100)"],
            "19800 runs; must be at most 10000 in a multirun.",
        ),
        (
            ["-m", "seeds=200", "model.layers=range(1,100)"],
            "seed with 200 values, model.layers with 99 values",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_would_fill_the_memory_is_refused_at_once(
    answer: Answer, overrides: list[str], named: str
) -> None:
    taken = [
        each
        for each in TINY
        if each.partition("=")[0] not in {every.partition("=")[0] for every in overrides}
    ]
    begin = time.monotonic()
    assert named in answer(*taken, *overrides)
    assert time.monotonic() - begin < 10


VALID = {
    "model": ["vae", "cvae"],
    "model.layers": ["1", "2"],
    "model.latent_size": ["1", "3"],
    "objective": ["bernoulli", "continuous_bernoulli", "gaussian"],
    "objective.beta": ["0", "4", "1e30"],
    "optimizer": ["adam", "adamw", "sgd"],
    "optimizer.lr": ["1e-3", "1e20", "1e-300"],
    "scheduler": ["cosine", "step"],
    "train.batch_size": ["1000000", "500"],
    "data.binarize": ["none", "dynamic"],
    "evaluation.batch_size": ["7", "1000000"],
    "seed": ["0", str(2**63 - 1)],
    "model.activation": ["relu", "softplus"],
    "tracking.run_name": ["'[red] $x$ :fire: 😀'", "'<script>alert(1)</script>'", "null"],
}


@settings(PROFILE, max_examples=3, phases=[Phase.explicit, Phase.generate])
@given(
    chosen=st.fixed_dictionaries({}, optional={key: st.sampled_from(texts) for key, texts in VALID.items()})
)
@example(chosen={"optimizer": "sgd", "optimizer.lr": "1e20", "tracking.run_name": "'[/red] $\\frac$'"})
def test_a_valid_line_ends_finished_or_failed_with_its_reason(
    lab: Lab, folder: Path, chosen: dict[str, str]
) -> None:
    code, _, err = lab(*TINY, *(f"{key}={value}" for key, value in chosen.items()))
    assert "Traceback" not in err
    newest = tracking.Store.open().records()[0]
    assert (code, newest.status) in ((0, "FINISHED"), (1, "FAILED")), err
    if code:
        assert newest.tags[tracking.ERROR] in err


@settings(PROFILE, max_examples=25)
@given(
    words=st.lists(
        st.one_of(TEXT, st.sampled_from(["model=", "=", "model.lay", "-m", "[", "${"])), max_size=2
    ),
    word=TEXT,
)
def test_completion_never_fails_in_the_shell(words: list[str], word: str) -> None:
    context = train.make_context("train", list(words), resilient_parsing=True)
    assert isinstance(complete_overrides(context, train.params[0], word), list)
