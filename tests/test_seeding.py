import threading
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from vae_lab import seeding


def test_generators_of_one_name_agree_and_of_other_names_differ(device: torch.device) -> None:
    def draw(*name: str | int, seed: int = 0) -> torch.Tensor:
        return torch.randn(4, generator=seeding.generator(seed, *name, device=device), device=device)

    assert torch.equal(draw("shuffle", 1), draw("shuffle", 1))
    others = [draw("shuffle", 2), draw("posterior", 1), draw("shuffle", 1, seed=1), draw("shuffle")]
    assert not any(torch.equal(draw("shuffle", 1), other) for other in others)


def test_global_generator_fixes_layers_and_leaves_no_trace() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    with seeding.global_generator(0, "weights"):
        first = nn.Linear(3, 2).weight
    with seeding.global_generator(0, "weights"):
        second = nn.Linear(3, 2).weight
    assert torch.equal(first, second)
    assert torch.equal(torch.rand(3), expected)


def test_models_built_in_threads_have_the_weights_of_models_built_alone() -> None:
    def build(seed: int) -> torch.Tensor:
        with seeding.global_generator(seed, "weights"):
            return torch.cat([nn.Linear(20, 20).weight.flatten() for _ in range(20)])

    alone = [build(seed) for seed in range(8)]
    together: dict[int, torch.Tensor] = {}
    threads = [threading.Thread(target=lambda s=seed: together.update({s: build(s)})) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(alone[seed], together[seed]) for seed in range(8))


def test_equal_numbers_of_any_kind_are_one_seed() -> None:
    seeds: list[Any] = [np.int64(1), np.uint8(1), torch.tensor(1), True]
    assert {seeding.derive_seed(seed, "shuffle") for seed in seeds} == {seeding.derive_seed(1, "shuffle")}
    assert seeding.derive_seed(0, "shuffle", 1) == 955032806499468100
    for seed in (None, "1", 1.0):
        with pytest.raises(TypeError):
            seeding.derive_seed(seed, "shuffle")  # type: ignore[arg-type]
