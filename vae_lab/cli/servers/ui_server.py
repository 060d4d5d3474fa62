"""The process behind `vae-lab ui`: MLflow's server, which ends when the process that started it does."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

GRACE_SECONDS = 5.0  # to answer what was asked


def main() -> None:
    """Serves as `mlflow server` with these arguments would, until standard input ends."""
    threading.Thread(target=_end_with_starter, daemon=True).start()
    from mlflow.cli import cli

    cli(["server", *sys.argv[1:]], prog_name="mlflow")


def _end_with_starter() -> None:
    """Ends this process and its workers once nobody holds the other end of standard input.

    The system closes that end whatever ends its holder, SIGKILL included.
    """
    while os.read(0, 1):
        pass
    if os.name != "posix":
        os._exit(0)
    os.killpg(0, signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
