"""Gives a model away: its functions are exported, registered as a pair, and told what they are."""

from __future__ import annotations

from collections.abc import Sequence

from vae_lab.tracking import Store
from vae_lab.trained.model import TrainedModel
from vae_lab.trained.registry.graphs import graphs_of
from vae_lab.trained.registry.versions import ALIAS, Version, check_name, describe, existing, publish
from vae_lab.trained.registry.wording import description


def register(store: Store, lab: TrainedModel, name: str, verdicts: Sequence[str] = ()) -> list[Version]:
    """Registers a model as NAME-decoder and NAME-encoder; one that is registered is described anew.

    The best run of a study has the alias `best`, as long as no other is registered as the best.

    Args:
        store: Where its run is kept.
        lab: The model.
        name: What the registered models' names begin with.
        verdicts: Lines of a Markdown list, one a claim of the study.

    Returns:
        The versions of decoder and encoder.

    Raises:
        UserError: The name is none that MLflow takes, or the extra `onnx` is not installed.
        LabError: The model cannot be exported, or the store does not take it.
    """
    check_name(name)
    store.settle()  # before anything is computed that could not be kept
    graphs = graphs_of(lab.module, lab.likelihood, lab.shape)
    there = existing(store, lab.run, name)
    versions = [there.get(graph.function) or publish(store, lab.run, name, graph) for graph in graphs]
    # Last, when there are two: an alias never names a decoder whose encoder is missing.
    for graph, version, partner in zip(graphs, versions, reversed(versions), strict=True):
        text = description(lab, graph, version, partner, verdicts)
        describe(store, version, text, ALIAS if lab.chosen else "")
    return versions
