"""MLflow's environment variables that a run of the lab's does not follow: refused, or said once."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from vae_lab.errors import UserError, quoted

log = logging.getLogger(__name__)

RUN = "MLFLOW_RUN_ID"
UNHEEDED = {
    "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "is not followed; a run records its device, memory and time.",
}
_said: set[str] = set()  # variables of which this process has spoken


def check_environment(environment: Mapping[str, str]) -> None:
    """Says what of MLflow's variables is not followed.

    Raises:
        UserError: A variable asks for a run to be continued, which only the lab's own records can be.

    >>> check_environment({"MLFLOW_RUN_ID": "8c1f"})
    Traceback (most recent call last):
    vae_lab.errors.UserError: MLFLOW_RUN_ID=8c1f: would be ignored, since ...
    """
    if run_id := environment.get(RUN):
        raise UserError(
            f"{RUN}={quoted(run_id)}: would be ignored, since every run of the lab is one that it makes or "
            f"resumes itself; unset it, as in: env -u {RUN} vae-lab train ..."
        )
    for name, reason in UNHEEDED.items():
        if environment.get(name, "").lower() in ("true", "1") and name not in _said:
            _said.add(name)
            log.warning(f"{name}: {reason}")
