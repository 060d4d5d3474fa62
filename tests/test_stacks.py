import shutil
import time
from itertools import islice
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vae_lab import seeding, stacks
from vae_lab.data import Batches, Dataset
from vae_lab.models import VAE, Posterior, StackedLinear
from vae_lab.objectives import Objective, likelihood
from vae_lab.stacks import Member, Stack, stack_objectives, stackable, train_together
from vae_lab.training import DivergedError, Epoch, train


def member(
    data: Dataset,
    seed: int,
    *,
    C: int = 0,
    lr: float = 1e-2,
    decay: float = 1.0,
    hidden: int = 16,
    optimizer: type[torch.optim.Optimizer] = torch.optim.Adam,
    **objective: float,
) -> Member:
    with seeding.global_generator(seed, "weights"):
        model = VAE(data.size, C, latent_size=2, layers=2, hidden_size=hidden)
    model.to(data.train.pixels.device)
    moved = optimizer(model.parameters(), lr=lr)  # type: ignore[call-arg]
    schedule = torch.optim.lr_scheduler.ExponentialLR(moved, decay)
    loss = Objective(likelihood("bernoulli"), **objective)  # type: ignore[arg-type]
    return Member(model, loss, moved, schedule, seed)


def batches(data: Dataset, seed: int, *, C: int = 0, dynamic: bool = False) -> Batches:
    return Batches(data.train, batch_size=36, C=C, seed=seed, dynamic=dynamic)


def alone(data: Dataset, run: Member, *, epochs: int = 3, C: int = 0, dynamic: bool = False) -> list[Epoch]:
    return list(
        train(
            run.model,
            run.objective,
            run.optimizer,
            batches(data, run.seed, C=C, dynamic=dynamic),
            epochs=epochs,
            seed=run.seed,
            scheduler=run.scheduler,
        )
    )


def same(epoch: Epoch, expected: Epoch) -> None:
    measured = [
        [
            record.number,
            record.loss,
            record.reconstruction,
            record.kl,
            record.last_minibatch_loss,
            *record.step_losses,
        ]
        for record in (epoch, expected)
    ]
    assert measured[0] == pytest.approx(measured[1], rel=1e-5)
    assert epoch.learning_rate == expected.learning_rate


def weights(run: Member) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in run.model.parameters()])


