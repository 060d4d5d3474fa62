import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

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


def formats() -> set[str]:
    """Of products, convolutions and recurrent layers in float32 on CUDA; the flags can be set without one."""
    cudnn: Any = torch.backends.cudnn
    products = torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn
    return {product.fp32_precision for product in products}


def test_convolutions_and_recurrent_layers_have_the_format_of_products() -> None:
    before = formats()
    cudnn: Any = torch.backends.cudnn
    assert cudnn.conv.fp32_precision == "tf32", "PyTorch shortens them unless it is told not to"
    for precision, format in (("float32", "ieee"), ("bfloat16", "ieee"), ("tf32", "tf32")):
        with devices.float32_products(precision, torch.device("cuda")):
            assert formats() == {format}
            assert cudnn.allow_tf32 == (format == "tf32"), "readers of the older flag"
    assert formats() == before
    assert cudnn.allow_tf32


def test_threads_of_two_formats_on_cuda_take_turns() -> None:
    before, exact, leave_exact = formats(), threading.Event(), threading.Event()
    cuda = torch.device("cuda")

    def float32_thread() -> set[str]:
        with devices.float32_products("float32", cuda):
            exact.set()
            assert leave_exact.wait(9)
            return formats()

    with ThreadPoolExecutor() as threads:
        with devices.float32_products("tf32", cuda):
            measured = threads.submit(float32_thread)
            assert not exact.wait(0.1)
            assert formats() == {"tf32"}
        assert exact.wait(9)
        assert formats() == {"ieee"}
        leave_exact.set()
        assert measured.result() == {"ieee"}
    assert formats() == before


def test_threads_of_one_format_run_side_by_side_until_another_has_asked() -> None:
    both, order = threading.Barrier(3), list[str]()
    cuda = torch.device("cuda")

    def first_two() -> None:
        with devices.float32_products("tf32", cuda):
            both.wait(9)
            both.wait(9)

    def later(precision: str) -> None:
        with devices.float32_products(precision, cuda):
            order.append(precision)

    with ThreadPoolExecutor() as threads:
        running = [threads.submit(first_two) for _ in range(2)]
        both.wait(9)
        for precision in ("float32", "tf32"):
            running.append(threads.submit(later, precision))
            while len(devices._products._waiting) < len(running) - 2:
                pass
        assert not order, "the fourth would overtake the third for ever"
        both.wait(9)
        for thread in running:
            thread.result(9)
    assert order == ["float32", "tf32"]


def test_a_block_inside_another_waits_for_no_thread_that_waits_for_it() -> None:
    both, cuda = threading.Barrier(2), torch.device("cuda")

    def nested() -> list[set[str]]:
        with devices.float32_products("tf32", cuda):
            both.wait(9)
            with devices.float32_products("float32", cuda), devices.float32_products("float32", cuda):
                exact = formats()
            return [exact, formats()]

    with ThreadPoolExecutor() as threads:
        for thread in [threads.submit(nested) for _ in range(2)]:
            assert thread.result(9) == [{"ieee"}, {"tf32"}]


def test_threads_of_two_formats_on_a_cpu_run_at_once() -> None:
    both = threading.Barrier(2)

    def block(precision: str) -> None:
        with devices.float32_products(precision, torch.device("cpu")):
            both.wait(9)

    with ThreadPoolExecutor() as threads:
        list(threads.map(block, ["tf32", "float32"]))


def test_description_names_the_threads_of_a_cpu() -> None:
    assert devices.describe(torch.device("cpu")) == f"cpu ({torch.get_num_threads()} threads)"
