"""What MLflow's environment variables ask of a record: done, or refused and named."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mlflow.exceptions import MlflowException

from vae_lab.errors import UserError, quoted
from vae_lab.tracking.address import store_name

if TYPE_CHECKING:
    from vae_lab.tracking.store import Store

log = logging.getLogger(__name__)

EXPERIMENT = "vae_lab"  # that holds the runs if nothing names another
NAME, NUMBER = "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"


def experiment_name(store: Store, given: str | None, environment: Mapping[str, str] = os.environ) -> str:
    """Returns the name of the experiment that holds new runs.

    Args:
        store: Where it is.
        given: The config's `tracking.experiment`.
        environment: Variables, of which MLflow's name it if the config does not.

    Raises:
        UserError: The variables name none of the store's, or two.
    """
    if given is not None:
        return given
    name, number = environment.get(NAME), environment.get(NUMBER)
    if not number:
        return name or EXPERIMENT
    try:
        numbered: str = store.ask(lambda: store.client.get_experiment(number)).name
    except MlflowException:
        raise UserError(
            f"{NUMBER}={quoted(number)}: no such experiment in {store_name(store.uri)}."
        ) from None
    if name and name != numbered:
        raise UserError(
            f"{NUMBER}={quoted(number)}: is the experiment {quoted(numbered)}, and {NAME} names "
            f"{quoted(name)}; unset one of them."
        )
    return numbered
