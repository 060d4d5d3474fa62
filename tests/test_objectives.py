import math

import pytest
import torch
from torch.distributions import Bernoulli, ContinuousBernoulli, Normal, kl_divergence
from torch.nn.functional import binary_cross_entropy_with_logits

from tests.test_models import relative_error
from vae_lab.errors import UserError
from vae_lab.models import Posterior
from vae_lab.objectives import Objective, cross_entropy, kl_per_dimension, likelihood, penalty

LEADS = [(), (2, 7)]


def test_loss_gives_the_reports_number() -> None:
    image = torch.sigmoid(torch.tensor([[1.0, 10.0], [9.0, 3.0]])).reshape(1, 4)
    reconstruction = torch.sigmoid(torch.tensor([[2.0, 5.0], [6.0, 7.0]])).reshape(1, 4)
    posterior = Posterior(torch.ones(1, 15), torch.zeros(1, 15))
    loss = Objective(likelihood("bernoulli"))(reconstruction.logit(), image, posterior).loss.mean()
    assert relative_error(torch.tensor(8.5079), loss) == 2.1297676389877955e-06


@pytest.mark.parametrize("lead", LEADS)
def test_gaussian_kl_matches_torch_distributions(lead: tuple[int, ...]) -> None:
    mean, log_var = torch.randn(2, *lead, 5, dtype=torch.float64)
    expected = kl_divergence(Normal(mean, (log_var / 2).exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(kl_per_dimension(Posterior(mean, log_var)), expected)


def test_kl_of_the_prior_is_zero() -> None:
    assert not kl_per_dimension(Posterior(torch.zeros(4), torch.zeros(4))).any()


@pytest.mark.parametrize("lead", LEADS)
def test_bernoulli_matches_torch_distributions_on_binary_pixels(lead: tuple[int, ...]) -> None:
    logits = torch.randn(*lead, 6, dtype=torch.float64) * 3
    x = torch.bernoulli(torch.full_like(logits, 0.5))
    expected = -Bernoulli(logits=logits).log_prob(x).sum(-1)
    torch.testing.assert_close(likelihood("bernoulli").negative_log(logits, x), expected)


def test_grey_cross_entropy_is_lowest_at_the_pixels_own_entropy() -> None:
    x = torch.tensor([0.2, 0.7], dtype=torch.float64)
    floor = Bernoulli(probs=x).entropy().sum()
    bce = likelihood("bernoulli")
    torch.testing.assert_close(bce.negative_log(torch.logit(x), x), floor)
    assert bce.negative_log(torch.logit(x) + 0.1, x) > floor


@pytest.mark.parametrize("lead", LEADS)
def test_continuous_bernoulli_matches_torch_distributions(lead: tuple[int, ...]) -> None:
    logits = torch.randn(*lead, 6, dtype=torch.float64) * 4
    x = torch.rand_like(logits)
    reference = ContinuousBernoulli(logits=logits, lims=(0.4999, 0.5001))
    continuous_bernoulli = likelihood("continuous_bernoulli")
    torch.testing.assert_close(
        continuous_bernoulli.negative_log(logits, x), -reference.log_prob(x).sum(-1), rtol=1e-6, atol=1e-6
    )
    torch.testing.assert_close(continuous_bernoulli.mean(logits), reference.mean, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("logit", [0.0, 1e-9, 9.9e-3, 1.01e-2, -0.3, 5.0, -40.0, 90.0])
def test_continuous_bernoulli_density_integrates_to_one(logit: float) -> None:
    x = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    logits = torch.full((200_000, 1), logit, dtype=torch.float64)
    continuous_bernoulli = likelihood("continuous_bernoulli")
    density = (-continuous_bernoulli.negative_log(logits, x[:, None])).exp()
    assert density.mean().item() == pytest.approx(1, abs=1e-6)
    assert (density * x).mean().item() == pytest.approx(
        continuous_bernoulli.mean(logits[:1]).item(), abs=1e-6
    )


def test_continuous_bernoulli_gradient_is_finite_where_its_formula_is_zero_by_zero() -> None:
    logits = torch.tensor([[0.0, 1e-30, -1e-3, 50.0, -50.0]], requires_grad=True)
    likelihood("continuous_bernoulli").negative_log(logits, torch.full((1, 5), 0.3)).sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("lead", LEADS)
def test_gaussian_matches_torch_distributions(lead: tuple[int, ...]) -> None:
    logits = torch.randn(*lead, 6, dtype=torch.float64)
    x = torch.rand_like(logits)
    expected = -Normal(logits.sigmoid(), 0.25).log_prob(x).sum(-1)
    torch.testing.assert_close(likelihood("gaussian", std=0.25).negative_log(logits, x), expected)


@pytest.mark.parametrize("name", ["bernoulli", "continuous_bernoulli"])
def test_losses_stay_finite_for_extreme_logits(name: str) -> None:
    logits = torch.tensor([[-1e4, 1e4, 0.0]], requires_grad=True)
    loss = likelihood(name).negative_log(logits, torch.tensor([[1.0, 0.0, 0.5]]))
    loss.sum().backward()
    assert loss.isfinite().all()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_beta_weighs_the_kl_alone() -> None:
    posterior = Posterior(torch.randn(3, 2), torch.randn(3, 2))
    logits, x = torch.randn(3, 4), torch.rand(3, 4)
    terms = Objective(likelihood("bernoulli"), beta=4.0)(logits, x, posterior)
    torch.testing.assert_close(terms.loss, terms.reconstruction + 4 * terms.kl)
    assert terms.loss.shape == (3,)


def test_warm_up_raises_the_weight_of_the_kl_from_zero_to_beta() -> None:
    posterior = Posterior(torch.ones(3, 2), torch.zeros(3, 2))
    objective = Objective(likelihood("bernoulli"), beta=2.0, warmup_epochs=4)
    terms_after = {
        done: objective(torch.zeros(3, 4), torch.rand(3, 4), posterior, epochs_done=done)
        for done in (0, 1, 4, 9)
    }
    weights = {
        done: float(((terms.loss - terms.reconstruction) / terms.kl).mean())
        for done, terms in terms_after.items()
    }
    assert weights == pytest.approx({0: 0, 1: 0.5, 4: 2, 9: 2})
    held_out = objective(torch.zeros(3, 4), torch.rand(3, 4), posterior)
    torch.testing.assert_close(held_out.loss, held_out.reconstruction + 2 * held_out.kl)


def test_the_l1_penalty_is_the_sum_of_magnitudes() -> None:
    means = torch.tensor([[1.0, -2.0], [0.0, 0.5]])
    assert penalty("l1", Posterior(means, torch.zeros(2, 2))).tolist() == [3.0, 0.5]
    assert penalty("none", Posterior(means, torch.zeros(2, 2))).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("lead", [(6,), (2, 7)])
def test_the_ard_penalty_has_value_and_gradient_of_the_group_lasso(lead: tuple[int, ...]) -> None:
    means = torch.randn(*lead, 3, dtype=torch.float64, requires_grad=True)
    lasso = means.square().mean(-2).sqrt().sum(-1).mean()  # the runs of a stack have each their own
    (expected,) = torch.autograd.grad(lasso, means)
    cost = penalty("ard", Posterior(means, torch.zeros_like(means))).mean()
    torch.testing.assert_close(cost, lasso)
    torch.testing.assert_close(torch.autograd.grad(cost, means)[0], expected)


def test_an_empty_dimension_costs_nothing_and_has_a_finite_gradient() -> None:
    means = torch.zeros(5, 2, requires_grad=True)
    cost = penalty("ard", Posterior(means, torch.zeros(5, 2))).sum()
    cost.backward()
    assert cost.item() == pytest.approx(0, abs=1e-4)
    assert means.grad is not None
    assert means.grad.isfinite().all()


def test_the_penalty_is_weighed_into_the_loss_and_into_nothing_else() -> None:
    posterior = Posterior(torch.ones(3, 2), torch.zeros(3, 2))
    objective = Objective(likelihood("bernoulli"), penalty="l1", penalty_weight=0.5)
    terms = objective(torch.zeros(3, 4), torch.rand(3, 4), posterior)
    torch.testing.assert_close(terms.loss, terms.reconstruction + terms.kl + 0.5 * 2)


def test_unknown_likelihood_is_named_with_the_valid_ones() -> None:
    with pytest.raises(
        UserError, match=r"did you mean bernoulli\? Valid: bernoulli, continuous_bernoulli, gaussian"
    ):
        likelihood("bernouli")


def test_gaussian_constant_counts_every_pixel() -> None:
    perfect = likelihood("gaussian", std=1.0).negative_log(torch.zeros(10), torch.full((10,), 0.5))
    assert perfect.item() == pytest.approx(5 * math.log(2 * math.pi))


def summed_by_pytorch(logits: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1)


@pytest.mark.parametrize("D", [50, 127, 784], ids=lambda D: f"{D} pixels")
@pytest.mark.parametrize("lead", LEADS)
def test_cross_entropy_and_its_gradients_are_pytorchs(
    lead: tuple[int, ...], D: int, device: torch.device
) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = (30 * torch.randn(*lead, D, generator=generator, dtype=torch.float64)).to(device)
    x = torch.rand(D, generator=generator, dtype=torch.float64).to(device)
    ours: list[torch.Tensor | None] = []
    pytorchs: list[torch.Tensor | None] = []
    for results, function in ((ours, cross_entropy), (pytorchs, summed_by_pytorch)):
        a, b = logits.clone().requires_grad_(), x.expand_as(logits).clone().requires_grad_()
        value = function(a, b)
        value.square().sum().backward()
        results += [value, a.grad, b.grad]
    for our_tensor, pytorchs_tensor in zip(ours, pytorchs, strict=True):
        torch.testing.assert_close(our_tensor, pytorchs_tensor, rtol=1e-12, atol=1e-12)


def test_cross_entropy_of_single_floats_is_within_roundings(device: torch.device) -> None:
    logits = torch.linspace(-120, 120, 100_001, device=device)[:, None]
    x = torch.linspace(0, 1, 100_001, device=device).flip(0)[:, None]
    exact = summed_by_pytorch(logits.double(), x.double())
    error = (cross_entropy(logits, x).double() - exact).abs()
    assert (error <= 1.2e-7 + 2.4e-7 * exact).all()


@pytest.mark.parametrize("spread", [0.0, 0.1, 5.0])
def test_cross_entropy_of_many_pixels_is_as_exact_as_their_sum(spread: float, device: torch.device) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = (spread * torch.randn(1000, 784, generator=generator)).to(device)
    x = torch.rand(1000, 784, generator=generator).to(device)
    exact = summed_by_pytorch(logits.double(), x.double())
    error = (cross_entropy(logits, x).double() - exact).abs()
    assert float(error.max()) <= 5e-7 * float(exact.max())
