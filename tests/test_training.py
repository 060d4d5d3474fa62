import shutil
from itertools import islice

import pytest
import torch
from torch import Tensor, nn

from vae_lab import seeding
from vae_lab.data import Batches, Dataset
from vae_lab.models import VAE, is_stochastic
from vae_lab.objectives import Objective, likelihood
from vae_lab.training import DivergedError, Epoch, train


def trained(
    data: Dataset,
    *,
    epochs: int = 3,
    seed: int = 0,
    lr: float = 1e-2,
    C: int = 0,
    precision: str = "float32",
    compiled: bool = False,
    warmup_epochs: float = 0,
) -> tuple[VAE, list[Epoch]]:
    device = data.train.pixels.device
    with seeding.global_generator(seed, "weights"):
        model = VAE(data.size, C, latent_size=2, layers=2, hidden_size=16)
    model.to(device)
    batches = Batches(data.train, batch_size=36, C=C, seed=seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    objective = Objective(likelihood("bernoulli"), warmup_epochs=warmup_epochs)
    run = train(
        model,
        objective,
        optimizer,
        batches,
        epochs=epochs,
        seed=seed,
        precision=precision,
        compiled=compiled,
    )
    return model, list(run)


def test_one_seed_gives_bit_identical_curves_and_weights(rows: Dataset) -> None:
    (model, first), (again, second) = trained(rows), trained(rows)
    timeless = [[epoch._replace(seconds=0, images_per_second=0) for epoch in run] for run in (first, second)]
    assert timeless[0] == timeless[1]
    assert all(map(torch.equal, model.state_dict().values(), again.state_dict().values()))


def test_the_global_generator_plays_no_part(rows: Dataset) -> None:
    torch.manual_seed(1)
    _, first = trained(rows)
    torch.manual_seed(2)
    _, second = trained(rows)
    assert [epoch.loss for epoch in first] == [epoch.loss for epoch in second]


class Noisy(VAE):
    """A VAE that drops a half of what it hands to the decoder."""

    def __init__(self, data_size: int) -> None:
        super().__init__(data_size, latent_size=4, layers=1, hidden_size=16)
        self.drop = nn.Dropout(0.5)

    def logits(self, z: Tensor, c: Tensor) -> Tensor:
        return super().logits(self.drop(z), c)


class Drawing(VAE):
    """A VAE that says that it draws."""

    draws = True


def noisy(data: Dataset) -> tuple[Noisy, torch.optim.Optimizer, Batches]:
    with seeding.global_generator(0, "weights"):
        model = Noisy(data.size)
    model.to(data.train.pixels.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    return model, optimizer, Batches(data.train, batch_size=36, C=0, seed=0)


def test_a_model_that_draws_is_the_same_again_and_after_going_on(rows: Dataset) -> None:
    final_weights: list[torch.Tensor] = []
    for number, parts in enumerate([(3,), (3,), (1, 3)]):
        torch.manual_seed(number)
        model, optimizer, batches = noisy(rows)
        done = 0
        for epochs in parts:  # a process that goes on starts with another state of the global generator
            torch.rand(number + 1)
            loss = Objective(likelihood("bernoulli"))
            for _ in train(model, loss, optimizer, batches, epochs=epochs, seed=0, done=done):
                pass
            done = epochs
        final_weights.append(torch.cat([weights.detach().flatten() for weights in model.parameters()]))
    assert torch.equal(final_weights[0], final_weights[1])
    assert torch.equal(final_weights[0], final_weights[2])


def test_a_model_that_draws_says_so_or_is_seen_to(rows: Dataset) -> None:
    model, *_ = noisy(rows)
    assert is_stochastic(model)
    assert not is_stochastic(VAE(4))
    assert is_stochastic(Drawing(4))


def test_another_seed_gives_another_curve(rows: Dataset) -> None:
    assert trained(rows, seed=0)[1][0].loss != trained(rows, seed=1)[1][0].loss


@pytest.mark.parametrize("C", [0, 3])
def test_training_lowers_the_loss(rows: Dataset, C: int) -> None:
    _, epochs = trained(rows, epochs=15, C=C)
    assert epochs[-1].loss < 0.9 * epochs[0].loss


def test_a_record_holds_the_means_over_images_and_the_last_minibatch(rows: Dataset) -> None:
    _, (epoch,) = trained(rows, epochs=1)
    sizes = torch.tensor([36.0, 36.0, 24.0], dtype=torch.float64)
    steps = torch.tensor(epoch.step_losses, dtype=torch.float64)
    assert epoch.loss == pytest.approx(float((sizes * steps).sum() / 96))
    assert epoch.last_minibatch_loss == epoch.step_losses[-1]
    assert epoch.loss == pytest.approx(epoch.reconstruction + epoch.kl)
    assert (epoch.number, epoch.learning_rate) == (1, 1e-2)
    assert epoch.images_per_second == pytest.approx(96 / epoch.seconds)


def test_stopping_early_leaves_the_first_epochs_as_they_are(rows: Dataset) -> None:
    model = VAE(rows.size, latent_size=2, hidden_size=8).to(rows.train.pixels.device)
    batches = Batches(rows.train, batch_size=36, C=0, seed=0)
    optimizer = torch.optim.Adam(model.parameters())
    epochs = train(model, Objective(likelihood("bernoulli")), optimizer, batches, epochs=1000, seed=0)
    assert [epoch.number for epoch in islice(epochs, 2)] == [1, 2]


def test_the_schedule_takes_a_step_an_epoch(rows: Dataset) -> None:
    model = VAE(rows.size, latent_size=2, hidden_size=8).to(rows.train.pixels.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0e-3)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.1)
    batches = Batches(rows.train, batch_size=36, C=0, seed=0)
    run = train(
        model, Objective(likelihood("bernoulli")), optimizer, batches, epochs=3, seed=0, scheduler=schedule
    )
    assert [epoch.learning_rate for epoch in run] == pytest.approx([1e-3, 1e-4, 1e-5])


def test_divergence_is_raised_with_epoch_step_and_term(rows: Dataset) -> None:
    with pytest.raises(
        DivergedError, match=r"(reconstruction|kl|loss) is (NaN|infinite) at epoch 1, step 2 of 3"
    ):
        trained(rows, lr=1e20)


def test_bfloat16_ends_near_float32(rows: Dataset) -> None:
    exact, short = trained(rows, epochs=10)[1][-1], trained(rows, epochs=10, precision="bfloat16")[1][-1]
    assert short.loss == pytest.approx(exact.loss, rel=0.05)
    assert short.loss != exact.loss


@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler here")
@pytest.mark.filterwarnings("default")  # torch.compile's own
@pytest.mark.timeout(600)
def test_a_compiled_run_equals_an_eager_one_up_to_rounding(rows: Dataset) -> None:
    eager, compiled = (
        trained(rows, epochs=2, C=3, warmup_epochs=1.5, compiled=compiled)[1] for compiled in (False, True)
    )
    for eager_epoch, compiled_epoch in zip(eager, compiled, strict=True):
        assert compiled_epoch.step_losses == pytest.approx(eager_epoch.step_losses, rel=1e-4)
