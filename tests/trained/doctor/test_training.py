"""What the doctor says of training losses: noise is no rise, and a rise is one in any noise."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn

import vae_lab
from benchmarks.plain_faults import TorchVAE, plain_loss
from vae_lab.data import digits
from vae_lab.models import Posterior
from vae_lab.trained.doctor.findings import Finding
from vae_lab.trained.doctor.subject import Recorded, Subject
from vae_lab.trained.doctor.training import check_losses


@pytest.fixture(scope="module")
def x() -> Tensor:
    return digits(root=None).train.scaled(slice(None))


def minibatch_losses(x: Tensor, seed: int, rate: float, batch: int, steps: int = 300) -> list[float]:
    """The losses of a VAE of plain torch that Adam trains with a rate."""
    torch.manual_seed(seed)
    model = TorchVAE(latent=2)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    losses = []
    for _ in range(steps):
        batch_x = x[torch.randint(len(x), (batch,))]
        reconstruction, mu, logvar = model(batch_x)
        loss = plain_loss("", reconstruction, batch_x, mu, logvar)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses


def of_losses(losses: list[float], rate: float | None = None) -> list[Finding]:
    """What the doctor says of losses, and of the rate of a run."""
    recorded = None if rate is None else Recorded({}, {}, rate, rate, "")
    nothing = torch.zeros(2, 4)
    subject = Subject("losses", nn.Identity(), nothing, lambda x, c: Posterior(x, x), losses=losses)
    return list(check_losses(dataclasses.replace(subject, recorded=recorded)))


@pytest.mark.parametrize("batch", [1, 4, 16])
def test_the_noise_of_minibatches_is_no_rise_however_low_the_rate(x: Tensor, batch: int) -> None:
    runs = [minibatch_losses(x, seed, 1e-6, batch) for seed in range(4)]
    falls = [losses[0] - min(losses) for losses in runs]
    rises = [max(losses) - losses[0] for losses in runs]
    assert any(rise > 0.25 * fall for rise, fall in zip(rises, falls, strict=True)), (
        "noise is all that is seen"
    )
    assert [of_losses(losses) for losses in runs] == [[]] * 4


def test_a_rise_is_found_in_the_noise_and_its_remedy_starts_at_the_runs_own_rate(x: Tensor) -> None:
    for seed in range(4):
        (finding,) = of_losses(minibatch_losses(x, seed, 0.3, 64, steps=40), 0.3)
        assert (finding.name, finding.grade) == ("rate_too_high", "fault")
        assert "at a learning rate of 0.3" in finding.seen
        assert finding.remedy.startswith("Lower the learning rate from 0.3, to a third each time")


def test_a_rise_is_found_in_a_few_losses_and_in_losses_that_stay_astray() -> None:
    for losses in ([3.0, 5.0, 2.0], [100.0, 180.0, 90.0, 80.0, 75.0], [100.0, 140.0, 90.0, 80.0, 70.0, 60.0]):
        assert [finding.name for finding in of_losses(losses)] == ["rate_too_high"], losses
    astray = 1e26 * torch.rand(60, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert [finding.grade for finding in of_losses([44.3, *astray.tolist()])] == ["fault"]


class Dropping(TorchVAE):
    """An encoder with dropout, to which images differ by a share of their contrast."""

    def __init__(self, share: float, fault: str = "") -> None:
        super().__init__(fault)
        self.share, self.dropout = share, nn.Dropout(0.5)

    def encode(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        hidden = self.dropout(self.encoder(0.5 + self.share * (self.norm(x) - 0.5)))
        return self.mu(hidden), self.logvar(hidden)


@pytest.mark.parametrize("share", [0.01, 0.1, 1.0])
def test_dropouts_noise_is_no_difference_of_the_modes(x: Tensor, share: float) -> None:
    torch.manual_seed(0)
    report = vae_lab.doctor(Dropping(share), x[:128])
    assert report.of_grade("fault") == [], str(report)


def test_modes_that_differ_do_so_in_dropouts_noise(x: Tensor) -> None:
    torch.manual_seed(0)
    report = vae_lab.doctor(Dropping(1.0, "modes_differ"), x[:128])
    assert report.of_grade("fault") == ["modes_differ"], str(report)
