"""`vae-lab register`: a trained model in the MLflow model registry, as ONNX, for those without the lab."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from vae_lab.cli.options import run_argument, trust_option, uri_option
from vae_lab.cli.terminal.messages import echo

if TYPE_CHECKING:
    from vae_lab.studies.study import Study
    from vae_lab.tracking import Store, StoredRun
    from vae_lab.trained.model import TrainedModel
    from vae_lab.trained.registry.versions import Version


@click.command
@run_argument
@click.option("--name", help="What both registered models are called; by default as the study or the run.")
@trust_option
@uri_option
def register(run: str, name: str | None, trusted: tuple[str, ...], uri: str | None) -> None:
    """Give the model of RUN away: to the MLflow model registry, as ONNX.

    RUN is a run's id or name, or STUDY:best for the best run of a study. The registry gets two models:
    NAME-decoder, decode(z, label) -> images, and NAME-encoder, encode(x, label) -> mean, log_var; without
    label for a VAE. Each has a signature, and the verdicts on the study's claims as description. They load,
    and answer over HTTP, where neither vae_lab nor PyTorch is installed. A run that is registered already
    gets no other version: it is described anew.

    \b
    Examples:
      vae-lab register reference:best
      vae-lab register reference:best:eval/recognizable_share --name clear-digits
    """
    from vae_lab.report.conclusion import verdict_lines
    from vae_lab.report.page.rendering import file_name
    from vae_lab.studies.claims import verdicts_of
    from vae_lab.tracking import Store
    from vae_lab.trained.loading import model_of
    from vae_lab.trained.reference import chosen_run
    from vae_lab.trained.registry.giving import register as give
    from vae_lab.trained.registry.graphs import check_packages
    from vae_lab.trained.registry.versions import registry_name

    check_packages()
    store = Store.open(uri)
    registry = registry_name(store)
    choice = chosen_run(store, run)
    lab = model_of(store, choice.run, trust=trusted, chosen=choice.reason)
    study = study_of(store, run, choice.run)
    verdicts = verdicts_of(study) if study is not None else []
    chosen_name = file_name(study.plan.name if study is not None else lab.run.name) if name is None else name
    versions = give(store, lab, chosen_name, verdict_lines(verdicts))
    _print(versions, lab, store, registry)


def _print(versions: Sequence[Version], lab: TrainedModel, store: Store, registry: str) -> None:
    from vae_lab.tracking import client_address, store_name
    from vae_lab.trained.registry.versions import REGISTRY

    for version in versions:
        news = "new" if version.new else "was there, described anew"
        echo(f"{version.uri}  {news}")
    echo(f"\n{lab.run.name}{f', {lab.chosen}' if lab.chosen else ''}, in {store_name(store.uri)}\n")
    if os.environ.get(REGISTRY):
        echo(f"Registered where {REGISTRY} says, in {registry}")
    address = shlex.quote(client_address(store.uri))
    echo(f"Serve it   MLFLOW_TRACKING_URI={address} \\")
    echo(f"           mlflow models serve -m {versions[0].uri} --env-manager local --port 5001")
    echo("Look at it vae-lab ui")


def study_of(store: Store, reference: str, run: StoredRun) -> Study | None:
    """Returns the study that the name of a run begins with, else that of the run; None of a run alone."""
    from vae_lab.studies.names import UnknownStudyError
    from vae_lab.studies.study import load_study
    from vae_lab.tracking import PARENT

    named, colon, _ = reference.partition(":")
    for name in (named if colon else "", run.tags.get(PARENT, "")):
        with suppress(UnknownStudyError):
            return load_study(store, name)
    return None
