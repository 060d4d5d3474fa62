"""Annealed importance sampling: log p(x) between two bounds, rate and distortion from prior to posterior.

Hamiltonian Monte Carlo leads chains through p_b(z), in proportion to p(z) p(x | z)^b, from the prior at
inverse temperature b = 0 to the posterior at b = 1. Their weights are unbiased for the integral of
p(z) p(x | z)^b, so they bound its logarithm from below, in expectation; backwards, from a draw of the exact
posterior, from above. That needs transitions that are fixed beforehand: step sizes come from other chains,
which count for nothing.

Shapes: N images, n of them at a time, K chains, T + 1 inverse temperatures, Z latent dimensions, D pixels.

References:
    Neal 2001, Annealed importance sampling; Grosse et al. 2015, Sandwiching the marginal likelihood using
    bidirectional Monte Carlo; Wu et al. 2017, On the quantitative analysis of decoder-based generative
    models; Huang et al. 2020, Evaluating lossy compression rates of deep generative models.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vae_lab import interruption, seeding
from vae_lab.models import VAE
from vae_lab.objectives import Likelihood

LEAPFROGS = 5  # steps of a trajectory
LONGEST_STEP = (
    0.4  # in widths of the posterior: five are a third of a turn, where draws are least like the last
)
ACCEPTED = 0.75  # share of trajectories that the step sizes aim at
TUNING_CHAINS, TUNING_RATE = 2, 0.2
ROWS = 4096  # images decoded at a time
FLATNESS = 4.0  # of the temperatures: how many of them lie near the prior and near the posterior


class Annealed(NamedTuple):
    """What forward chains say of N images at each inverse temperature, and backward chains of log p(x)."""

    betas: Tensor  # (T + 1)
    log_integral: Tensor  # stochastic lower bound on log of the integral of p(z) p(x | z)^b (T + 1, N)
    distortion: Tensor  # mean of -log p(x | z) over chains by their weights (T + 1, N)
    upper: Tensor | None  # stochastic upper bound on log p(x) (N,), if draws of the posteriors are known

    @property
    def lower(self) -> Tensor:
        """The stochastic lower bound on log p(x) (N,)."""
        return self.log_integral[-1]

    @property
    def rate(self) -> Tensor:
        """Upper bound, in expectation, on the KL of what the chains draw from the prior (T + 1, N).

        It is -b distortion - log_integral: for exact draws of p_b their KL, else more than it by no less than
        what log_integral lacks (Huang et al. 2020, section 4).
        """
        return -self.betas[:, None] * self.distortion - self.log_integral


class _State(NamedTuple):
    """Where K chains of n images are."""

    z: Tensor  # (K, n, Z)
    log_likelihood: Tensor  # (K, n)
    slope: Tensor  # of the log likelihood (K, n, Z)

    def energy(self, beta: float, momentum: Tensor) -> Tensor:
        """Returns the energy (K, n) in p_beta, up to a constant."""
        return (self.z.square() + momentum.square()).sum(-1) / 2 - beta * self.log_likelihood


class _Target(NamedTuple):
    """The images whose latent vectors are sought."""

    model: VAE
    likelihood: Likelihood
    x: Tensor  # (n, D)
    c: Tensor  # (n, C)
    precision: Tensor  # of q(z | x, c) (n, Z): what p_b is about as narrow as, for b = 1

    def at(self, z: Tensor) -> _State:
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            logits = self.model.logits(z, self.c.expand(len(z), *self.c.shape))
            log_likelihood = -self.likelihood.negative_log(logits, self.x)
            (slope,) = torch.autograd.grad(log_likelihood.sum(), z)
        return _State(z.detach(), log_likelihood.detach(), slope)

    def moved(
        self, start: _State, beta: float, step: Tensor, generator: torch.Generator
    ) -> tuple[_State, Tensor]:
        """Returns the state after one trajectory in p_beta with steps (n,), and the share accepted (n,)."""
        scale = step[:, None] / (1 + beta * (self.precision - 1)).sqrt()
        noise = torch.randn(start.z.shape, generator=generator, device=start.z.device)
        uniform = torch.rand(start.log_likelihood.shape, generator=generator, device=start.z.device)
        end, momentum = start, noise + scale * (beta * start.slope - start.z) / 2
        for left in reversed(range(LEAPFROGS)):
            end = self.at(end.z + scale * momentum)
            momentum = momentum + scale * (beta * end.slope - end.z) / (1 if left else 2)
        gain = start.energy(beta, noise) - end.energy(beta, momentum)
        accepted = uniform.log() < gain  # not if the gain is not a number
        state = _State(
            torch.where(accepted[..., None], end.z, start.z),
            torch.where(accepted, end.log_likelihood, start.log_likelihood),
            torch.where(accepted[..., None], end.slope, start.slope),
        )
        return state, gain.clamp(max=0).exp().nan_to_num(0).mean(0)

    def from_prior(self, chains: int, generator: torch.Generator) -> _State:
        shape = (chains, *self.precision.shape)
        return self.at(torch.randn(shape, generator=generator, device=self.x.device))


def inverse_temperatures(count: int) -> list[float]:
    """Returns `count` + 1 inverse temperatures from 0 to 1, by a sigmoid: denser at both ends.

    Examples:
        >>> [round(beta, 3) for beta in inverse_temperatures(4)]
        [0.0, 0.105, 0.5, 0.895, 1.0]
    """
    ends = [1 / (1 + math.exp(FLATNESS * (1 - 2 * t / count))) for t in range(count + 1)]
    return [(end - ends[0]) / (ends[-1] - ends[0]) for end in ends]


@torch.no_grad()
def annealed(
    model: VAE,
    likelihood: Likelihood,
    x: Tensor,
    c: Tensor,
    *,
    temperatures: int,
    chains: int,
    seed: int,
    exact: Tensor | None = None,
) -> Annealed:
    """Returns bounds on log p(x), of a CVAE on log p(x | c), and rate and distortion at every temperature.

    Args:
        model: The trained model.
        likelihood: p(x | z).
        x: N images (N, D).
        c: Their conditions (N, C).
        temperatures: T, how many transitions a chain makes.
        chains: K, for each image.
        seed: The seed of every draw.
        exact: A draw of the exact posterior of each image (N, Z): what a simulated image was decoded from.
    """
    model.eval()
    betas = inverse_temperatures(temperatures)
    size = max(1, ROWS // chains)
    parts = []
    for start in range(0, len(x), size):
        part = slice(start, start + size)
        precision = (-model.posterior(x[part], c[part]).log_var).exp().clamp(0.1, 1e6)
        target = _Target(model, likelihood, x[part], c[part], precision)
        generator = seeding.generator(seed, "annealed", start, device=x.device)
        walk = (target, betas, _step_sizes(target, betas, generator), chains, generator)
        log_integral, distortion = _forward(*walk)
        parts.append((log_integral, distortion, None if exact is None else _backward(*walk, exact[part])))
    log_integrals, distortions, uppers = zip(*parts, strict=True)
    upper = None if exact is None else torch.cat(uppers)
    on_device = torch.tensor(betas, dtype=torch.float64, device=x.device)
    return Annealed(on_device, torch.cat(log_integrals, -1), torch.cat(distortions, -1), upper)


def _step_sizes(target: _Target, betas: Sequence[float], generator: torch.Generator) -> Tensor:
    """Returns step sizes (T + 1, n), adapted on chains of their own on the way to lower temperatures."""
    state = target.from_prior(TUNING_CHAINS, generator)
    step = torch.full_like(target.precision[:, 0], LONGEST_STEP)
    steps = [step]
    for beta in betas[1:]:
        interruption.check_now()
        state, share = target.moved(state, beta, step, generator)
        step = (step * (TUNING_RATE * (share - ACCEPTED)).exp()).clamp(max=LONGEST_STEP)
        steps.append(step)
    return torch.stack(steps)


def _forward(
    target: _Target, betas: Sequence[float], steps: Tensor, chains: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Returns the log integral and the distortion at every temperature, both (T + 1, n)."""
    state = target.from_prior(chains, generator)
    log_weight = torch.zeros_like(state.log_likelihood, dtype=torch.float64)
    log_integral, distortion = [], []
    for t, beta in enumerate(betas):
        interruption.check_now()
        if t:
            log_weight = log_weight + (beta - betas[t - 1]) * state.log_likelihood.double()
            state, _ = target.moved(state, beta, steps[t], generator)
        log_integral.append(log_weight.logsumexp(0) - math.log(chains))
        distortion.append(-(log_weight.softmax(0) * state.log_likelihood).sum(0))
    return torch.stack(log_integral), torch.stack(distortion)


def _backward(
    target: _Target,
    betas: Sequence[float],
    steps: Tensor,
    chains: int,
    generator: torch.Generator,
    exact: Tensor,
) -> Tensor:
    """Returns the upper bound on log p(x) (n,) of chains that run from the exact posterior to the prior."""
    state = target.at(exact.expand(chains, *exact.shape))
    log_weight = torch.zeros_like(state.log_likelihood, dtype=torch.float64)
    for t in reversed(range(1, len(betas))):
        interruption.check_now()
        state, _ = target.moved(state, betas[t], steps[t], generator)
        log_weight = log_weight - (betas[t] - betas[t - 1]) * state.log_likelihood.double()
    return math.log(chains) - log_weight.logsumexp(0)
