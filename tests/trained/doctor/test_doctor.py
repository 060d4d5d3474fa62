"""The doctor finds what was put in, in runs of the lab and in plain torch, and nothing in sound ones."""

from __future__ import annotations

import dataclasses
import json
import re
from functools import partial
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn
from torch.nn import functional

import vae_lab
from benchmarks.plain_faults import TorchVAE, plain_loss, plain_report
from tests.conftest import SMALL
from tests.guide import page, read
from vae_lab import faults
from vae_lab.cli.group import commands
from vae_lab.config import FAULTS
from vae_lab.data import Dataset, digits
from vae_lab.errors import LabError, UserError
from vae_lab.faults import FaultyObjective, FaultyVAE
from vae_lab.jobs.parts.own_losses import is_stackable
from vae_lab.objectives import likelihood
from vae_lab.stacks import Stack
from vae_lab.tracking import FAULT, KIND, NOTE, RUN, Reader, StoredRun, reader
from vae_lab.trained.doctor.catalogue import CATALOGUE
from vae_lab.trained.doctor.findings import Report
from vae_lab.trained.doctor.stored import audited_run, audited_runs

NAMES = [name for names in FAULTS.values() for name in names]
QUICK = (*SMALL, "evaluation.pictures=false")


@pytest.fixture(scope="module")
def images(device: torch.device) -> Dataset:
    return digits(root=None).to(device)


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """A store with a run of each fault; those that diverge have failed."""
    from vae_lab.cli import train

    folder = tmp_path_factory.mktemp("faulty")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        train.run_hydra(["-m", "model=cvae", f"fault={','.join(NAMES)}", *QUICK])
    return reader(f"sqlite:///{folder / 'mlflow.db'}")


def runs_of(store: Reader) -> list[StoredRun]:
    return store.tagged(KIND, RUN)


@pytest.fixture(scope="module")
def reports(faulty: Reader) -> dict[str, Report]:
    return {run.params["fault"]: audited_run(faulty, run) for run in runs_of(faulty)}


@pytest.mark.parametrize("fault", NAMES)
def test_a_fault_of_a_run_is_found_by_its_name(fault: str, reports: dict[str, Report]) -> None:
    assert fault in reports[fault].of_grade("fault"), str(reports[fault])


@pytest.mark.parametrize("fault", NAMES)
def test_a_fault_of_a_plain_torch_module_is_found_by_its_name(fault: str, images: Dataset) -> None:
    report = plain_report(fault, 0, images)
    assert fault in report.of_grade("fault"), str(report)


def test_the_remedy_of_a_rate_that_is_not_the_configs_is_the_configs(reports: dict[str, Report]) -> None:
    finding = reports["rate_too_high"].finding("rate_too_high", "fault")
    assert finding.remedy == "Train at the config's learning rate, 0.001."
    assert finding.as_dict()["remedy"] == finding.remedy


def test_a_sound_torch_module_has_no_fault(images: Dataset) -> None:
    assert plain_report("", 0, images).of_grade("fault") == []


def test_a_faulty_run_is_marked_and_has_a_result_of_its_own(faulty: Reader) -> None:
    runs = runs_of(faulty)
    assert len({run.tags["vae_lab.fingerprint"] for run in runs}) == len(NAMES)
    for run in runs:
        assert run.name.startswith(f"fault={run.tags[FAULT]} ")
        if run.status == "FINISHED":
            assert run.tags[NOTE].startswith(f"**Injected fault `{run.tags[FAULT]}`**")


def test_every_fault_can_be_injected_and_found() -> None:
    assert set(NAMES) == set(faults.FAULTS) <= set(CATALOGUE)
    for group, names in FAULTS.items():
        assert {*names} == {*getattr(faults, f"OF_{group.upper()}")}


@pytest.mark.parametrize("fault", FAULTS["loss"])
def test_a_faulty_loss_of_a_stack_is_that_of_each_run(fault: str) -> None:
    assert is_stackable(FaultyObjective(fault=fault, likelihood=likelihood("bernoulli")), 16, 3)


@pytest.mark.parametrize("fault", FAULTS["model"])
def test_a_stack_of_faulty_models_is_each_of_them(fault: str) -> None:
    models = [FaultyVAE(fault=fault, data_size=16, condition_size=2, hidden_size=8) for _ in range(2)]
    x, c, noise = (torch.rand(2, 5, size) for size in (16, 2, 15))
    alone = [model(*parts)[0] for model, *parts in zip(models, x, c, noise, strict=True)]
    together, _ = Stack(models)(x, c, noise)
    assert torch.allclose(together, torch.stack(alone), rtol=1e-3, atol=1e-4, equal_nan=True)


