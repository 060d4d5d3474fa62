"""What MLflow's environment variables ask of a record: done, or refused and named."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mlflow.exceptions import MlflowException

from vae_lab.errors import UserError, quoted
from vae_lab.tracking.address import store_name
from vae_lab.tracking.records import EXPERIMENT, EXPERIMENT_NAME, EXPERIMENT_NUMBER

if TYPE_CHECKING:
    from vae_lab.tracking.store import Store

log = logging.getLogger(__name__)


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
    name, number = environment.get(EXPERIMENT_NAME), environment.get(EXPERIMENT_NUMBER)
    if not number:
        return name or EXPERIMENT
    try:
        numbered: str = store.ask(lambda: store.client.get_experiment(number)).name
    except MlflowException:
        raise UserError(
            f"{EXPERIMENT_NUMBER}={quoted(number)}: no such experiment in {store_name(store.uri)}."
        ) from None
    if name and name != numbered:
        raise UserError(
            f"{EXPERIMENT_NUMBER}={quoted(number)}: is the experiment {quoted(numbered)}, and "
            f"{EXPERIMENT_NAME} names {quoted(name)}; unset one of them."
        )
    return numbered
