import contextlib
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vae_lab import devices, seeding, training
from vae_lab.by_hand import SeriesVAE, updated_in_backward
from vae_lab.data import Batches, Dataset
from vae_lab.models import VAE, Posterior, autoencoded
from vae_lab.objectives import Objective, Terms, join, likelihood
from vae_lab.stacks import Stack
from vae_lab.training import Epoch, train

D, Z, N = 12, 3, 7  # pixels, latent dimensions, images
Adam = torch.optim.Adam | torch.optim.AdamW


def built(K: int | None, C: int) -> VAE:
    """A VAE, or the network of K in a stack, in double precision."""
    models = []
    for seed in range(K or 1):
        with seeding.global_generator(seed, "weights"):
            models.append(VAE(D, C, latent_size=Z, layers=2, hidden_size=[8, 5]).double())
    return models[0] if K is None else Stack(models).model


def adam(model: nn.Module, kind: type[Adam] = torch.optim.Adam, **options: object) -> Adam:
    return kind(model.parameters(), **{"lr": 1e-2, "fused": True} | options)  # type: ignore[arg-type]


def batch(lead: tuple[int, ...], C: int, draws: tuple[int, ...] = ()) -> tuple[Tensor, Tensor, Tensor]:
    def drawn(*shape: int) -> Tensor:
        return torch.rand(*shape, dtype=torch.float64)

    return drawn(*lead, N, D), drawn(*lead, N, C), drawn(*draws, *lead, N, Z) - 0.5


def moved(
    model: VAE, optimizer: Adam, batches: list[tuple[Tensor, Tensor, Tensor]], by_hand: bool
) -> list[Tensor]:
    """Makes a step a batch; returns the losses."""
    objective, losses = Objective(likelihood("bernoulli"), beta=2.0), []
    context = updated_in_backward(model, optimizer) if by_hand else nullcontext((model, optimizer))
    with context as (stepping, count):
        assert (stepping is not model) is by_hand
        for x, c, noise in batches:
            logits, posterior = autoencoded(stepping, x, c, noise)
            loss = objective(logits, x, posterior, noise).loss
            count.zero_grad()
            loss.mean(-1).sum().backward()
            count.step()
            losses.append(loss.detach())
    return losses