def test_the_command_says_it_by_its_exit_code(
    faulty: Reader,
) -> None:
    run = next(run for run in runs_of(faulty) if run.params["fault"] == "kl_mean")
    words = ["doctor", run.run_id, "--uri", faulty.uri]
    found = CliRunner().invoke(commands, words)
    assert found.exit_code == 3
    assert "kl_mean" in found.output
    (report,) = json.loads(CliRunner().invoke(commands, [*words, "--format", "json"]).output)
    assert report["worst"] == "fault"
    assert report["injected"] == "kl_mean"
    assert report["failure"] is None
    assert {"grade", "finding", "seen", "number", "sound", "remedy", "threads"} == {*report["findings"][0]}


def test_a_run_of_a_study_that_cannot_be_examined_is_said(
    faulty: Reader,
) -> None:
    finished = [run for run in runs_of(faulty) if run.status == "FINISHED"]
    broken = dataclasses.replace(finished[0], tags={**finished[0].tags, "vae_lab.data": "digits 0123"})
    first, second = audited_runs(faulty, [broken, finished[1]])
    assert "was trained on data 0123" in first.failure
    assert second.worst == "fault"
    with pytest.raises(LabError, match="was trained on data 0123"):
        list(audited_runs(faulty, [broken]))


def test_the_program_of_the_page_runs_as_it_stands(images: Dataset) -> None:
    (program,) = read("doctor.md").programs
    pixels = images.test.scaled(slice(None))
    exec(
        program,
        {"model": TorchVAE().to(pixels.device), "images": pixels, "loss_function": partial(plain_loss, "")},
    )


def test_the_page_names_the_threads_of_every_finding() -> None:
    table = page("doctor.md").partition("| finding |")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in table.splitlines()[2:]]
    named = [(re.findall(r"`(\w+)`", row[0]), set(re.findall(r"[\w-]+/[\w-]+#\d+", row[-1]))) for row in rows]
    assert sorted(name for names, _ in named for name in names) == sorted(CATALOGUE)
    for names, threads in named:
        assert threads == {thread for name in names for thread in CATALOGUE[name].threads}, names


def test_the_reports_ten_configurations_have_no_fault(
    ablations: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ablations)
    result = CliRunner().invoke(commands, ["doctor", "ablations", "--format", "json"])
    assert result.exit_code == 0, result.output
    reports = json.loads(result.output)
    assert len(reports) == 10
    assert {report["worst"] for report in reports} <= {"warning", "note"}


