import pytest
import torch

from vae_lab import devices
from vae_lab.errors import UserError


def test_auto_takes_the_best_device_there_is() -> None:
    best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert devices.resolve("auto").type == best


def test_absent_device_is_named_with_those_that_are_there() -> None:
    with pytest.raises(UserError, match=r"train.device=cuda:99: .* Valid here: auto, cpu"):
        devices.resolve("cuda:99")


def test_tf32_needs_cuda() -> None:
    with pytest.raises(UserError, match="tf32"):
        devices.check_precision("tf32", torch.device("cpu"))


def test_bfloat16_context_computes_products_in_bfloat16(device: torch.device) -> None:
    a = torch.ones(2, 2, device=device)
    with devices.autocast("bfloat16", device):
        assert (a @ a).dtype == torch.bfloat16
    with devices.autocast("float32", device):
        assert (a @ a).dtype == torch.float32


def test_shortened_factors_are_for_training_alone() -> None:
    cuda, products = torch.device("cuda"), torch.backends.cuda.matmul
    before = products.fp32_precision
    with devices.float32_products("tf32", cuda):
        assert products.fp32_precision == "tf32"
        with devices.float32_products("float32", cuda):
            assert products.fp32_precision == "ieee"
        assert products.fp32_precision == "tf32"
    assert products.fp32_precision == before, "held-out measures are taken in float32"


def test_description_names_the_threads_of_a_cpu() -> None:
    assert devices.describe(torch.device("cpu")) == f"cpu ({torch.get_num_threads()} threads)"
