"""A contender's side of the pipe: it waits for its turn, and reports how long an epoch took."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Turns:
    """Reads a line for every turn, and writes the seconds of every epoch.

    Libraries print to standard error instead, so that nothing else gets into the pipe.
    """

    def __init__(self) -> None:
        self._pipe = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        self._begin = 0.0

    def ready(self) -> None:
        """Reports that everything is loaded."""
        self._report({"threads": torch.get_num_threads(), "imports_lab": "vae_lab" in sys.modules})

    def wait(self) -> None:
        """Returns when it is this contender's turn; ends the program when there is none any more."""
        if not sys.stdin.readline():
            raise SystemExit(0)
        self._begin = time.perf_counter()

    def done(self, seconds: float | None = None) -> None:
        """Ends the turn; its epoch took `seconds`, by default all of the turn."""
        self._report({"seconds": time.perf_counter() - self._begin if seconds is None else seconds})

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Waits for a turn and measures the whole block."""
        self.wait()
        yield
        self.done()

    def _report(self, facts: dict[str, object]) -> None:
        print(json.dumps(facts), file=self._pipe, flush=True)


def options(description: str | None) -> argparse.Namespace:
    """Returns the options of every contender: the images, the model, the batch size and the device."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", required=True, help="folder of MNIST's four IDX files")
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--hidden", type=int, default=400)
    parser.add_argument("--latent", type=int, default=15)
    parser.add_argument("--classes", type=int, default=0, help="size of the condition; 0 for a VAE")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()
