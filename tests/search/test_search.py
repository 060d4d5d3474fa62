"""`hydra/sweeper=search`: real searches on the digits, their store, storage and page."""

import shlex
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
import torch
from omegaconf import DictConfig
from optuna.trial import TrialState

import vae_lab
from tests.conftest import SMALL, trained
from tests.faults.children import Zygote
from tests.faults.injected import AFTER, Fault
from tests.guide import lines, read, trains, write_files
from tests.search import kills
from tests.search.conftest import LINE, SHORT, runs, storage
from vae_lab import config
from vae_lab.errors import LabError
from vae_lab.jobs.commands import run_command
from vae_lab.jobs.job import job_of
from vae_lab.jobs.parts import datasets, prepared
from vae_lab.jobs.runs.run import Run
from vae_lab.jobs.search import members
from vae_lab.jobs.search.objectives import OF_EVERY_EPOCH
from vae_lab.jobs.search.running import confirming, on_fresh_seeds
from vae_lab.studies.searched import SEARCH_FILE, Searched
from vae_lab.studies.status import count_states, run_states
from vae_lab.studies.study import load_study
from vae_lab.tracking import EVALUATION, FINGERPRINT, PROCESS, TURN, WAITING, Store, reader

Compose = Callable[..., DictConfig]
Lab = Callable[..., tuple[int, str, str]]


def test_trials_are_runs_of_one_study(hunted: Path) -> None:
    assert storage(hunted).metric_names == ["test/loss"]
    trials = storage(hunted).trials
    assert {trial.state for trial in trials} == {TrialState.COMPLETE, TrialState.PRUNED}
    assert len({run.tags[FINGERPRINT] for run in runs(hunted)}) == len(runs(hunted)) == len(trials)
    study = load_study(reader(f"sqlite:///{hunted}/mlflow.db"), "hunt")
    counts = count_states(run_states(study))
    assert {*counts} == {"finished", "stopped"}
    assert sum(counts.values()) == len(trials)
    best = min(run.metrics["test/loss"] for run in study.runs if run.status == "FINISHED")
    assert storage(hunted).best_value == pytest.approx(best)


def test_page_and_tables_say_what_was_found(hunted: Path) -> None:
    store = reader(f"sqlite:///{hunted}/mlflow.db")
    study = load_study(store, "hunt")
    text = store.download(study.parent.run_id, SEARCH_FILE).read_text()
    searched = Searched.from_json(text)
    assert max(step.spent for step in searched.steps) <= searched.budget == 20
    assert {*searched.importance["test/loss"]} == {"model.latent_size", "optimizer.lr"}
    assert {*searched.states} == {str(trial.number) for trial in storage(hunted).trials}
    assert {*searched.states.values()} == {"whole", "stopped"}
    assert searched.spent == max(step.spent for step in searched.steps)
    (best,) = searched.best()
    html = store.download(study.parent.run_id, "report.html").read_text()
    assert "The search" in html
    assert "What mattered" in html
    assert best in html
    assert "epochs of all trials" in html


def test_a_search_of_which_every_trial_failed_says_so(folder: Path, lab: Lab) -> None:
    code, _, err = lab(*SHORT, "optimizer.lr=1e30", "search.epochs=2", "study.name=lost")
    assert code == 1
    assert "2 of 2 runs failed:" in err
    store = reader(f"sqlite:///{folder}/mlflow.db")
    html = store.download(load_study(store, "lost").parent.run_id, "report.html").read_text()
    assert "2 trials took 2 epochs, 100 % of what all whole ones take: 0 of full length" in html
    assert "2 failed." in html


def test_given_again_it_trains_nothing_and_finds_the_same(again: Path, lab: Lab) -> None:
    before = len(runs(again))
    code, out, err = lab(*LINE)
    assert code == 0, err
    assert "epoch 1/" not in err
    assert len(runs(again)) == before
    assert "Best of" in out


def test_runs_that_are_there_get_the_measures_that_the_search_asks_for(again: Path, lab: Lab) -> None:
    code, _, err = lab(*LINE, "evaluation.posterior_draws=2")
    assert code == 0, err
    study = load_study(Store.open(), "hunt")
    finished = [run for run in study.runs if run.status == "FINISHED"]
    assert finished
    assert {run.tags[EVALUATION] for run in finished} == {"posterior_draws=2"}
    assert all("test/averaged_negative_elbo" in run.metrics for run in finished)
    assert {EVALUATION in run.tags for run in study.runs if run not in finished} == {False}


