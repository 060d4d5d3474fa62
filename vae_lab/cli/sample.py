"""`vae-lab sample`: images that a trained model draws."""

from __future__ import annotations

import re

import click

from vae_lab.cli import picture
from vae_lab.cli.options import trained_model
from vae_lab.errors import UserError, quoted

ALTOGETHER, OF_EACH = 100, 10  # images, if no number is given
MOST = 200  # classes in a picture


@click.command
@trained_model("samples.png")
@click.option(
    "--digits", "--labels", "labels", metavar="LABELS", help="A CVAE's classes, a row each: 0-9, or 1,3,5."
)
@click.option(
    "--count",
    type=int,
    help=f"Images; with several classes, of each. [default: {ALTOGETHER}, or {OF_EACH} of each]",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Starts the draw.")
def sample(
    run: str,
    labels: str | None,
    count: int | None,
    seed: int,
    out: str,
    device: str,
    trusted: tuple[str, ...],
    uri: str | None,
) -> None:
    """Draw images of a trained model: latent vectors from the prior, decoded.

    RUN is a run's id or name; reference:best is the run of the study `reference` with the lowest held-out
    loss, reference:best:METRIC the best in another metric, and reference:NAME its run of that name.

    \b
    Examples:
      vae-lab sample reference:best
      vae-lab sample "reference:cvae L3 Z15 s0" --digits 0-9
      vae-lab sample 8c1f0a2b --count 25 --seed 7 --out grid.png
    """
    wanted = [] if labels is None else parsed_labels(labels)
    from vae_lab.trained import loading, sheets

    file = picture.place(out)
    lab = loading.load(run, uri=uri, device=device, trust=trusted)
    number = count if count is not None else (OF_EACH if len(wanted) > 1 else ALTOGETHER)
    picture.write(sheets.samples(lab, wanted, number, seed), lab, file)


def parsed_labels(text: str) -> list[int]:
    """Returns the classes that a text lists, each once.

    Raises:
        UserError: It is no such list.

    >>> parsed_labels("0-3,7")
    [0, 1, 2, 3, 7]
    """
    labels: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,6})\s*(?:-\s*(\d{1,6})\s*)?", part, re.ASCII)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, -1)
        if not first <= last < first + MOST:
            raise UserError(
                f"--digits or --labels {quoted(text)}: must be classes, at most {MOST}, as in 0-9 or 1,3,5."
            )
        labels += range(first, last + 1)
    return list(dict.fromkeys(labels))
