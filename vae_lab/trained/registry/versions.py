"""Versions in the MLflow model registry: a run's graphs as registered models, once for each run."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, NamedTuple

import requests
from mlflow.entities import LoggedModelOutput, LoggedModelStatus
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from vae_lab.errors import LabError, UserError, quoted
from vae_lab.tracking import STUDY, Store, StoredRun, store_name
from vae_lab.tracking.delivery import why
from vae_lab.trained.registry.graphs import Graph

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

NOUNS = {"decode": "decoder", "encode": "encoder"}  # what the model of a function is registered as
REGISTRY = "MLFLOW_REGISTRY_URI"  # MLflow's variable: where models are registered, if not in the store
ALIAS = "best"  # of the versions of a study's best run
LONGEST_DESCRIPTION = 5000  # characters that every database of MLflow's keeps
RUNS_ON = ("mlflow", "numpy", "onnx", "onnxruntime")  # what a version needs where it is loaded


class Version(NamedTuple):
    """A version of a registered model."""

    function: str  # decode or encode
    name: str
    number: str
    new: bool  # whether it was made now

    @property
    def uri(self) -> str:
        """Its address for MLflow, among others in `mlflow models serve -m`."""
        return f"models:/{self.name}/{self.number}"


def registry_name(store: Store) -> str:
    """Returns the registry's name in messages: the store's, unless `REGISTRY` names another.

    Raises:
        UserError: It names one of a kind that the lab does not know.
    """
    named = os.environ.get(REGISTRY)
    try:
        return store_name(named or store.uri)
    except UserError as error:
        if not named:
            raise
        raise UserError(
            f"{REGISTRY}={quoted(named)}: not a registry the lab can use. Unset it to register in the store, "
            "or name an SQLite file or a server's address."
        ) from error


def check_name(name: str) -> str:
    """Returns the name, if models can be registered as NAME-decoder and NAME-encoder.

    Raises:
        UserError: MLflow has no such names.

    Examples:
        >>> check_name("reference")
        'reference'
        >>> check_name("../x")
        Traceback (most recent call last):
        vae_lab.errors.UserError: --name ../x: must be one line of 1 to 200 characters without / and :...
    """
    if not name.strip(" .") or not name.isprintable() or {"/", ":"} & set(name) or len(name) > 200:
        raise UserError(
            f"--name {quoted(name)}: must be one line of 1 to 200 characters without / and :, not only dots."
        )
    return name


def existing(store: Store, run: StoredRun, name: str) -> dict[str, Version]:
    """Returns the versions, by function, as which a run is registered under a name."""
    with _one_message(store):
        versions = store.client.search_model_versions(
            f"run_id = '{run.run_id}'", order_by=["version_number DESC"]
        )
    functions = {f"{name}-{noun}": function for function, noun in NOUNS.items()}
    return {
        functions[entry.name]: Version(functions[entry.name], entry.name, str(entry.version), new=False)
        for entry in reversed(versions)
        if entry.name in functions
    }


def publish(store: Store, run: StoredRun, name: str, graph: Graph) -> Version:
    """Makes a version of the registered model NAME-decoder or NAME-encoder from a graph.

    Args:
        store: Where the run is kept.
        run: The run whose model it is.
        name: What the registered models' names begin with.
        graph: One of its functions.

    Raises:
        LabError: The store does not take it.
    """
    model_name = f"{name}-{NOUNS[graph.function]}"
    with _one_message(store):
        with _there_already():
            store.client.create_registered_model(model_name)
        logged_id, location = _logged(store, run, graph)
        made = store.client.create_model_version(
            model_name, location, run.run_id, tags=_tags(run), model_id=logged_id
        )
    return Version(graph.function, model_name, str(made.version), new=True)


def describe(store: Store, version: Version, text: str, alias: str = "") -> None:
    """Gives a version its description, in Markdown, and the alias, if there is one.

    Raises:
        LabError: The store does not take it.
    """
    with _one_message(store):
        store.client.update_model_version(version.name, version.number, text)
        if alias:
            store.client.set_registered_model_alias(version.name, alias, version.number)


def _logged(store: Store, run: StoredRun, graph: Graph) -> tuple[str, str]:
    """Keeps a graph as a logged model, which stays when its run is deleted; returns its id and place."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*Any type hint is inferred as AnyType")  # of classes of its own
        import mlflow.onnx
        import mlflow.pyfunc  # which saving would import, and which warns
    from mlflow.models import Model

    client = store.client
    logged = client.create_logged_model(
        run.experiment_id, NOUNS[graph.function], source_run_id=run.run_id, tags=_tags(run)
    )
    end = LoggedModelStatus.FAILED
    try:
        with tempfile.TemporaryDirectory() as folder:
            mlflow.onnx.save_model(
                graph.model,
                f"{folder}/model",
                mlflow_model=Model(logged.artifact_location, run.run_id, model_id=logged.model_id),
                signature=_signature(graph),
                input_example=graph.example,
                pip_requirements=[f"{name}=={version(name)}" for name in RUNS_ON],
                onnx_execution_providers=["CPUExecutionProvider"],  # others would be missed with a warning
                save_as_external_data=False,  # one file, to be handed on
            )
            client.log_model_artifacts(logged.model_id, f"{folder}/model")
        end = LoggedModelStatus.READY
    finally:
        client.finalize_logged_model(logged.model_id, end)
    client.log_outputs(run.run_id, [LoggedModelOutput(logged.model_id, step=0)])
    return logged.model_id, logged.artifact_location


def _signature(graph: Graph) -> ModelSignature:
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    inputs, outputs = (
        Schema([TensorSpec(dtype, shape, name) for name, (dtype, shape) in side.items()])
        for side in (graph.inputs, graph.outputs)
    )
    return ModelSignature(inputs, outputs)


def _tags(run: StoredRun) -> dict[str, str]:
    """What tells a version from others without opening its run."""
    tags: dict[str, str] = {key: run.tags[key] for key in (STUDY, "vae_lab.data") if run.tags.get(key)}
    return tags


@contextmanager
def _there_already() -> Iterator[None]:
    """Lets it pass that a registered model is there already."""
    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


@contextmanager
def _one_message(store: Store) -> Iterator[None]:
    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError, requests.RequestException) as error:
        name = registry_name(store)
        raise LabError(f"{name}: the model registry does not take the model: {why(error)}") from error
