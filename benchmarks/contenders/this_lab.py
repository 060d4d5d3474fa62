"""The command `vae-lab train`, unchanged except that it waits for its turn before every epoch."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vae_lab.cli import main as vae_lab  # first, as the command does: it sets what OpenMP reads

MANY = 10_000  # epochs; nobody waits for the last


def hold_up() -> None:
    """Lets the training loop wait for a turn before every epoch.

    A turn ends when the lab asks for its next epoch, after evaluation and logging, so that these do not run
    in another contender's turn; its seconds are those of training alone, as the lab records them.
    """
    from benchmarks.contenders.turns import Turns
    from vae_lab import training

    turns, train = Turns(), training.train

    def in_turns(*arguments: Any, **named: Any) -> Iterator[training.Epoch]:
        epochs = train(*arguments, **named)
        turns.ready()
        while True:
            turns.wait()
            epoch = next(epochs)
            yield epoch
            turns.done(epoch.seconds)

    training.train = in_turns


def main() -> None:
    """Runs `vae-lab train ARGUMENTS` in a store that is thrown away."""
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["XDG_STATE_HOME"] = str(Path(scratch) / "state")  # checkpoints and spools go with it
        store = f"tracking.uri=sqlite:///{Path(scratch) / 'mlflow.db'}"
        sys.argv = ["vae-lab", "train", *sys.argv[1:], f"train.epochs={MANY}", store]
        hold_up()
        vae_lab()


if __name__ == "__main__":
    main()
