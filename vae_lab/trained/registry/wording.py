"""What a registered model says of itself: what goes in and comes out, which run it is, and the verdicts."""

from __future__ import annotations

from collections.abc import Sequence

from vae_lab.report.tables import markdown_text
from vae_lab.trained.model import TrainedModel
from vae_lab.trained.registry.graphs import Graph
from vae_lab.trained.registry.versions import LONGEST_DESCRIPTION, NOUNS, Version

MEANINGS = {
    "z": "latent vectors, draws from the standard normal distribution or means of the encoder",
    "x": "images, black 0 and white 1",
    "label": "classes, whole numbers from 0 to {last}; any other is refused",
    "images": "the expected images, black 0 and white 1",
    "mean": "of the posterior q(z | x)",
    "log_var": "logarithms of the posterior's variances",
}


def description(
    lab: TrainedModel, graph: Graph, version: Version, partner: Version, verdicts: Sequence[str]
) -> str:
    """Returns a version's Markdown page, of at most `LONGEST_DESCRIPTION` characters.

    Args:
        lab: The model.
        graph: One of its functions.
        version: What that is registered as.
        partner: The version of the model's other function.
        verdicts: Lines of a list, one a claim of the study; those for which there is no room are counted.
    """
    last = lab.module.condition_size - 1
    values = [
        f"- {side} `{name}`, {dtype} {_shape(shape)}: {MEANINGS[name].format(last=last)}"
        for side, tensors in (("in", graph.inputs), ("out", graph.outputs))
        for name, (dtype, shape) in tensors.items()
    ]
    head = [
        f"`{graph.call}`: the {NOUNS[graph.function]} of {_model(lab)}",
        "\n".join(values),
        "N is as many as are asked for. A z means something to the two functions of one run only: the other "
        f"is version {partner.number} of `{partner.name}`. Answers differ from PyTorch's by at most "
        f"{rounded_up(graph.difference)} on the images tried; above 1 or below -1, of the value.",
    ]
    room = LONGEST_DESCRIPTION - len("\n\n".join([*head, ""]))
    return "\n\n".join([*head, *_claims(verdicts, room)])


def rounded_up(difference: float) -> str:
    """Returns a bound with one digit that a difference does not exceed.

    Examples:
        >>> rounded_up(1.4e-6), rounded_up(2e-6), rounded_up(9.2e-6), rounded_up(0.0)
        ('2e-06', '2e-06', '1e-05', '1e-07')
    """
    text = f"{max(difference, 1e-7):.0e}"
    if float(text) < difference:
        text = f"{difference + float(f'1{text[1:]}'):.0e}"
    return text


def _model(lab: TrainedModel) -> str:
    """Returns which model it is, in sentences."""
    chosen = f", with the {markdown_text(lab.chosen)}" if lab.chosen else ""
    data = lab.run.tags.get("vae_lab.data", "").rpartition(" ")[0]
    trained = f"; trained on {markdown_text(data)}" if data else ""
    loss = lab.metrics.get("test/loss")
    measured = "" if loss is None else f" Held-out loss **{loss:.2f}** nats/image."
    return f"**{markdown_text(lab.run.name)}**{chosen}{trained}.{measured}"


def _shape(shape: Sequence[int]) -> str:
    """Returns a shape as the documentation writes it.

    Examples:
        >>> _shape((-1, 15)), _shape((-1,))
        ('(N, 15)', '(N,)')
    """
    sizes = ["N" if size < 0 else str(size) for size in shape]
    return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"


def _claims(verdicts: Sequence[str], room: int) -> list[str]:
    """Returns the verdicts below a heading, as many as there is room for.

    Examples:
        >>> verdicts = ["- **C1, supported.**", "- **C2, refuted.**", "- **C3, undecided.**"]
        >>> _claims(verdicts, room=80)[1].splitlines()
        ['- **C1, supported.**', '- 2 more on the parent run.']
    """
    if not verdicts:
        return []
    heading = "### Claims of the study"
    for count in range(len(verdicts), -1, -1):
        hidden = len(verdicts) - count
        more = [f"- {hidden} more on the parent run."] if hidden else []
        text = "\n".join([*verdicts[:count], *more])
        if len(heading) + 2 + len(text) <= room:
            return [heading, text]
    return []
