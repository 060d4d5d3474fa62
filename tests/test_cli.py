import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tests.conftest import SMALL
from vae_lab.cli.completion import complete_overrides
from vae_lab.cli.group import NAMES, commands
from vae_lab.cli.overrides import train_help
from vae_lab.cli.train import run_hydra, train
from vae_lab.errors import UserError

Lab = Callable[..., tuple[int, str, str]]


def vae_lab(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """The installed command, in a folder."""
    command = str(Path(sys.executable).parent / "vae-lab")
    return subprocess.run(
        [command, *arguments], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize(
    "command",
    [(), *((name,) for name in NAMES if name != "train")],
)
def test_help_teaches_with_examples(command: tuple[str, ...]) -> None:
    result = CliRunner().invoke(commands, [*command, "--help"])
    assert result.exit_code == 0
    assert "\\b" not in result.output
    examples = result.output.partition("Examples:\n")[2]
    assert examples or command == ("ui",)
    name = " ".join(["vae-lab", *command])
    shown = examples.partition("\n\n")[0].splitlines()
    assert all(name in line for line in shown), "every example has a line of its own"


def test_every_command_is_imported_from_the_module_of_its_name() -> None:
    context = click.Context(commands)
    assert commands.list_commands(context) == sorted(NAMES)
    for name in NAMES:
        command = commands.get_command(context, name)
        assert command is not None
        assert (command.name, command.callback.__module__) == (name, f"vae_lab.cli.{name}")
    assert "Did you mean 'train'?" in CliRunner().invoke(commands, ["trian"]).output


def test_every_option_has_a_help_and_those_of_several_commands_have_one() -> None:
    context = click.Context(commands)
    helps: dict[str, set[str]] = {}
    for name in NAMES:
        command = commands.get_command(context, name)
        assert command is not None
        for option in command.params:
            if isinstance(option, click.Option):
                assert option.help, f"{name} {option.opts}"
                helps.setdefault(option.opts[0], set()).add(option.help)
    assert [len(helps[option]) for option in ("--device", "--trust")] == [1, 1]
    assert all(word in min(helps["--trust"]) for word in ("model", "loss", "likelihood", "data function"))


def test_the_help_of_every_command_imports_nothing_heavy() -> None:
    program = (
        "import click, sys; from vae_lab.cli.group import NAMES, commands; "
        "context = click.Context(commands); "
        "pages = [commands.get_command(context, name).get_help(context) for name in NAMES]; "
        "print(len(pages), {'torch', 'mlflow', 'pandas', 'matplotlib', 'numpy', 'rich'} & set(sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.stdout == f"{len(NAMES)} set()\n", result.stderr


def test_train_help_shows_every_group_and_every_key_with_its_meaning(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert run_hydra(["--help"]) == 0
    out, _ = capfd.readouterr()
    for word in (
        "ablations",
        "reference",
        "fashion_mnist",
        "continuous_bernoulli",
        "--multirun",
        "model.layers",
        "sweep.cross",
        "cvae]}",  # of an example in brackets, wherever its line breaks
        "stacked",
    ):
        assert word in out
    undocumented = [key for key, _, meaning in train_help.documented_keys() if not meaning]
    assert undocumented == []


def test_help_composed_config_and_mistakes_import_neither_torch_nor_mlflow() -> None:
    program = (
        "import sys; from vae_lab.cli.train import run_hydra as train; train(['--cfg', 'job']); "
        "train(['--help']); train(['model=vea']); train(['model.layers=0']); "
        "train(['-m', 'model.layers=0,1']); "
        "print('imported:', *({'torch', 'mlflow', 'pandas'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.stdout.splitlines()[-1] == "imported:"


def test_the_tables_of_an_analysis_need_no_mlflow() -> None:
    program = "import sys; import vae_lab.report.analyses; print('mlflow' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.stdout == "False\n", result.stderr


def test_the_installed_command_answers_and_exits_with_its_code(tmp_path: Path) -> None:
    shown = vae_lab("train", "--cfg", "job", "model=cvae", folder=tmp_path)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "conditional: true" in shown.stdout
    wrong = vae_lab("train", "model=vea", folder=tmp_path)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr == "vae-lab: model=vea: no such option; did you mean vae? Valid: cvae, vae.\n"
    nothing = vae_lab("compare", folder=tmp_path)
    assert nothing.returncode == 2
    assert "no runs are kept here yet" in nothing.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.foo=1"], "model.foo: unknown key; did you mean model."),
        (["modle=vae"], "modle: unknown key; did you mean model?"),
        (["sweeps=depht"], "sweeps=depht: no such option; did you mean depth?"),
        (["model.layers"], "model.layers: not of the form KEY=VALUE"),
        (["model.layers=[1"], "model.layers=[1: must be a whole number from 1 to 1000."),
        (["model.layers=2,3"], "model.layers=2,3: to train each of these add -m.\n"),
        (["model=vae,cvae"], "model=vae,cvae: to train each of these add -m.\n"),
        (["model.hidden_size=9,8"], "add -m; for one list write model.hidden_size=[9,8].\n"),
        (["optimizer.betas=0.5,0.9"], "add -m; for one list write optimizer.betas=[0.5,0.9].\n"),
        (["study.name=1,2"], "add -m; for one text with a comma write 'study.name=\"1,2\"'.\n"),
        (["-m", "hydra.mode=RUN"], "hydra.mode=RUN: contradicts -m; leave one of them out."),
        (["-m", "--run"], "--run: contradicts -m; leave one of them out."),
        (["--config-dir", "/nowhere"], "/nowhere"),
        (["scheduler=flat"], "scheduler=flat: no such option. Valid: cosine, multistep, none, step."),
        (["model=null"], "model=null: no such option. Valid: cvae, vae."),
        (["~modle"], "modle: unknown key; did you mean model?"),
        (["model/x=1"], "model/x: unknown key"),
        (["seed=range(0,3)"], "seed=range(0,3): to train each of these add -m."),
        (
            ["-m", "seed=1,2", "--cfg", "job"],
            "seed=1,2: shown is the config of one run; name one value.",
        ),
        (["data=digits", "--config-dir", "/nowhere", "seed=1"], "--config-dir /nowhere: no such folder."),
        (
            ["optimizer.momentum=1"],
            "optimizer.momentum=1: optimizer has no such key. Valid: fused, lr. To add it write +optimizer.",
        ),
        (["seed=1", "scheduler.step_size=3"], "scheduler.step_size=3: scheduler has no such key. To add it"),
        (["seed=1", "hydra.mode=nothing"], "hydra.mode=nothing"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_hydras_errors_become_one_line(lab: Lab, folder: Path, overrides: list[str], message: str) -> None:
    code, out, err = lab(*overrides)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert list(folder.iterdir()) == []


def test_a_folder_of_ones_own_configs_is_used(lab: Lab, folder: Path) -> None:
    (folder / "own" / "model").mkdir(parents=True)
    (folder / "own" / "model" / "tiny.yaml").write_text(
        "# tiny\ndefaults: [vae]\nlayers: 1\nhidden_size: 4\n"
    )
    code, out, err = lab("--config-dir", "own", "model=tiny", "--cfg", "job")
    assert code == 0, err
    assert "hidden_size: 4" in out


def test_a_group_of_ones_own_is_known_with_its_options(lab: Lab, folder: Path) -> None:
    (folder / "own" / "budget").mkdir(parents=True)
    (folder / "own" / "budget" / "long.yaml").write_text("# @package _global_\ntrain: {epochs: 77}\n")
    for place in (["--config-dir", "own"], [f"hydra.searchpath=[file://{folder / 'own'}]"]):
        code, out, err = lab(*place, "+budget=long", "--cfg", "job")
        assert (code, err) == (0, "")
        assert "epochs: 77" in out
        assert "budget=short: no such option. Valid: long." in lab(*place, "+budget=short")[2]
        assert "budget=3: no such option. Valid: long." in lab(*place, "+budget=3")[2]
    assert "budget: unknown key" in lab("+budget=long")[2]


def test_a_list_of_values_needs_no_flag_where_a_study_makes_it_a_multirun(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hydra_plugins.vae_lab.sweeper import AblationSweeper

    lines: list[list[str]] = []
    monkeypatch.setattr(AblationSweeper, "sweep", lambda _, arguments: lines.append(arguments))
    assert lab("sweeps=depth", "seed=0,1") == (0, "", "")
    assert lab("-m", "model=glob(*)") == (0, "", "")
    assert lines == [["sweeps=depth", "seed=0,1"], ["model=glob(*)"]]


@pytest.mark.parametrize(
    ("line", "compositions"),
    [
        (["model.layers=0"], ["to see whether it is a multirun", "the run"]),
        (["-m", "model.layers=0,1"], ["the multirun", "its first point"]),
        (["model=vea"], ["to see whether it is a multirun"]),
        (["sweeps=nothing"], ["to see whether it is a multirun"]),
    ],
    ids=lambda value: value[-1],
)
def test_a_line_is_composed_no_more_often_than_its_runs_need(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, line: list[str], compositions: list[str]
) -> None:
    from hydra._internal.config_loader_impl import ConfigLoaderImpl

    composed: list[object] = []
    compose = ConfigLoaderImpl._load_configuration_impl

    def counted(*arguments: object, **options: object) -> object:
        composed.append(options)
        return compose(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(ConfigLoaderImpl, "_load_configuration_impl", counted)
    assert lab(*line)[0] == 2
    assert len(composed) == len(compositions)


def completions(words: list[str], incomplete: str) -> list[str]:
    context = train.make_context("train", list(words), resilient_parsing=True)
    return [str(item.value) for item in complete_overrides(context, train.params[0], incomplete)]


def test_groups_options_and_keys_complete() -> None:
    assert completions([], "mod") == ["model.", "model="]
    assert completions([], "model=c") == ["model=cvae"]
    assert completions([], "model.lay") == ["model.layers="]
    assert "sweeps=depth" in completions(["model=cvae"], "sweeps=")


def test_bash_gets_only_what_follows_the_equals_sign() -> None:
    assert completions(["model", "="], "c") == ["cvae"]
    assert completions(["model"], "") == ["cvae", "vae"]
    assert completions(["model", "=", "cvae"], "model.lay") == ["model.layers="]
    assert completions(["model", "=", "cvae", "data", "="], "dig") == ["digits"]


def test_after_a_wrong_word_nothing_is_offered() -> None:
    assert completions(["model=nothing"], "model.lay") == []


def test_the_completion_scripts_are_printed() -> None:
    for shell in ("bash", "zsh", "fish"):
        result = CliRunner().invoke(commands, ["completion", shell])
        assert result.exit_code == 0
        assert "_VAE_LAB_COMPLETE" in result.output


def test_compare_prints_a_study_in_every_format(ablations: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ablations)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    expected = {
        "terminal": "held-out", "markdown": "| model", "csv": "held-out loss (nats/image)",
        "latex": r"\begin{tabular}", "html": "<table",
    }  # fmt: skip
    for form, part in expected.items():
        result = CliRunner().invoke(commands, ["compare", "ablations", "--format", form])
        assert result.exit_code == 0, result.output
        assert part in result.output
    listed = CliRunner().invoke(commands, ["compare"])
    assert "ablations" in listed.output
    parent = listed.output.splitlines()[1].split()[-1]
    assert CliRunner().invoke(commands, ["compare", parent[:8]]).exit_code == 0
    chosen = CliRunner().invoke(
        commands, ["compare", "ablations", "--by", "model", "--metric", "test/kl", "--format", "csv"]
    )
    assert chosen.output.splitlines()[0].startswith("model,KL (nats/image)")


@pytest.fixture
def planted(folder: Path) -> str:
    """A store whose study `depth` was never trained: ten seeds of losses that rise with depth."""
    from vae_lab import tracking
    from vae_lab.studies.plan import PLAN_FILE, Plan

    claim = {"id": "C1", "text": "Depth raises the loss.", "metric": "test/loss", "expect": "increasing"}
    plan = Plan(
        name="depth",
        one_at_a_time={"model.layers": ["2", "3"]},
        base={"model.layers": "3"},
        replicate={"seed": [str(seed) for seed in range(7)]},
        claims=[claim | {"along": "model.layers"}],
    )
    store = tracking.Store.open(create=True)
    parent = store.start("lab", "depth", kind=tracking.SWEEP, tags={tracking.STUDY: "depth"})
    with parent.artifacts() as artifacts:
        (artifacts / PLAN_FILE).write_text(plan.to_json())
    for layers in (2, 3):
        for seed in range(7):
            params = {"model.layers": str(layers), "seed": str(seed)}
            tags = {tracking.member_tag(parent.run_id): "1"}
            run = store.start("lab", "run", kind=tracking.RUN, params=params, tags=tags)
            run.log({"test/loss": 100 + 10 * layers + 0.1 * layers * seed}, step=1)
            run.finish("FINISHED")
    parent.finish("FINISHED")
    return parent.run_id


def test_verdict_prints_what_the_runs_say_and_writes_nothing(planted: str, folder: Path) -> None:
    from vae_lab.tracking import Store

    before = Store.open().record(planted)
    expected = {
        "terminal": "supported", "markdown": "| C1", "csv": "C1,supported,test/loss,10.3",
        "latex": r"\begin{tabular}", "html": "<table",
    }  # fmt: skip
    sentence = "From layers 2 to 3 the held-out loss rises by 10.30 nats/image"
    for form, part in expected.items():
        result = CliRunner().invoke(commands, ["verdict", "depth", "--format", form])
        assert result.exit_code == 0, result.output
        assert part in result.output
        assert sentence in result.output
    assert Store.open().record(planted) == before
    assert not list(folder.rglob("verdicts.*"))
    sequential = CliRunner().invoke(commands, ["verdict", "depth", "--sequential", "--format", "csv"])
    assert "C1,supported" in sequential.output


def test_only_status_marks_a_run_whose_process_is_gone_and_names_it_as_it_is_called(planted: str) -> None:
    from vae_lab.tracking import ERROR, RUN, Store, member_tag

    program = (
        "import os, sys; from vae_lab.tracking import Store; run = Store.open().start("
        f"'lab', '[red]gone[/blue]', kind='{RUN}', tags={{'{member_tag(planted)}': '1'}}); "
        "print(run.run_id, flush=True); os._exit(9)"
    )
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    run_id = child.stdout.strip()
    for command in ("compare", "verdict", "report"):
        result = CliRunner().invoke(commands, [command, "depth"])
        assert result.exit_code == 0, result.output
        assert Store.open().record(run_id).status == "RUNNING"
    result = CliRunner().invoke(commands, ["status", "depth"])
    assert "14 of 15 runs finished, 1 interrupted" in result.output
    assert "[red]gone[/blue]  interrupted" in result.output
    marked = Store.open().record(run_id)
    assert marked.status == "KILLED"
    assert "ended without closing it" in marked.tags[ERROR]


def test_verdict_needs_a_study_with_claims(ablations: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ablations)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    result = CliRunner().invoke(commands, ["verdict", "ablations"])
    assert isinstance(result.exception, UserError)
    assert "ablations: the study declares no claims" in str(result.exception)


def test_data_describes_a_set_and_lists_all(tmp_path: Path) -> None:
    result = CliRunner().invoke(commands, ["data", "digits"])
    assert "1,437 to train on, 360 held out" in result.output
    assert "8 x 8 pixels, 1 channel" in result.output
    assert "fashion_mnist" in CliRunner().invoke(commands, ["data"]).output


def test_data_shows_and_draws_the_spectrum(tmp_path: Path) -> None:
    figure = tmp_path / "spectrum.png"
    result = CliRunner().invoke(
        commands, ["data", "digits", "--svd", "--latent-size", "5", "--figure", str(figure)]
    )
    assert result.exit_code == 0, result.output
    # The ranks of scikit-learn's PCA on the same 1,437 images.
    assert [line.split()[-2] for line in result.output.splitlines() if "of the variance" in line] == [
        "21", "28", "41",
    ]  # fmt: skip
    assert figure.read_bytes().startswith(b"\x89PNG")
    for arguments, message in (
        (["digits", "--figure", "x.png"], "--figure x.png: there is nothing to draw without --svd"),
        (["--svd"], "--svd: needs the name of a data set"),
        (["digits", "--svd", "--latent-size", "64"], "--latent-size 64: must be below the 64 pixels"),
    ):
        assert message in str(CliRunner().invoke(commands, ["data", *arguments]).exception)


def test_a_full_disk_is_one_message(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    from vae_lab import checkpoints

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "model.pt")

    monkeypatch.setattr(checkpoints, "save_model", full)
    code, _, err = lab(*SMALL, "train.epochs=1")
    assert code == 1
    assert "what a run leaves cannot be written here: No space left on device. Free some space" in err
    assert "Traceback" not in err


def test_the_traceback_of_an_error_that_nobody_expected_shows_no_password(folder: Path) -> None:
    program = (
        "from vae_lab.cli.terminal import messages; messages.log_messages()\n"
        "raise RuntimeError('http://ann:pl@nted@server:5000 gave an odd answer')"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "RuntimeError: http://server:5000 gave an odd answer" in ended.stderr
