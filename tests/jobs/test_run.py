import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pandas
import pytest
import torch
from mlflow import MlflowClient
from omegaconf import DictConfig

import vae_lab
from tests.conftest import SMALL
from vae_lab import config, evaluation, faults, tracking
from vae_lab.data import binarized, digits
from vae_lab.jobs.commands import run_command
from vae_lab.jobs.job import job_of
from vae_lab.jobs.parts import precision, prepared
from vae_lab.jobs.parts.prepared import prepare
from vae_lab.objectives import Objective, likelihood
from vae_lab.tracking import Store, StoredRun

Lab = Callable[..., tuple[int, str, str]]


def only_run() -> StoredRun:
    (record,) = Store.open().records()
    return record


def test_a_run_in_bfloat16_is_measured_in_float32(
    lab: Lab, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs: set[tuple[torch.dtype, bool]] = set()
    forward = torch.nn.Linear.forward  # in training it is not called: the backward pass by hand has products

    def noted(self: torch.nn.Linear, x: torch.Tensor) -> torch.Tensor:
        output = forward(self, x)
        outputs.add((output.dtype, torch.is_autocast_enabled("cpu")))
        return output

    monkeypatch.setattr(torch.nn.Linear, "forward", noted)
    code, _, err = lab(*SMALL, "train.precision=bfloat16", "train.epochs=1", "evaluation.posterior_draws=2")
    assert code == 0, err
    assert only_run().params["train.precision"] == "bfloat16"
    assert outputs == {(torch.float32, False)}


@pytest.mark.parametrize("model", ["vae", "cvae"])
def test_a_finished_run_holds_everything_that_the_ui_shows(lab: Lab, folder: Path, model: str) -> None:
    code, _, err = lab(*SMALL, f"model={model}")
    assert code == 0, err
    record = only_run()
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    assert (record.name, record.status) == (f"{model} L3 Z15 s0", "FINISHED")
    expected = {
        *(
            f"train/{key}"
            for key in ("loss", "reconstruction", "kl", "last_minibatch_loss", "images_per_second")
        ),
        *(f"test/{key}" for key in ("loss", "reconstruction", "kl", "active_units", "negative_elbo")),
        *[
            "train/step_loss",
            "train/seconds",
            "train/total_seconds",
            "train/learning_rate",
        ],
    }
    assert set(record.metrics) == expected
    assert [point.step for point in client.get_metric_history(record.run_id, "test/loss")] == [1, 2]
    assert len(client.get_metric_history(record.run_id, "train/step_loss")) == 2 * 12  # 1,437 images by 128
    figures = {file.path for file in client.list_artifacts(record.run_id, "figures")}
    drawn = {"samples", "reconstructions", "interpolation", "loss_curves"} | (
        {"class_grid"} if model == "cvae" else set()
    )
    assert figures == {f"figures/{name}.png" for name in drawn}
    pictures = [
        file.path for file in client.list_artifacts(record.run_id, "images") if file.path.endswith(".png")
    ]
    keys = {"samples", "reconstructions"} | ({"class_grid"} if model == "cvae" else set())
    for key in keys:
        steps = sorted(path.split("+")[2] for path in pictures if path.startswith(f"images/images~{key}+"))
        assert steps == ["0", "1", "2"]
    assert record.tags["vae_lab.data"].startswith("digits ")
    assert record.tags["vae_lab.device"].startswith("cpu")
    assert len(record.tags[tracking.FINGERPRINT]) == 12
    assert int(record.params["model.parameters"]) > 1000
    assert "nats per image" in record.tags[tracking.NOTE]
    assert f"model={model}" in record.tags[tracking.NOTE]
    inputs = client.get_run(record.run_id).inputs
    assert inputs is not None
    assert json.loads(inputs.dataset_inputs[0].dataset.profile or "") == {
        "train": 1437,
        "test": 360,
        "classes": 10,
    }


@pytest.mark.parametrize(
    "overrides",
    [
        ["model=vae"],
        ["model=cvae", "objective.beta=2"],
        ["objective=continuous_bernoulli"],
        ["objective=gaussian", "data.binarize=dynamic"],
        [
            "model.hidden_size=[16,8]",
            "model.layers=2",
            "model.activation=tanh",
            "scheduler=cosine",
            "optimizer=sgd",
        ],
    ],
    ids=lambda overrides: " ".join(overrides),
)
def test_the_stored_models_held_out_loss_recomputes_to_the_logged_value(
    lab: Lab, overrides: list[str]
) -> None:
    code, _, err = lab(*SMALL, *overrides)
    assert code == 0, err
    record = only_run()
    model = vae_lab.load(record.run_id).module
    data = digits()
    test = data.test if record.params["data.binarize"] == "none" else binarized(data.test, "test")
    objective = Objective(
        likelihood(record.params["objective.likelihood"], float(record.params["objective.std"])),
        float(record.params["objective.beta"]),
    )
    found = evaluation.held_out(model, objective, test, seed=int(record.params["seed"]))
    assert found.loss == pytest.approx(record.metrics["test/loss"], rel=1e-6)
    assert found.active_units == record.metrics["test/active_units"]


def test_the_loss_of_every_step_is_kept_and_as_many_as_a_chart_draws_are_logged(lab: Lab) -> None:
    assert lab(*SMALL, "train.epochs=2", "train.batch_size=4")[0] == 0
    record, store = only_run(), Store.open()
    table = pandas.read_csv(store.download(record.run_id, tracking.STEPS_FILE))
    assert table["step"].tolist() == list(range(1, 721))  # 1,437 images by 4, twice
    logged = store.points([record.run_id], ["train/step_loss"])[record.run_id]["train/step_loss"]
    assert sorted(logged) == sorted({*range(1, 721, 3), 360, 720})
    assert [logged[step] for step in sorted(logged)] == [table["loss"][step - 1] for step in sorted(logged)]
    assert record.metrics["train/last_minibatch_loss"] == table["loss"].iloc[-1]


def test_the_same_command_gives_the_same_curves_to_the_last_bit(lab: Lab) -> None:
    for _ in range(2):
        assert lab(*SMALL, "reuse=never")[0] == 0
    store = Store.open()
    first, second = store.records()
    for metric in ("train/step_loss", "test/loss", "train/last_minibatch_loss"):
        assert store.history(first.run_id, metric) == store.history(second.run_id, metric)
    one, two = (vae_lab.load(run.run_id).module for run in (first, second))
    assert all(map(torch.equal, one.state_dict().values(), two.state_dict().values()))


def test_weights_that_break_in_the_last_step_are_seen_in_the_held_out_loss(lab: Lab) -> None:
    code, _, err = lab(*SMALL, "train.epochs=1", "train.batch_size=2000", "optimizer.lr=1e20")
    assert code == 1
    record = only_run()
    assert record.status == "FAILED"
    assert re.fullmatch(
        r"training diverged: held-out \w+ is (NaN|infinite) after epoch 1\.", record.tags["vae_lab.error"]
    )
    assert record.tags["vae_lab.error"] in err


def test_collapsed_dimensions_are_warned_of_beside_the_result_and_in_the_description(lab: Lab) -> None:
    code, out, err = lab(*SMALL, "model.layers=4", "objective.beta=100")
    assert code == 0
    record = only_run()
    unused = 15 - record.metrics["test/active_units"]
    assert unused > 0
    warning = f"{unused:.0f} of 15 latent dimensions collapsed"
    assert warning in out + err
    said = f"**Posterior collapse**: {warning}; they carry next to nothing of an image."
    assert said in record.tags[tracking.NOTE]


def test_a_diverging_run_is_recorded_as_failed_with_the_reason(lab: Lab) -> None:
    code, _, err = lab(*SMALL, "optimizer=sgd", "optimizer.lr=1e20")
    assert code == 1
    record = only_run()
    assert record.status == "FAILED"
    assert "diverged" in record.tags["vae_lab.error"]
    assert record.tags["vae_lab.error"] in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.device=cuda:99"], "train.device=cuda:99: this machine has no such device"),
        (["train.precision=tf32"], "train.precision=tf32: needs a CUDA device"),
        (["optimizer._target_=torch.optim.Adm"], "optimizer._target_=torch.optim.Adm: no class of that name"),
        (["optimizer._target_=torch.nn.Linear"], "is no torch.optim.optimizer.Optimizer"),
        (["+optimizer.bettas=1"], "unexpected keyword argument 'bettas'; did you mean betas?"),
        (["+optimizer.bettas=1"], "optimizer.bettas=1: "),
        (["+optimizer.betas=3"], "optimizer.betas=3: "),
        (["optimizer=sgd", "+optimizer.nesterov=true", "optimizer.momentum=0"], "optimizer.nesterov=True: "),
        (["scheduler=cosine", "scheduler.T_max=x"], "scheduler.T_max=x: "),
        (["model._target_=torch.nn.Linear"], "model._target_=torch.nn.Linear: "),
        (["data._target_=math.sqrt"], "data._target_=math.sqrt: "),
        (["data=idx", "data.root=/nowhere"], "data.root=/nowhere: no train-images-idx3-ubyte"),
        (["tracking.uri=somewhere"], "tracking.uri=somewhere: not an address"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_message_and_leaves_nothing_behind(
    lab: Lab, folder: Path, overrides: list[str], message: str
) -> None:
    code, out, err = lab(*SMALL, *overrides)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert list(folder.iterdir()) == []


def test_a_users_own_model_is_trained_like_the_labs(
    lab: Lab, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "own_model.py").write_text(
        "from vae_lab.models import VAE\n"
        "class Scaled(VAE):\n"
        "    def __init__(self, *, scale, **arguments):\n"
        "        super().__init__(**arguments)\n"
        "        self.scale = scale\n"
        "    def logits(self, z, c):\n"
        "        return self.scale * super().logits(z, c)\n"
    )
    monkeypatch.syspath_prepend(str(folder))
    code, _, err = lab(*SMALL, "model._target_=own_model.Scaled", "+model.options.scale=0.5")
    assert code == 0, err
    record = only_run()
    assert record.name == "scaled L3 Z15 s0"
    assert vae_lab.load(record.run_id, trust=["own_model.Scaled"]).module.scale == 0.5
    measured = ("evaluation.importance_samples=0", "evaluation.samples=0")
    own = ("model._target_=own_model.Scaled", "+model.options.scale=0.5", "evaluation=full", *measured)
    assert lab(*SMALL, *own)[0] == 0, "what the command itself names is trusted"
    assert "test/collapsed_units" in only_run().metrics
    code, _, err = lab(
        *SMALL, "model._target_=own_model.Scaled", "+model.options.scal=0.5", "+model.options.scale=1"
    )
    assert code == 2
    assert "model.options.scal=0.5: " in err
    assert "did you mean scale?" in err
    assert "unexpected keyword argument 'scal'" in err


def test_the_code_of_ones_own_classes_belongs_to_the_result(
    folder: Path, monkeypatch: pytest.MonkeyPatch, composed: Callable[..., DictConfig]
) -> None:
    (folder / "own_base.py").write_text("from torch.optim import SGD\nclass Base(SGD):\n    scale = 1\n")
    (folder / "own_steps.py").write_text("from own_base import Base\nclass Steps(Base):\n    pass\n")
    monkeypatch.syspath_prepend(str(folder))
    settings = config.checked(composed(*SMALL, "optimizer=sgd", "optimizer._target_=own_steps.Steps"))

    def now() -> str:
        prepared._code_of_training.cache_clear()
        return prepare(settings).fingerprint

    first = now()
    text = (folder / "own_base.py").read_text()
    (folder / "own_base.py").write_text(text + "# a comment\n")
    assert now() == first
    (folder / "own_base.py").write_text(text.replace("scale = 1", "scale = 2"))
    assert now() != first


@pytest.mark.parametrize(
    ("module", "line", "changed"),
    [
        (faults, "fault=rate_too_high", ("RATE = 100.0", "RATE = 10.0")),
        (faults, "fault=pixel_range", ("images.labels, 1)", "images.labels, 2)")),
        (faults, "fault=kl_mean", ("SMALL_WEIGHT = 1e-3", "SMALL_WEIGHT = 1e-2")),
        (precision, "train.precision=auto", ("PRECISION_BOUND = 0.02", "PRECISION_BOUND = 0.5")),
    ],
    ids=["optimizer", "data", "loss", "auto"],
)
def test_the_code_of_a_fault_and_of_auto_belongs_to_the_result_of_who_asks_for_it(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    composed: Callable[..., DictConfig],
    module: ModuleType,
    line: str,
    changed: tuple[str, str],
) -> None:
    def now() -> list[str]:
        prepared._code_of_training.cache_clear()
        return [prepare(config.checked(composed(*SMALL, *more))).fingerprint for more in ([line], [])]

    asking, plain = now()
    text = Path(str(module.__file__)).read_text()
    assert changed[0] in text
    other = folder / "other.py"
    other.write_text(text.replace(*changed))
    monkeypatch.setattr(module, "__file__", str(other))
    asking_now, plain_now = now()
    assert asking_now != asking
    assert plain_now == plain


@pytest.mark.parametrize(
    ("overrides", "command"),
    [
        (("model=cvae",), "vae-lab train model=cvae"),
        (("sweeps=depth", "seed=1"), "vae-lab train sweeps=depth seed=1 hydra.mode=RUN"),
        (("experiments=reference", "seeds=10"), "vae-lab train experiments=reference hydra.mode=RUN"),
        (("model.hidden_size=[4, 3]",), "vae-lab train 'model.hidden_size=[4, 3]'"),
    ],
)
def test_a_run_records_the_command_that_trains_it_alone(
    composed: Callable[..., DictConfig], overrides: tuple[str, ...], command: str
) -> None:
    assert run_command(job_of(composed(), overrides, {})) == command
