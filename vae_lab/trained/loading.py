"""From a name to a model in the hand: its run is found, its config read, its weights loaded."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

from vae_lab import devices
from vae_lab.config.trust import check_trusted_loss
from vae_lab.errors import UserError, quoted
from vae_lab.jobs.parts.stored import data_of, stored_settings, trained_model
from vae_lab.tracking import Reader, StoredRun, reader
from vae_lab.trained.model import TrainedModel
from vae_lab.trained.reference import chosen_run


def load(
    reference: str, *, uri: str | None = None, device: str = "cpu", trust: Collection[str] = ()
) -> TrainedModel:
    """Returns the trained model that a name stands for; `vae_lab.load` says what names there are."""
    store = reader(uri)
    choice = chosen_run(store, reference)
    return model_of(store, choice.run, device=device, trust=trust, chosen=choice.reason)


def model_of(
    store: Reader, run: StoredRun, *, device: str = "cpu", trust: Collection[str] = (), chosen: str = ""
) -> TrainedModel:
    """Returns the trained model of a run.

    Args:
        store: Where the run is kept.
        run: A finished run.
        device: Where the weights are put: auto, cpu, cuda, cuda:N or mps.
        trust: Dotted names of classes and functions, beside the lab's own, that may be imported.
        chosen: Why it is this run.

    Raises:
        UserError: The run has not finished, or names a class that is neither the lab's nor trusted.
        LabError: The run has no model, or a file of it is damaged.
    """
    if run.status != "FINISHED":
        raise UserError(
            f"{quoted(run.name)}, {run.run_id}: is {run.status}; only finished runs have a model."
        )
    where = devices.resolve(device, "device")
    settings = stored_settings(store, run.run_id)
    check_trusted_loss(settings, trust, run.run_id)
    module, objective = trained_model(store, run.run_id, settings, where, trust)
    return TrainedModel(
        run,
        settings,
        module,
        objective,
        device=where,
        load_data=partial(data_of, run, settings, where, trust),
        chosen=chosen,
    )