@pytest.mark.parametrize("draws", [(), (4,)], ids=["a draw an image", "four draws"])
@pytest.mark.parametrize("C", [0, 3], ids=["VAE", "CVAE"])
@pytest.mark.parametrize("K", [None, 1, 3], ids=["alone", "stack of 1", "stack of 3"])
@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
def test_steps_by_hand_are_those_of_autograd(
    kind: type[Adam], K: int | None, C: int, draws: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    batches = [batch(() if K is None else (K,), C, draws) for _ in range(6)]
    results = []
    for by_hand in (False, True):
        model = built(K, C)
        optimizer = adam(model, kind, weight_decay=0.1)
        losses = moved(model, optimizer, batches[:4], by_hand)
        losses += moved(model, optimizer, batches[4:], by_hand)  # taken over a second time
        results.append((losses, [*model.parameters()], optimizer.state_dict()["state"]))
    assert results[0][2].keys() == results[1][2].keys()
    assert all(state["step"] == 6 for state in results[1][2].values())
    torch.testing.assert_close(*results, rtol=1e-11, atol=1e-13)


def test_one_may_go_on_where_the_other_has_stopped() -> None:
    torch.manual_seed(0)
    batches = [batch((), 0) for _ in range(6)]
    ends = []
    for first, second in ((True, False), (False, True), (False, False)):
        model = built(None, 0)
        optimizer = adam(model)
        moved(model, optimizer, batches[:3], first)
        moved(model, optimizer, batches[3:], second)
        ends.append([*model.parameters()])
    torch.testing.assert_close(ends[0], ends[2], rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(ends[1], ends[2], rtol=1e-11, atol=1e-13)


class OwnVAE(VAE):
    """A model of somebody's own."""


class Weighted(nn.Module):
    """A likelihood with weights."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))


def with_weights_of_the_likelihood() -> tuple[VAE, Adam]:
    model = VAE(D)
    join(model, Weighted())  # type: ignore[arg-type]
    return model, adam(model)


def without_biases() -> tuple[VAE, Adam]:
    model = VAE(D)
    model.pixels = nn.Linear(400, D, bias=False)
    return model, adam(model)


def with_frozen_weights() -> tuple[VAE, Adam]:
    model = VAE(D)
    model.mean.weight.requires_grad_(False)
    return model, adam(model)


def with_a_layer_in_two_places() -> tuple[VAE, Adam]:
    model = VAE(D, layers=2)
    model.decoder[2] = model.encoder[2]
    return model, adam(model)


def with_weights_in_two_places() -> tuple[VAE, Adam]:
    model = VAE(D, layers=2)
    model.decoder[2].weight = model.encoder[2].weight
    return model, adam(model)


def with_two_groups() -> tuple[VAE, Adam]:
    model = VAE(D)
    groups: list[dict[str, object]] = [
        {"params": [*model.encoder.parameters()]},
        {"params": [weights for name, weights in model.named_parameters() if "encoder" not in name]},
    ]
    return model, torch.optim.Adam(groups, fused=True)


OTHERS: dict[str, Callable[[], tuple[nn.Module, torch.optim.Optimizer]]] = {
    "a model of one's own": lambda: ((model := OwnVAE(D)), adam(model)),
    "another activation": lambda: ((model := VAE(D, activation="gelu")), adam(model)),
    "another optimizer": lambda: ((model := VAE(D)), torch.optim.SGD(model.parameters(), lr=0.1)),
    "not fused": lambda: ((model := VAE(D)), adam(model, fused=False)),
    "amsgrad": lambda: ((model := VAE(D)), adam(model, amsgrad=True)),
    "a tensor as lr": lambda: ((model := VAE(D)), adam(model, lr=torch.tensor(0.1))),
    "some weights alone": lambda: (
        (model := VAE(D)),
        torch.optim.Adam(model.encoder.parameters(), fused=True),
    ),
    "a likelihood's weights": with_weights_of_the_likelihood,
    "no bias": without_biases,
    "frozen weights": with_frozen_weights,
    "a layer in two places": with_a_layer_in_two_places,
    "weights in two places": with_weights_in_two_places,
    "two groups": with_two_groups,
}


@pytest.mark.parametrize("name", OTHERS)
def test_whatever_else_is_trained_by_autograd(name: str) -> None:
    model, optimizer = OTHERS[name]()
    with updated_in_backward(model, optimizer) as (stepping, count):  # type: ignore[arg-type]
        assert {id(stepping), id(count)} == {id(model), id(optimizer)}


def trained(
    data: Dataset, precision: str, parts: tuple[int, ...] = (2,), loss: type[Objective] = Objective
) -> tuple[VAE, list[Epoch]]:
    """Trains up to each number of epochs in turn, from what a checkpoint would hold."""
    epochs: list[Epoch] = []
    weights, state = None, None
    for until in parts:
        with seeding.global_generator(0, "weights"):
            model = VAE(data.size, latent_size=2, layers=2, hidden_size=16)
        model.to(data.train.pixels.device)
        optimizer = adam(model)
        if weights is not None and state is not None:
            model.load_state_dict(weights)
            optimizer.load_state_dict(state)
        batches = Batches(data.train, batch_size=36, C=0, seed=0)
        objective = loss(likelihood("bernoulli"))
        epochs += train(
            model,
            objective,
            optimizer,
            batches,
            epochs=until,
            seed=0,
            precision=precision,
            done=len(epochs),
        )
        weights, state = model.state_dict(), optimizer.state_dict()
    return model, epochs


@pytest.mark.parametrize("K", [None, 2])
def test_layers_on_the_way_of_the_latent_vector_have_their_products_in_float32(K: int | None) -> None:
    models = [VAE(D, latent_size=Z, layers=2, hidden_size=8) for _ in range(K or 1)]
    model = models[0] if K is None else Stack(models).model
    with updated_in_backward(model, adam(model), "bfloat16") as (stepping, _):
        assert isinstance(stepping, SeriesVAE)
        formats = [[layer.product_format for layer in part] for part in (stepping.encoder, stepping.decoder)]
    short, exact = torch.bfloat16, torch.float32
    assert formats == [[short, short, exact], [exact, short, short]]


@pytest.mark.parametrize("K", [None, 2])
def test_in_bfloat16_each_step_computes_what_autograds_computes(K: int | None) -> None:
    torch.manual_seed(0)
    models = [VAE(D, 3, latent_size=Z, layers=2, hidden_size=8) for _ in range(K or 1)]
    model = models[0] if K is None else Stack(models).model
    x, c, noise = (values.float() for values in batch(() if K is None else (K,), 3))
    with devices.autocast("bfloat16", torch.device("cpu")):  # as training has it
        logits, posterior = model(x, c, noise)
        with updated_in_backward(model, adam(model), "bfloat16") as (stepping, _):
            results = stepping(x, c, noise)
    torch.testing.assert_close(results[1], posterior, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(results[0].float(), logits.float(), rtol=1e-6, atol=1e-7)


def test_weights_come_back_also_where_the_block_ends_by_an_error() -> None:
    torch.manual_seed(0)
    batches = [batch((), 0) for _ in range(3)]
    ends = []
    for breaks in (False, True):
        model = built(None, 0)
        optimizer = adam(model)
        with (
            contextlib.suppress(KeyboardInterrupt),
            updated_in_backward(model, optimizer) as (stepping, count),
        ):
            for x, c, noise in batches:
                logits, posterior = stepping(x, c, noise)
                count.zero_grad()
                (logits.sum() + posterior.mean.sum()).backward()
                count.step()
            if breaks:
                raise KeyboardInterrupt
        ends.append(([*model.parameters()], optimizer.state_dict()["state"]))
    torch.testing.assert_close(ends[1], ends[0], rtol=0, atol=0)
    assert all(state["step"] == 3 for state in ends[1][1].values())


@pytest.mark.parametrize(("precision", "rounding"), [("float32", 1e-6), ("bfloat16", 1e-4)])
def test_the_loop_by_hand_is_the_loop_by_autograd_up_to_rounding(
    rows: Dataset, precision: str, rounding: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    if rows.train.pixels.device.type != "cpu":
        pytest.skip("by hand on a CPU alone")
    _, by_hand = trained(rows, precision)
    monkeypatch.setattr(training, "updated_in_backward", lambda *pair: nullcontext(pair[:2]))
    _, by_autograd = trained(rows, precision)
    for epoch, expected in zip(by_hand, by_autograd, strict=True):
        assert epoch.step_losses == pytest.approx(expected.step_losses, rel=rounding)
        assert epoch.kl == pytest.approx(expected.kl, rel=25 * rounding)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_run_that_goes_on_from_a_checkpoint_is_the_same_to_the_last_bit(
    rows: Dataset, precision: str
) -> None:
    (model, epochs), (resumed, resumed_epochs) = (
        trained(rows, precision, parts) for parts in ((3,), (1, 2, 3))
    )
    assert [epoch.step_losses for epoch in epochs] == [epoch.step_losses for epoch in resumed_epochs]
    assert all(map(torch.equal, model.state_dict().values(), resumed.state_dict().values()))


class Watching(Objective):
    """A loss that looks at the gradient of its reconstruction, in one way or another."""

    def __call__(self, logits: Tensor, x: Tensor, posterior: Posterior, *more: Any, **named: Any) -> Terms:
        terms = super().__call__(logits, x, posterior, *more, **named)
        return self.seen(terms, posterior) if logits.requires_grad else terms

    def seen(self, terms: Terms, posterior: Posterior) -> Terms:
        torch.autograd.grad(terms.reconstruction.sum(), posterior.mean, retain_graph=True)
        return terms


class Clearing(Watching):
    """A loss that has a backward pass of its own, whose gradients the loop drops."""

    def seen(self, terms: Terms, posterior: Posterior) -> Terms:
        terms.reconstruction.sum().backward(retain_graph=True)
        return terms


class Adaptive(Watching):
    """A loss that is weighed by the size of that gradient."""

    def seen(self, terms: Terms, posterior: Posterior) -> Terms:
        (slope,) = torch.autograd.grad(terms.reconstruction.sum(), posterior.mean, retain_graph=True)
        return terms._replace(loss=terms.reconstruction + slope.norm() * terms.kl)


class Smooth(Watching):
    """A loss with that gradient as a part of it, so that it is differentiated again."""

    def seen(self, terms: Terms, posterior: Posterior) -> Terms:
        (slope,) = torch.autograd.grad(terms.reconstruction.sum(), posterior.mean, create_graph=True)
        return terms._replace(loss=terms.loss + slope.square().sum(-1))


@pytest.mark.parametrize("loss", [Watching, Clearing])
def test_a_loss_that_takes_a_gradient_moves_no_weights(rows: Dataset, loss: type[Objective]) -> None:
    model, epochs = trained(rows, "float32", loss=loss)
    expected_model, expected = trained(rows, "float32")
    assert [epoch.step_losses for epoch in epochs] == [epoch.step_losses for epoch in expected]
    assert all(map(torch.equal, model.state_dict().values(), expected_model.state_dict().values()))


@pytest.mark.parametrize("loss", [Adaptive, Smooth])
def test_a_loss_made_of_a_gradient_is_trained_as_by_autograd(
    rows: Dataset, loss: type[Objective], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, by_hand = trained(rows, "float32", loss=loss)
    monkeypatch.setattr(training, "updated_in_backward", lambda *pair: nullcontext(pair[:2]))
    expected_model, by_autograd = trained(rows, "float32", loss=loss)
    for epoch, expected in zip(by_hand, by_autograd, strict=True):
        assert epoch.step_losses == pytest.approx(expected.step_losses, rel=1e-5)
    torch.testing.assert_close(model.state_dict(), expected_model.state_dict(), rtol=1e-4, atol=1e-4)
