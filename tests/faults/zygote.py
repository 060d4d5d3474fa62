"""A process that has imported everything, and forks a child for each command: 10 ms in place of 5 s.

It reads a job a line from its standard input and answers with a line each. It starts no thread and opens no
store, so that a child is as good as a process of its own, and dies like one.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from tests.faults import injected

# Everything that a command imports when it needs it.
MODULES = (
    *("torch", "torch.nn.utils.parametrize", "torch.func", "torch.utils.data", "torchvision"),
    *("mlflow", "mlflow.artifacts", "mlflow.store.tracking.sqlalchemy_store", "mlflow.store.db_migrations"),
    *("mlflow.store.artifact.local_artifact_repo", "mlflow.store.tracking.rest_store"),
    *("mlflow.store.artifact.mlflow_artifacts_repo", "alembic.command", "sqlalchemy.dialects.sqlite"),
    *("sklearn.datasets", "pandas", "scipy.stats"),
    *("matplotlib.figure", "matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg"),
    *("PIL.PngImagePlugin", "PIL.WebPImagePlugin", "hydra", "hydra._internal.hydra", "rich.progress"),
    *("vae_lab.cli.train", "vae_lab.cli.compare", "vae_lab.cli.evaluate", "vae_lab.cli.sync"),
    *("vae_lab.jobs.lines.single", "vae_lab.jobs.lines.multirun", "vae_lab.jobs.crews.workers"),
    "vae_lab.tracking.store",
    *("vae_lab.jobs.search.running", "alembic.config", "optuna.storages"),
    *("vae_lab.tracking.backlog", "vae_lab.evaluation.classifier"),
)


def serve() -> None:
    """Answers jobs until the standard input ends."""
    # Under other numbers, so that a child's 0, 1 and 2 are its own.
    jobs, answers = os.fdopen(os.dup(0), "r"), os.fdopen(os.dup(1), "w")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(2, 1)  # what an import prints is no answer
    for name in MODULES:
        importlib.import_module(name)

    def answer(found: dict[str, Any]) -> None:
        answers.write(json.dumps(found) + "\n")
        answers.flush()

    answer({"threads": len(os.listdir("/proc/self/task"))})
    for line in jobs:
        job = json.loads(line)
        if "wait" in job:
            _, status = os.waitpid(job["wait"], 0)
            answer({"code": os.waitstatus_to_exitcode(status)})
            continue
        pid = os.fork()
        if pid == 0:
            jobs.close()
            answers.close()
            _become(job)
            return
        answer({"pid": pid, "threads": len(os.listdir("/proc/self/task"))})


def _become(job: dict[str, Any]) -> None:
    """Turns this child into the process of one command; it ends by an exception, as a command does."""
    os.setsid()
    for number in (1, 2):
        descriptor = os.open(job["printed"][number - 1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, number)
        os.close(descriptor)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):  # also where the tests were started to ignore one
        signal.signal(number, signal.SIG_DFL)
    os.chdir(job["folder"])
    os.environ.update(job["environment"])
    for each in job["faults"]:
        injected.arm(injected.Fault(*each))
    if job["count"]:
        injected.count([tuple(each) for each in job["count"]], Path(job["folder"]).parent / "calls.json")
    while time.monotonic() < job["at"]:
        time.sleep(max(0.0, min(0.01, job["at"] - time.monotonic())))
    arguments = job["arguments"]
    if arguments[0] == "-c":
        exec(arguments[1], {"__name__": "__main__"})
        sys.exit(0)
    from vae_lab.cli import main

    sys.argv = ["vae-lab", *arguments]
    main()


if __name__ == "__main__":
    serve()