def test_a_run_that_pauses_says_so_until_it_goes_on_or_is_stopped(
    folder: Path, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another machine, which hears nothing of it, looks for others of its process by what it says."""
    paused: list[tuple[str, set[str]]] = []
    pause = Run.pause

    def look(run: Run, waits_for: str) -> None:
        pause(run, waits_for)
        store = reader(f"sqlite:///{folder}/mlflow.db")
        tags = store.record(run.recorder.run_id).tags
        paused.append((tags[WAITING], {other.kind for other in store.tagged(PROCESS, tags[PROCESS])}))

    monkeypatch.setattr(Run, "pause", look)
    rules = ("train.epochs=3", "search.eta=2", "search.epochs=4", "search.pruner=halving")
    code, _, err = lab(*SHORT, *rules, "study.name=short")
    assert code == 0, err
    assert paused == [(TURN, {"run", "sweep"})] * len(paused)
    assert len(paused) >= 2
    assert sorted(run.status for run in runs(folder)) == ["FINISHED", "KILLED"]
    assert not any(WAITING in run.tags for run in runs(folder))


def result(folder: Path, run_id: str) -> tuple[list[float], list[torch.Tensor]]:
    """The held-out losses of a run's epochs, and its weights."""
    uri = f"sqlite:///{folder}/mlflow.db"
    weights = vae_lab.load(run_id, uri=uri).module.state_dict()
    return [*reader(uri).history(run_id, "test/loss")], [*weights.values()]


def test_its_best_is_confirmed_and_a_stopped_run_trained_whole(again: Path, lab: Lab) -> None:
    code, out, err = lab(*LINE)
    assert code == 0, err
    (line,) = [line for line in out.splitlines() if line.startswith("On fresh seeds")]
    confirming = [word.replace("seed=1,2,3,4,5", "seed=1,2") for word in shlex.split(line)[5:]]
    code, _, err = lab(*confirming)
    assert code == 0, err
    confirmed = load_study(reader(f"sqlite:///{again}/mlflow.db"), "hunt confirmed")
    assert [run.params["seed"] for run in confirmed.runs] == ["1", "2"]
    stopped = next(run for run in runs(again) if "vae_lab.stopped" in run.tags)
    words = shlex.split(stopped.tags["vae_lab.command"])[2:]
    code, _, err = lab(*words)
    assert code == 0, err
    assert "goes on after epoch" in err
    whole = next(run for run in runs(again) if run.run_id == stopped.run_id)
    assert (whole.status, "vae_lab.stopped" in whole.tags) == ("FINISHED", False)
    assert lab(*words, "reuse=never")[0] == 0
    untroubled = max(runs(again), key=lambda run: run.started)
    assert untroubled.run_id != whole.run_id
    one, other = (result(again, run.run_id) for run in (whole, untroubled))
    assert one[0] == other[0]
    assert all(map(torch.equal, one[1], other[1]))


@pytest.mark.parametrize("name", ["search_rate", "seed", "tracking.mine"])
def test_the_command_that_confirms_keeps_flags_and_keys_that_only_begin_as_those_of_a_search(
    composed: Compose, name: str
) -> None:
    flags = ("--config-dir", "search", "--config-name", name)
    own = ("hydra/sweeper=search", "hydra.sweeper.n=1", "++search.trials=3", "seed=4", "study.name=hunt")
    others = ("+searched.thing=1", "+seeded=2", "study.question=which", "tracking.experiment=mine")
    job = job_of(composed(*SMALL, "seed=4"), [*own[2:], *others], {}, (*flags, *own[:2]))
    last = ("study.name=hunt confirmed", "seed=5,6,7,8,9", "hydra/sweeper=ablation")
    words = shlex.split(confirming(job, "hunt"))
    assert words == ["vae-lab", "train", "-m", *flags, *others, *last]


def test_a_recorded_command_keeps_the_name_of_its_config(composed: Compose) -> None:
    flags = ("--config-name", "hydra.sweeper.mine")
    job = job_of(composed(*SMALL), SMALL, {}, (*flags, "hydra.sweeper.n=1"))
    assert shlex.split(run_command(job)) == ["vae-lab", "train", *flags, *SMALL]


@pytest.mark.parametrize("user", ["", "me:planted@"])
def test_the_command_that_confirms_names_the_store_without_its_users(composed: Compose, user: str) -> None:
    uri = f"tracking.uri=http://{user}lab:5000"
    command, *further = on_fresh_seeds(job_of(composed(*SMALL), [uri], {}), "hunt")
    assert "planted" not in command
    assert (uri in command) == (not user)
    assert [line.partition("=")[0] for line in further] == ["Add tracking.uri"] * bool(user)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (("model.layers=3",), "nothing varies"),
        (("model.layers=range(1,3000)",), "model.layers=2999: must be a whole number from 1 to 1000"),
        (("model.layer=1,2",), "did you mean"),
        (("model.layers=1,2", "search.trials=0"), "search.trials=0: must be a whole number from 1"),
        (("model.layers=1,2", "search.metrics=[eval/recall]"), "search.metrics"),
        (("model.layers=1,2", "search.sampler=hope"), "must be one of"),
        (("model.layers=1,2", "reuse=never"), "another search.seed begins anew"),
        (("model.layers=1,2", "seeds=3"), "seeds=3: a search trains one seed a trial"),
        (("model.layers=1,2", "sweeps=ablations"), "is of a grid"),
        (("model.layers=1,2", "hydra/launcher=basic"), "hydra/launcher=workers or ray"),
        (("model.layers=1,2", "hydra/launcher=stacked"), "hydra.launcher.stack=16: a search trains one run"),
        (("model.layers=1,2", "hydra.launcher.stack=2"), "hydra.launcher.stack=2: a search trains one run"),
        (("model.layers=1,2", "search.metrics=[test/los]"), "did you mean test/loss? Valid: test/loss, "),
        (("model.layers=1,2", "search.metrics=[test/iwae_bound]"), "is not measured after every epoch"),
        (("model.layers=1,2", "search.metrics=[test/active_units]"), "neither more nor less of it is better"),
        (("model.layers=1,2", "search.metrics=[test/kl]"), "is one part of the loss"),
        (("model.layers=1,2", "search.storage=foo"), "Valid: sqlite:///FILE, postgresql://HOST/NAME."),
        (("model.layers=1,2", "search.storage=http://h:5000"), "not a database a search can use"),
        (("model.layers=1,2", "search.storage=sqlite:///mlflow.db"), "is a database of MLflow's"),
        *(
            (
                ("model.layers=1,2", f"search.storage='postgresql://{address}'"),
                "given in PGPASSWORD or ~/.pgpass",
            )
            for address in ("me:planted@h/d", "h/d?user=me&password=planted")
        ),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_trained(
    folder: Path, lab: Lab, line: tuple[str, ...], said: str
) -> None:
    code, out, err = lab("-m", "hydra/sweeper=search", "data=digits", *line)
    assert (code, out) == (2, "")
    assert said in err
    assert "planted" not in err
    assert len(err.strip().splitlines()) == 1
    assert not [*folder.iterdir()]


@pytest.mark.parametrize("line", [(), ("-m", "model.layers=1,2"), ("hydra/sweeper=search",)])
def test_keys_of_a_search_are_refused_where_there_is_none(lab: Lab, line: tuple[str, ...]) -> None:
    code, _, err = lab("data=digits", *line, "search.trials=3")
    assert code == 2
    assert err == "vae-lab: search.trials=3: is of a search; add -m hydra/sweeper=search, or leave it out.\n"


def test_what_is_measured_after_every_epoch_is_what_runs_have(hunted: Path) -> None:
    run = next(run for run in runs(hunted) if run.status == "FINISHED")
    points = reader(f"sqlite:///{hunted}/mlflow.db").points([run.run_id], run.metrics)[run.run_id]
    every = {metric for metric, steps in points.items() if sorted(steps) == [1, 2, 3, 4]}
    assert every == {*OF_EVERY_EPOCH}


@pytest.mark.parametrize("lost", ["run", "store"])
def test_trials_whose_runs_are_gone_are_trained_once_more(
    folder: Path, lab: Lab, lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lab(*SHORT)[0] == 0
    (before,) = runs(folder)
    if lost == "run":
        Store.open(f"sqlite:///{folder}/mlflow.db").client.delete_run(before.run_id)
    else:
        folder = folder / "another"
        folder.mkdir()
        shutil.copy("mlflow.searches.db", folder)
        monkeypatch.chdir(folder)
    code, _, err = lab(*SHORT)
    assert code == 0, err
    assert ("1 of 1 trials of full length have no run in" in err) == (lost == "run")
    (after,) = runs(folder)
    assert after.status == "FINISHED"
    assert after.tags[FINGERPRINT] == before.tags[FINGERPRINT]


def test_each_trial_is_asked_once_for_what_the_plan_says_of_it(
    folder: Path, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def parameters(settings: DictConfig) -> dict[str, str]:
        flat = config.parameters(settings)
        asked.append(flat["model.layers"])
        return flat

    monkeypatch.setattr(members, "config", SimpleNamespace(**vars(config) | {"parameters": parameters}))
    line = [*SHORT[:-1], "model.layers=1,2,3", "search.epochs=3", "study.name=short"]
    code, _, err = lab(*line)
    assert code == 0, err
    assert sorted(asked) == ["1", "2", "3"]
    plan = load_study(Store.open(), "short").plan
    assert plan.cross["model.layers"] == asked  # in the order in which they were tried
    assert plan.fingerprints == {run.tags[FINGERPRINT] for run in runs(folder)}


@pytest.mark.parametrize("other", ["code", "data"])
def test_trials_of_other_code_or_data_are_those_of_another_search(
    folder: Path, lab: Lab, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = [*SHORT, "study.name=short"]
    assert lab(*line)[0] == 0
    loaded = datasets.run_data
    with monkeypatch.context() as patch:
        if other == "code":
            patch.setattr(prepared, "_code_of_training", lambda *_: "other")
        else:
            patch.setattr(prepared, "run_data", lambda *of: loaded(*of)._replace(checksum="other"))
        code, _, err = lab(*line)
    assert code == 0, err
    assert "short: its trials so far (1) are of other code or other data, or do not say of which" in err
    assert "any more" not in err
    before, now = sorted(runs(folder), key=lambda run: run.started)
    assert trials_by_fingerprint(folder) == {run.tags[FINGERPRINT]: 1 for run in (before, now)}
    assert [run.run_id for run in load_study(Store.open(), "short").runs] == [now.run_id]
    assert "begins anew" not in lab(*line)[2]  # with code and data of before it goes on with the first
    assert len(runs(folder)) == sum(trials_by_fingerprint(folder).values()) == 2


def trials_by_fingerprint(folder: Path) -> dict[str, int]:
    """How many trials of all searches in a folder have each fingerprint."""
    address = f"sqlite:///{folder}/mlflow.searches.db"
    names = optuna.get_all_study_names(address)
    trials = [trial for name in names for trial in optuna.load_study(study_name=name, storage=address).trials]
    return dict(Counter(trial.user_attrs.get("fingerprint", "none") for trial in trials))


def test_a_trial_whose_run_failed_for_what_may_pass_is_gone_on_with(
    folder: Path, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise LabError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Run, "start_or_resume", full)
        code, _, err = lab(*SHORT)
    assert code == 1
    assert "1 of 1 runs failed:" in err
    assert [trial.state for trial in storage(folder).trials] == [TrialState.RUNNING]
    code, _, err = lab(*SHORT)
    assert code == 0, err
    assert [trial.state for trial in storage(folder).trials] == [TrialState.COMPLETE]


@pytest.fixture(scope="module")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    with Zygote(tmp_path_factory.mktemp("zygote")) as running:
        yield running


def test_killed_between_ask_and_tell_it_loses_and_doubles_nothing(zygote: Zygote, tmp_path: Path) -> None:
    trial = kills.Trial.in_folder(zygote, tmp_path)
    states = [state for _, state, *_ in kills.ended(trial.whole).trials]
    assert states.index("FAIL") == 1  # before the kill, so that what goes on must know of its epochs
    fault = Fault("vae_lab.jobs.search.trials.Trials.add", 3, AFTER)  # `make search-kills` does all
    assert kills.lost(trial, tmp_path / "killed", fault) == ""


@pytest.mark.parametrize(
    "words", [["optimizer=sgd"], ["optimizer.momentum=0.9"], ["optimizer.momentum=0.6,0.7"]]
)
def test_the_line_narrows_the_guides_study_with_a_condition(folder: Path, lab: Lab, words: list[str]) -> None:
    write_files(read("search.md"), folder)
    line = ["--config-dir", ".", "experiments=which_optimizer", "data=digits", *words]
    code, _, err = lab(*line, "hydra/launcher=basic")  # which is looked at after every point was composed
    assert code == 2
    assert "hydra/launcher=workers or ray" in err


def test_the_guide_does_what_it_says(tmp_path: Path) -> None:
    guide = read("search.md")
    write_files(guide, tmp_path)
    for words in lines(guide, "vae-lab", {}):
        assert trains(words)
        trained(tmp_path, *words[1:], "model.hidden_size=8", "evaluation.pictures=false")
    study = load_study(reader(f"sqlite:///{tmp_path}/mlflow.db"), "which_optimizer")
    momentum = {run.params["optimizer"]: "optimizer.momentum" in run.params for run in study.runs}
    assert momentum["sgd"]
