"""What a GPU would refuse, found without one: tensors that have a device and no values, and whole graphs."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.test_waiting import member
from vae_lab import seeding, stacks, training
from vae_lab.data import Batches, Dataset
from vae_lab.data.batches import Images
from vae_lab.models import VAE
from vae_lab.objectives import PENALTIES, Objective, likelihood

CUDA = torch.device("cuda")


@pytest.fixture
def on_cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tensors have no values here; an operation on two devices, or one that reads values, raises."""

    def generators(seed: int | list[int], *_: object, **__: object) -> list[None]:  # CUDA's need a GPU
        return [None] * (1 if isinstance(seed, int) else len(seed))

    monkeypatch.setattr(seeding, "generators", generators)
    with FakeTensorMode():
        yield


def images(count: int = 96) -> Images:
    """Images of 4 x 4 pixels on the GPU."""
    pixels = torch.empty(count, 16, dtype=torch.uint8, device=CUDA)
    return Images(pixels, torch.empty(count, dtype=torch.int64, device=CUDA), 255)


def model_on_cuda(C: int) -> VAE:
    with CUDA:
        return VAE(16, C, latent_size=2, layers=2, hidden_size=8)


def step(trainer: training.Trainer, optimizer: Any, seed: int | list[int]) -> Tensor:
    """What an epoch's first step does, without the backward pass, for which the engine wants a GPU."""
    x, c = next(trainer.batches(1))
    shape = trainer.objective.noise_shape(len(trainer.batches.images), trainer.model.latent_size)
    noises = seeding.draw_for_each_seed(
        seed, lambda generator: torch.randn(shape, generator=generator, device=CUDA), device=CUDA
    )
    progress = torch.arange(len(trainer.batches), device=CUDA) / len(trainer.batches)
    noise = torch.split(noises, trainer.batches.batch_size, dim=-2)[0]
    terms = trainer._terms(trainer.model, x, c, noise, progress[0])
    for parameter in trainer.model.parameters():
        parameter.grad = torch.empty_like(parameter)
    optimizer.step()
    return training.mean_terms(terms)


@pytest.mark.parametrize("C", [0, 3])
@pytest.mark.parametrize("name", ["bernoulli", "continuous_bernoulli", "gaussian"])
@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.usefixtures("on_cuda")
def test_a_step_on_cuda_mixes_no_devices(name: str, penalty: str, C: int) -> None:
    model = model_on_cuda(C)
    objective = Objective(likelihood(name), beta=2.0, warmup_epochs=1.5, penalty=penalty, penalty_weight=0.1)
    batches = Batches(images(), batch_size=36, C=C, seed=0, dynamic=name == "bernoulli")
    trainer = training.Trainer(model, objective, batches, precision="float32", compiled=False)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    assert step(trainer, optimizer, 0).device.type == "cuda"


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")  # by copy.deepcopy
@pytest.mark.parametrize("rates", [(1e-3, 1e-3), (1e-3, 1e-2)], ids=["one optimizer", "two"])
@pytest.mark.usefixtures("on_cuda")
def test_a_step_of_a_stack_on_cuda_mixes_no_devices(rates: tuple[float, float]) -> None:
    members = []
    for seed, rate in enumerate(rates):
        model = model_on_cuda(3)
        objective = Objective(likelihood("bernoulli"), penalty="ard", penalty_weight=0.1)
        optimizer = torch.optim.Adam(model.parameters(), lr=rate, fused=True)
        members.append(stacks.Member(model, objective, optimizer, None, seed))
    stack = stacks.Stack([one.model for one in members])
    batches = Batches(images(), batch_size=36, C=3, seed=0)
    trainer = stacks._stack_trainer(stack, members, batches, precision="float32", compiled=False)
    with stacks._epoch_optimizer(stack, members) as stepping:
        terms = step(trainer, stepping, [0, 1])
    assert (terms.device.type, tuple(terms.shape)) == ("cuda", (3, 2))


@pytest.mark.usefixtures("on_cuda")
def test_a_constant_left_on_the_cpu_is_noticed() -> None:
    with pytest.raises(RuntimeError, match="device"):
        torch.empty(3, device=CUDA) + torch.empty(3)


@pytest.mark.filterwarnings("default")  # torch.compile's own
@pytest.mark.parametrize("runs", [1, 2])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_compiled_step_is_one_graph(
    rows: Dataset, runs: int, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph that breaks would be several of CUDA, with Python and launches between them."""
    compile_, asked = torch.compile, []

    def whole(function: Any, *, mode: str) -> Any:
        asked.append(mode)
        return compile_(function, fullgraph=True, backend="aot_eager")

    monkeypatch.setattr(torch, "compile", whole)
    members = [member(rows, seed) for seed in range(runs)]
    batches = Batches(rows.train, batch_size=36, C=3, seed=0)
    options: dict[str, Any] = {"epochs": 2, "precision": precision, "compiled": True}
    if runs == 1:
        epochs: list[Any] = list(training.train(*members[0][:3], batches, seed=0, **options))
    else:
        epochs = list(stacks.train_together(members, batches, **options))
    assert asked == ["reduce-overhead"]
    assert len(epochs) == 2
