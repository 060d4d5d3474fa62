"""Devices and number formats, checked against what the machine has."""

from __future__ import annotations

import ctypes
import functools
import platform
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch
from torch import nn

from vae_lab.errors import UserError

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
NEVER, LARGE = 2**31 - 1, 2**30  # bytes


def available() -> list[str]:
    """Returns the names that `train.device` accepts on this machine."""
    names = ["cpu"]
    if torch.cuda.is_available():
        names += ["cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        names.append("mps")
    return names


def resolve(name: str, key: str = "train.device") -> torch.device:
    """Returns the device of that name; `auto` is CUDA, then MPS, then the CPU.

    Raises:
        UserError: This machine has no such device; `key` is what named it.

    Examples:
        >>> resolve("cpu")
        device(type='cpu')
    """
    names = available()
    if name == "auto":
        name = next(choice for choice in ("cuda", "mps", "cpu") if choice in names)
    if name not in names:
        raise UserError(
            f"{key}={name}: this machine has no such device. Valid here: auto, {', '.join(names)}."
        )
    return torch.device(name)


def describe(device: torch.device) -> str:
    """Returns the device in words: `cpu (2 threads)` or `cuda (NVIDIA H100)`."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    if device.type == "cpu":
        return f"cpu ({torch.get_num_threads()} threads)"
    return str(device)


@functools.cache
def keep_freed_memory() -> bool:
    """Makes this process keep freed memory for its next tensors; returns whether the C library can do that.

    By default glibc returns large blocks to the system as soon as they are freed, and every step of training
    then pays thousands of page faults to get the same memory again. Other C libraries have no such setting.
    """
    library = ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
    if library is None:
        return False
    accepted = library.mallopt(M_TRIM_THRESHOLD, NEVER), library.mallopt(M_MMAP_THRESHOLD, LARGE)
    return all(accepted)


def faster_precisions(device: torch.device) -> list[str]:
    """Returns the formats below float32 that this device's hardware multiplies matrices in, finest first."""
    if device.type == "cuda":
        modern = torch.cuda.get_device_capability(device) >= (8, 0)
        return ["tf32", "bfloat16"] if modern else []
    if device.type == "cpu" and {"amx_bf16", "avx512_bf16"} & _cpu_flags():
        return ["bfloat16"]
    return []


@functools.cache
def _cpu_flags() -> frozenset[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.split() for line in lines if line.startswith("flags")), []))


def check_precision(precision: str, device: torch.device) -> None:
    """Raises a UserError if the device cannot compute in `precision`."""
    if precision == "tf32" and device.type != "cuda":
        raise UserError(
            f"train.precision=tf32: needs a CUDA device, not {device}. Valid here: auto, float32, bfloat16."
        )


class _Products:
    """The format in which CUDA multiplies and convolves float32, of which a process has one for all threads.

    Blocks of one format run side by side. Those of another wait for their end, and all have their turn in the
    order in which they came.
    """

    def __init__(self) -> None:
        self._turns = threading.Condition()
        self._waiting: list[int] = []  # threads
        self._running = 0  # blocks, all of one format
        self._format = ""  # theirs
        self._before: tuple[str, ...] = ()  # the flags outside of all blocks
        self._here = threading.local()  # the format of this thread's block

    @contextmanager
    def in_format(self, format: str) -> Iterator[None]:
        outer = getattr(self._here, "format", "")
        if format == outer:
            yield
            return
        if outer:
            self._end()  # two threads that wait inside their blocks would wait for each other
        try:
            self._begin(format)
            try:
                yield
            finally:
                self._end()
        finally:
            if outer:
                self._begin(outer)

    def _begin(self, format: str) -> None:
        thread = threading.get_ident()
        with self._turns:
            self._waiting.append(thread)
            try:
                self._turns.wait_for(lambda: self._waiting[0] == thread and self._admits(format))
                if not self._running:
                    self._format, self._before = format, _product_formats()
                    _set_product_formats(format, format, format)
                self._running += 1
            finally:
                self._waiting.remove(thread)
                self._turns.notify_all()
        self._here.format = format

    def _admits(self, format: str) -> bool:
        return not self._running or format == self._format

    def _end(self) -> None:
        self._here.format = ""
        with self._turns:
            self._running -= 1
            if not self._running:
                _set_product_formats(*self._before)
            self._turns.notify_all()


_products = _Products()


def _product_formats() -> tuple[str, str, str]:
    cudnn: Any = torch.backends.cudnn  # mypy does not see its parts
    return torch.backends.cuda.matmul.fp32_precision, cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision


def _set_product_formats(matmul: str, conv: str, rnn: str) -> None:
    cudnn: Any = torch.backends.cudnn
    # PyTorch's older flag first: setting it sets the newer two, and where they disagree reading it raises.
    cudnn.allow_tf32 = conv == "tf32"
    cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision = conv, rnn
    torch.backends.cuda.matmul.fp32_precision = matmul


def float32_products(precision: str, device: torch.device) -> AbstractContextManager[None]:
    """Returns the context in which CUDA shortens the factors of float32 if `precision` is `tf32`, else not.

    That is so in products of matrices, in convolutions and in recurrent layers. Forward and backward passes
    are both in the block. Threads whose formats differ take turns; on other devices nothing changes.
    """
    if device.type != "cuda":
        return nullcontext()
    return _products.in_format("tf32" if precision == "tf32" else "ieee")


Model = TypeVar("Model", bound=nn.Module)
Arguments = ParamSpec("Arguments")
Measure = TypeVar("Measure")


def in_float32(
    measure: Callable[Concatenate[Model, Arguments], Measure],
) -> Callable[Concatenate[Model, Arguments], Measure]:
    """Returns a function of a model that computes in float32, whatever other threads train in.

    PyTorch itself shortens the factors of convolutions on CUDA unless it is told not to.
    """

    @functools.wraps(measure)
    def measured(model: Model, /, *arguments: Arguments.args, **options: Arguments.kwargs) -> Measure:
        weights = next(model.parameters(), None)
        with nullcontext() if weights is None else float32_products("float32", weights.device):
            return measure(model, *arguments, **options)

    return measured


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Returns the context in which a forward pass runs in `precision`.

    `bfloat16` runs matrix products in that format, but for those of `models.Float32Linear`, and keeps
    weights, losses and the optimizer in float32; the others change nothing here, see `float32_products`.
    """
    if precision == "bfloat16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()
