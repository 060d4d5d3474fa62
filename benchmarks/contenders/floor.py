"""The machine's own limit: seconds that an epoch's matrix products would need at its peak rate."""

from __future__ import annotations

import argparse
import time

import torch

from benchmarks.contenders.turns import Turns

SIZE = 1536  # rows and columns: large enough for the peak, small enough for the caches


def sgemm_peak(seconds: float, device: str) -> float:
    """Returns the best rate of float32 matrix products within `seconds`, in operations a second."""
    a, b, out = (torch.randn(SIZE, SIZE, device=device) for _ in range(3))
    products = 1 if device == "cpu" else 100  # a GPU is asked in batches: waiting for it takes time too
    best, end = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        for _ in range(products):
            torch.mm(a, b, out=out)
        if device != "cpu":
            torch.cuda.synchronize()
        best = max(best, 2.0 * SIZE**3 * products / (time.perf_counter() - start))
    return best


def main() -> None:
    """Measures the peak anew in every turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=float, required=True, help="operations of one epoch")
    parser.add_argument("--device", default="cpu")
    chosen = parser.parse_args()
    turns = Turns()
    turns.ready()
    while True:
        turns.wait()
        turns.done(chosen.work / sgemm_peak(1.5, chosen.device))


if __name__ == "__main__":
    main()
