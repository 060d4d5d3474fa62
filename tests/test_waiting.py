"""No step of training waits for the device: it reads no number from it, and copies nothing to or from it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from vae_lab import stacks, training
from vae_lab.data import Batches, Dataset
from vae_lab.models import VAE
from vae_lab.objectives import Objective, likelihood

READ = {torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero, torch.ops.aten.masked_select}
METHODS = ("item", "tolist", "numpy", "cpu", "nonzero", "__bool__", "__int__", "__float__", "__index__")


class WaitedError(AssertionError):
    """A step read a number from the device."""


class NoWait(TorchDispatchMode):
    """Raises at what makes a program wait for its device."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        masks = func.overloadpacket is torch.ops.aten.index and any(
            index is not None and index.dtype is torch.bool for index in args[1]
        )
        if masks or func.overloadpacket in READ:
            raise WaitedError(f"a step calls {func}")
        result = func(*args, **(kwargs or {}))
        tensors = [value for value in (*args, result) if isinstance(value, Tensor) and value.ndim]
        if len({tensor.device for tensor in tensors}) > 1:
            raise WaitedError(f"a step copies from one device to another: {func}")
        return result


@contextmanager
def no_wait() -> Iterator[None]:
    """Raises at such calls inside the block, also at those that a CPU answers without an operation."""

    def refuse(name: str) -> Callable[..., object]:
        def refused(*_: object, **__: object) -> object:
            raise WaitedError(f"a step calls Tensor.{name}")

        return refused

    with pytest.MonkeyPatch.context() as patch, NoWait():
        for name in METHODS:
            patch.setattr(Tensor, name, refuse(name))
        yield


class Watched(Batches):
    """Minibatches between which nothing may wait."""

    def __call__(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        batches = super().__call__(epoch)
        first = next(batches)
        with no_wait():
            yield first
            yield from batches

    def with_seed(self, seed: Any) -> Batches:
        return Watched(self.images, batch_size=self.batch_size, C=self.C, seed=seed, dynamic=self.dynamic)


def member(data: Dataset, seed: int, lr: float = 1e-3) -> stacks.Member:
    model = VAE(data.size, 3, latent_size=2, layers=2, hidden_size=16).to(data.train.pixels.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, fused=True)
    objective = Objective(
        likelihood("bernoulli"), beta=2.0, warmup_epochs=1.5, penalty="ard", penalty_weight=0.1
    )
    return stacks.Member(model, objective, optimizer, None, seed)


@pytest.mark.parametrize("by_hand", [True, False], ids=["by hand", "by autograd"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("runs", ["one run", "a stack", "a stack of different rates"])
def test_no_step_waits_for_the_device(
    rows: Dataset, runs: str, precision: str, by_hand: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not by_hand:
        monkeypatch.setattr(training, "updated_in_backward", lambda *pair: nullcontext(pair[:2]))
    batches = Watched(rows.train, batch_size=36, C=3, seed=0)
    first = member(rows, 0)
    if runs == "one run":
        parts = first.model, first.objective, first.optimizer, batches
        assert len(list(training.train(*parts, epochs=2, seed=0, precision=precision))) == 2
        return
    members = [first, member(rows, 1, lr=1e-3 if runs == "a stack" else 1e-2)]
    epochs = list(stacks.train_together(members, batches, epochs=2, precision=precision))
    assert all(isinstance(result, training.Epoch) for results in epochs for result in results.values())


@pytest.mark.parametrize(
    "waiting",
    [
        lambda x: x.sum().item(),
        lambda x: float(x.sum()),
        lambda x: bool(x.any()),
        lambda x: x.nonzero(),
        lambda x: x[x > 0.5],
        lambda x: x.tolist(),
        lambda x: x.cpu(),
        lambda x: x.to("meta"),
    ],
)
def test_what_waits_is_noticed(rows: Dataset, waiting: Callable[[Tensor], object]) -> None:
    class Waiting(Objective):
        def __call__(self, logits: Tensor, *arguments: Any, **named: Any) -> Any:
            waiting(logits.detach())
            return super().__call__(logits, *arguments, **named)

    run = member(rows, 0)
    objective = Waiting(likelihood("bernoulli"))
    batches = Watched(rows.train, batch_size=36, C=3, seed=0)
    with pytest.raises(WaitedError):
        list(training.train(run.model, objective, run.optimizer, batches, epochs=1, seed=0))
