"""Devices and number formats, checked against what the machine has."""

from __future__ import annotations

import ctypes
import functools
import platform
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import torch

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


@contextmanager
def float32_products(precision: str, device: torch.device) -> Iterator[None]:
    """Multiplies matrices of float32 on CUDA with shortened factors in the block if `precision` is `tf32`.

    Forward and backward passes are both in the block; what is measured is outside, in float32.
    """
    if device.type != "cuda":
        yield
        return
    products = torch.backends.cuda.matmul
    before = products.fp32_precision
    products.fp32_precision = "tf32" if precision == "tf32" else "ieee"
    try:
        yield
    finally:
        products.fp32_precision = before


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Returns the context in which a forward pass runs in `precision`.

    `bfloat16` runs matrix products in that format, but for those of `models.Float32Linear`, and keeps
    weights, losses and the optimizer in float32; the others change nothing here, see `float32_products`.
    """
    if precision == "bfloat16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()
