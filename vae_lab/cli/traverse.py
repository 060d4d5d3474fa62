"""`vae-lab traverse`: what each latent dimension changes."""

from __future__ import annotations

import click

from vae_lab.cli import picture
from vae_lab.cli.options import trained_model


@click.command
@trained_model("traversal.png")
@click.option(
    "--around",
    metavar="IMAGE",
    help="A class, for its first held-out image, or a picture; by default the mean of the prior.",
)
@click.option("--rows", type=int, help="Latent dimensions. [default: all, at most 200]")
@click.option("--steps", type=int, default=9, show_default=True, help="Images a row, both ends included.")
@click.option(
    "--span", type=float, default=3.0, show_default=True, help="How far, in standard deviations of the prior."
)
def traverse(
    run: str,
    around: str | None,
    rows: int | None,
    steps: int,
    span: float,
    out: str,
    device: str,
    trusted: tuple[str, ...],
    uri: str | None,
) -> None:
    """Draw what each latent dimension of a trained model changes, a row each, the most informative first.

    Beside a row stands the dimension's number and its mean KL to the prior over held-out images, in nats: a
    dimension near 0 has collapsed: nothing of an image is in it, though the decoder may draw with it.

    RUN is a run's id or name; reference:best is the run of the study `reference` with the lowest held-out
    loss, reference:best:METRIC the best in another metric, and reference:NAME its run of that name.

    \b
    Examples:
      vae-lab traverse reference:best
      vae-lab traverse "reference:vae L3 Z30 s0" --around 5 --rows 10
    """
    from vae_lab.trained import loading, sheets
    from vae_lab.trained.subjects import subject_named

    file = picture.place(out)
    lab = loading.load(run, uri=uri, device=device, trust=trusted)
    subject = None if around is None else subject_named(lab, around)
    picture.say_changes([subject] if subject is not None else [])
    picture.write(sheets.traversals(lab, subject, rows, steps, span), lab, file)