@pytest.mark.parametrize(("C", "dynamic"), [(0, False), (3, False), (0, True)])
def test_a_run_of_a_stack_equals_that_run_alone(rows: Dataset, C: int, dynamic: bool) -> None:
    separate = [member(rows, seed, C=C) for seed in (0, 1, 2)]
    stacked = [member(rows, seed, C=C) for seed in (0, 1, 2)]
    curves = [alone(rows, run, C=C, dynamic=dynamic) for run in separate]
    together = list(train_together(stacked, batches(rows, 0, C=C, dynamic=dynamic), epochs=3))
    for index, (stacked_run, separate_run) in enumerate(zip(stacked, separate, strict=True)):
        for epoch in range(3):
            result = together[epoch][index]
            assert isinstance(result, Epoch)
            same(result, curves[index][epoch])
        torch.testing.assert_close(weights(stacked_run), weights(separate_run), rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler here")
@pytest.mark.filterwarnings("default")  # torch.compile's own
@pytest.mark.timeout(600)
def test_a_compiled_stack_equals_an_eager_one_up_to_rounding(rows: Dataset) -> None:
    eager, compiled = (
        list(
            train_together(
                [member(rows, seed, C=3, warmup_epochs=1.5) for seed in (0, 1)],
                batches(rows, 0, C=3),
                epochs=2,
                compiled=compiled,
            )
        )
        for compiled in (False, True)
    )
    for eager_results, compiled_results in zip(eager, compiled, strict=True):
        for index, eager_epoch in eager_results.items():
            compiled_epoch = compiled_results[index]
            assert isinstance(eager_epoch, Epoch)
            assert isinstance(compiled_epoch, Epoch)
            assert compiled_epoch.step_losses == pytest.approx(eager_epoch.step_losses, rel=1e-4)


def test_a_stack_in_bfloat16_is_its_runs_alone_up_to_its_rounding(rows: Dataset) -> None:
    stacked, separate = ([member(rows, seed) for seed in (0, 1)] for _ in range(2))
    (results,) = train_together(stacked, batches(rows, 0), epochs=1, precision="bfloat16")
    for index, run in enumerate(separate):
        parts = run.model, run.objective, run.optimizer, batches(rows, run.seed)
        (expected,) = train(*parts, epochs=1, seed=run.seed, precision="bfloat16")
        result = results[index]
        assert isinstance(result, Epoch)
        assert result.step_losses == pytest.approx(expected.step_losses, rel=2e-3)


def test_runs_of_a_stack_may_differ_in_all_but_their_architecture(rows: Dataset) -> None:
    def runs() -> list[Member]:
        return [
            member(rows, 0, lr=1e-3),
            member(rows, 0, lr=1e-2, decay=0.5),
            member(rows, 5, beta=4.0),
            member(rows, 5, warmup_epochs=2),
            member(rows, 0, optimizer=torch.optim.SGD, lr=1e-3, beta=0.5, warmup_epochs=1.5),
        ]

    separate, stacked = runs(), runs()
    curves = [alone(rows, run) for run in separate]
    for epoch, results in enumerate(train_together(stacked, batches(rows, 0), epochs=3)):
        for index, curve in enumerate(curves):
            result = results[index]
            assert isinstance(result, Epoch)
            same(result, curve[epoch])


def test_penalties_are_weighed_run_by_run(rows: Dataset) -> None:
    def runs() -> list[Member]:
        members = [member(rows, seed) for seed in (0, 1)]
        for run, weight in zip(members, (0.5, 3.0), strict=True):
            run.objective.penalty, run.objective.penalty_weight = "ard", weight
        return members

    curves = [alone(rows, run, epochs=1) for run in runs()]
    (results,) = train_together(runs(), batches(rows, 0), epochs=1)
    for index, curve in enumerate(curves):
        result = results[index]
        assert isinstance(result, Epoch)
        same(result, curve[0])


def test_a_diverging_run_leaves_the_others_as_they_are(rows: Dataset) -> None:
    curves = [alone(rows, member(rows, seed)) for seed in (0, 2)]
    mixed = [member(rows, 0), member(rows, 1, lr=1e20), member(rows, 2)]
    results = list(train_together(mixed, batches(rows, 0), epochs=3))
    assert isinstance(results[0][1], DivergedError)
    assert str(results[0][1]).endswith("at epoch 1, step 2 of 3.")
    assert [sorted(epoch_results) for epoch_results in results] == [[0, 1, 2], [0, 2], [0, 2]]
    for epoch in range(3):
        for index, curve in ((0, curves[0]), (2, curves[1])):
            result = results[epoch][index]
            assert isinstance(result, Epoch)
            same(result, curve[epoch])


def test_a_run_that_is_no_longer_wanted_is_left_out(rows: Dataset) -> None:
    wanted = {0, 1}
    going = train_together(
        [member(rows, 0), member(rows, 1)], batches(rows, 0), epochs=9, going=lambda index: index in wanted
    )
    assert sorted(next(going)) == [0, 1]
    wanted.remove(0)
    assert [sorted(results) for results in islice(going, 2)] == [[1], [1]]
    wanted.clear()
    assert list(going) == []


def test_each_run_keeps_its_own_weights_as_a_view(rows: Dataset) -> None:
    models = [member(rows, seed).model for seed in (0, 1)]
    before = [model.pixels.weight.detach().clone() for model in models]
    stack = Stack(models)
    whole = stack.model.pixels.weight
    assert whole.shape == (2, rows.size, 16)
    assert all(
        torch.equal(model.pixels.weight, first_weights)
        for model, first_weights in zip(models, before, strict=True)
    )
    with torch.no_grad():
        whole[1] += 1
    assert torch.equal(models[1].pixels.weight, before[1] + 1)
    assert torch.equal(models[0].pixels.weight, before[0])


def test_stacked_layers_are_layers_side_by_side() -> None:
    layers = [nn.Linear(5, 4) for _ in range(3)]
    x = torch.randn(3, 7, 5)
    expected = torch.stack([layer(part) for layer, part in zip(layers, x, strict=True)])
    torch.testing.assert_close(StackedLinear(layers)(x), expected)
    bare = [nn.Linear(5, 4, bias=False) for _ in range(3)]
    expected = torch.stack([layer(part) for layer, part in zip(bare, x, strict=True)])
    torch.testing.assert_close(StackedLinear(bare)(x), expected)


@pytest.mark.parametrize("bias", [True, False])
def test_stacked_layers_can_be_differentiated_twice(bias: bool) -> None:
    layer = StackedLinear([nn.Linear(3, 2, bias=bias).double() for _ in range(2)])
    x = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    weights = [parameter.detach().requires_grad_() for parameter in layer.parameters()]

    def output(x: Tensor, *values: Tensor) -> Tensor:
        names = dict(zip(["weight", "bias"], values, strict=False))
        return torch.func.functional_call(layer, names, (x,))  # type: ignore[no-any-return]

    assert torch.autograd.gradgradcheck(output, (x, *weights))


def test_models_of_linear_layers_alone_can_be_stacked() -> None:
    assert stackable(VAE(9, latent_size=2, hidden_size=4))
    assert not stackable(nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)))
    assert not stackable(nn.Sequential(nn.Linear(3, 3), nn.PReLU()))
    assert not stackable(nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.1))), "its draws would be others"
    layer, other = nn.Linear(3, 3), nn.Linear(3, 3)
    activation = nn.ReLU()
    assert stackable(nn.Sequential(layer, activation, other, activation))
    assert not stackable(nn.Sequential(layer, nn.ReLU(), layer)), "the two places would move apart"
    other.weight = layer.weight
    assert not stackable(nn.Sequential(layer, nn.ReLU(), other)), "so would these"
    assert not stackable(nn.Sequential(nn.Linear(3, 3).requires_grad_(False))), "a stack would train it"
    assert not stackable(nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)))