class Dictionary(nn.Module):
    """A module that gives a mapping, and has a decoder but no method `encode`."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = TorchVAE()
        self.decoder = self.plain.decode
        self.dropout = nn.Dropout(0.2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        reconstruction, mu, logvar = self.plain(self.dropout(x.flatten(1)))
        return {"recon_x": reconstruction.reshape(x.shape), "mu": mu, "logvar": logvar}


def test_modules_are_called_as_they_want_to_be(images: Dataset) -> None:
    x = images.test.scaled(slice(None)).reshape(-1, 1, 8, 8)
    module = Dictionary().to(x.device).train()
    report = vae_lab.doctor(
        module, x, loss=lambda r, x, mu, logvar: (plain_loss("", r.flatten(1), x.flatten(1), mu, logvar), 0)
    )
    assert report.of_grade("fault") == []
    assert "loss" not in report.unexamined
    assert module.training


def test_an_audit_changes_nothing(images: Dataset) -> None:
    module = TorchVAE("modes_differ").to(images.test.pixels.device).train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    state = torch.get_rng_state()
    vae_lab.doctor(module, images.test.scaled(slice(None)))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize(("beta", "weight", "names"), [(0, 0, []), (0, 1, ["kl_weight"]), (1, 1, [])])
def test_a_kl_may_be_left_out_where_that_is_declared(
    images: Dataset, beta: float, weight: float, names: list[str]
) -> None:
    def loss(r: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
        with_kl, without = (plain_loss("", r, x, *parts) for parts in ((mu, logvar), (0 * mu, 0 * mu)))
        return without + weight * (with_kl - without)

    report = vae_lab.doctor(TorchVAE(), images.test.scaled(slice(None)).cpu(), loss=loss, beta=beta)
    assert "loss" not in report.unexamined
    assert report.of_grade("fault") == names


def test_posteriors_far_from_the_prior_are_a_warning_of_their_own(images: Dataset) -> None:
    module, x = TorchVAE().to(images.test.pixels.device), images.test.scaled(slice(None))
    scale = 3 / module.encode(x)[0].std(0).detach()

    def spread_out(x: Tensor) -> tuple[Tensor, Tensor]:
        mu, logvar = module.encode(x)
        return scale * mu, logvar

    report = vae_lab.doctor(module, x, encode=spread_out)
    (found,) = (one for one in report.findings if one.name == "far_from_prior")
    assert found.grade == "warning"
    assert found.number is not None
    assert found.number >= 9


class WithItsLoss(TorchVAE):
    """A forward pass that computes its own cross entropy, which refuses pixels beyond 1."""

    def forward(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        reconstruction, mu, logvar = super().forward(x, y)
        functional.binary_cross_entropy(reconstruction, x)
        return reconstruction, mu, logvar


class WithoutGradient(TorchVAE):
    """An encoder that is called without a gradient, and has no small log-variance."""

    def encode(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            mu, logvar = super().encode(x, y)
        return mu, logvar.abs()


class OfSixteen(TorchVAE):
    """A decoder of 16 images at once."""

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return super().decode(z.reshape(16, 8), y)


class Counting(TorchVAE):
    """A module that puts another tensor in the place of a buffer, and adds one."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Tensor
        self.register_buffer("calls", torch.zeros(()))

    def encode(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        self.calls = self.calls + 1
        self.register_buffer("last", x[0])
        return super().encode(x, y)


class HardlyDecoding(TorchVAE):
    """A decoder whose images change with z, by little."""

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return super().decode(0.02 * z)


def test_images_that_hardly_change_with_z_have_a_finding_of_their_own(images: Dataset) -> None:
    report = vae_lab.doctor(HardlyDecoding(), images.test.scaled(slice(None)))
    names = [finding.name for finding in report.findings if "change the decoded images" in finding.seen]
    assert names == ["z_hardly_used"]
    finding = report.finding("z_hardly_used", "warning")
    assert 1e-8 < float(finding.number or 0) < 1e-3
    assert all("latent dimensions" in one.seen for one in report.findings if one.name == "collapse")


def test_modules_of_ordinary_code_have_a_report(images: Dataset) -> None:
    x = images.test.scaled(slice(None)).cpu()
    assert "noise" not in vae_lab.doctor(WithItsLoss(), x).unexamined
    assert vae_lab.doctor(WithoutGradient(), x).of_grade("warning") == ["sigma_stuck"]
    report = vae_lab.doctor(OfSixteen(), x)
    assert report.unexamined["decoder"].startswith("fails for 64 z: shape '[16, 8]' is invalid")
    assert report.unexamined["use of z"] == "needs decode"
    assert vae_lab.doctor(TorchVAE().double(), x, loss=partial(plain_loss, "")).of_grade("fault") == []
    module = Counting()
    vae_lab.doctor(module, x)
    assert {name: value.item() for name, value in module.named_buffers()} == {"calls": 0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"spread": "sigma"}, "spread=sigma: unknown"),
        ({"output": "pixels"}, "output=pixels: unknown"),
        ({"beta": -1}, "beta=-1: must be a finite number"),
        ({"los": []}, "los: unknown argument; did you mean losses"),
        ({"labels": [0, 1]}, r"labels: have shape \(2,\) for 32 images"),
        ({"encode": lambda x: x}, "gives no posterior .* encode=lambda x: "),
    ],
)
def test_mistakes_are_said_in_one_line(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        vae_lab.doctor(TorchVAE(), torch.rand(32, 64), **arguments)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["fault=kl_men"], "fault=kl_men: must be one of none, kl_mean"),
        (["fault=condition_ignored"], "condition, as in model=cvae"),
        (["fault=pixel_range", "data.binarize=fixed"], "choose data.binarize=none"),
        (
            ["fault=kl_mean", "objective._target_=my.Loss"],
            "objective._target_=vae_lab.objectives.Objective, not",
        ),
    ],
)
def test_a_fault_that_cannot_be_is_refused(overrides: list[str], message: str, lab: object) -> None:
    code, _, error = lab(*QUICK, *overrides)  # type: ignore[operator]
    assert code == 2
    assert message in error