@pytest.mark.parametrize("epochs_done", [0.0, 0.7, 5.0])
def test_merged_objectives_weigh_as_each_does(epochs_done: float) -> None:
    objectives = [
        Objective(likelihood("bernoulli"), 2.0, warmup_epochs=2),
        Objective(likelihood("bernoulli"), 0.5),
        Objective(likelihood("bernoulli"), 0.0, warmup_epochs=1),
    ]
    x, logits = torch.rand(3, 4, 6), torch.randn(3, 4, 6)
    posterior = Posterior(torch.randn(3, 4, 2), torch.randn(3, 4, 2))
    stacked_terms = stack_objectives(objectives, torch.device("cpu"))(
        logits, x, posterior, epochs_done=torch.tensor(epochs_done)
    )
    for index, objective in enumerate(objectives):
        terms = objective(
            logits[index], x[index], Posterior(*(part[index] for part in posterior)), epochs_done=epochs_done
        )
        torch.testing.assert_close(stacked_terms.loss[index], terms.loss)


@pytest.mark.parametrize(
    "optimizer",
    [torch.optim.Adam, torch.optim.AdamW, torch.optim.NAdam, torch.optim.RMSprop, torch.optim.Adagrad],
    ids=lambda optimizer: optimizer.__name__,
)
def test_the_state_of_every_optimizer_is_that_of_its_run_alone(
    rows: Dataset, optimizer: type[torch.optim.Optimizer]
) -> None:
    separate = [member(rows, seed, optimizer=optimizer, decay=0.9) for seed in (0, 1)]
    stacked = [member(rows, seed, optimizer=optimizer, decay=0.9) for seed in (0, 1)]
    for run in separate:
        alone(rows, run)
    for _ in train_together(stacked, batches(rows, 0), epochs=3):
        pass
    for stacked_run, separate_run in zip(stacked, separate, strict=True):
        actual, expected = stacked_run.optimizer.state_dict(), separate_run.optimizer.state_dict()
        assert actual["param_groups"] == expected["param_groups"]
        assert actual["state"].keys() == expected["state"].keys()
        for number, state in expected["state"].items():
            assert actual["state"][number].keys() == state.keys()
            for key, value in state.items():
                torch.testing.assert_close(actual["state"][number][key], value, rtol=1e-4, atol=1e-6)


def test_an_optimizer_of_a_stack_goes_on_from_the_states_of_its_runs(rows: Dataset) -> None:
    uninterrupted, resumed = ([member(rows, seed) for seed in (0, 1)] for _ in range(2))
    for _ in train_together(uninterrupted, batches(rows, 0), epochs=4):
        pass
    for _ in train_together(resumed, batches(rows, 0), epochs=2):
        pass
    for _ in train_together(resumed, batches(rows, 0), epochs=4, done=2):
        pass
    for resumed_run, uninterrupted_run in zip(resumed, uninterrupted, strict=True):
        torch.testing.assert_close(weights(resumed_run), weights(uninterrupted_run), rtol=1e-5, atol=1e-6)


def test_the_seconds_of_a_stack_count_what_its_optimizer_costs(
    rows: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    combine, pause = stacks._combined_optimizer, 0.2

    def slow(*arguments: Any) -> torch.optim.Optimizer | None:
        time.sleep(pause)
        return combine(*arguments)

    monkeypatch.setattr(stacks, "_combined_optimizer", slow)
    (results,) = train_together([member(rows, seed) for seed in (0, 1)], batches(rows, 0), epochs=1)
    epochs = [result for result in results.values() if isinstance(result, Epoch)]
    assert sum(epoch.seconds for epoch in epochs) >= pause
    assert epochs[0].seconds == epochs[1].seconds
    assert epochs[0].images_per_second == pytest.approx(len(rows.train) / epochs[0].seconds)
