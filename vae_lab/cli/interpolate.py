"""`vae-lab interpolate`: what lies between two images."""

from __future__ import annotations

import click

from vae_lab.cli import picture
from vae_lab.cli.options import trained_model


@click.command
@trained_model("interpolation.png")
@click.option("--from", "first", metavar="IMAGE", help="A class, for its first held-out image, or a picture.")
@click.option("--to", "last", metavar="IMAGE", help="The same. [default: the first two classes]")
@click.option("--steps", type=int, default=9, show_default=True, help="Images, both ends included.")
def interpolate(
    run: str,
    first: str | None,
    last: str | None,
    steps: int,
    out: str,
    device: str,
    trusted: tuple[str, ...],
    uri: str | None,
) -> None:
    """Draw what a trained model decodes on the line between two images.

    The line runs between the means of their posteriors; the originals stand at its ends. A CVAE's classes are
    blended as well, where they differ, which it has not been trained on. A picture of your own may have any
    size and colour; what is done to it is said.

    RUN is a run's id or name; reference:best is the run of the study `reference` with the lowest held-out
    loss, reference:best:METRIC the best in another metric, and reference:NAME its run of that name.

    \b
    Examples:
      vae-lab interpolate reference:best --from 3 --to 8
      vae-lab interpolate "reference:vae L2 Z15 s0" --from 4 --to my_nine.jpg --steps 13
    """
    from vae_lab.trained import loading, sheets
    from vae_lab.trained.subjects import subject_named

    file = picture.place(out)
    lab = loading.load(run, uri=uri, device=device, trust=trusted)
    named = [first or str(lab.classes[0]), last or str(lab.classes[min(1, len(lab.classes) - 1)])]
    start, end = (subject_named(lab, name) for name in named)
    picture.say_changes([start, end])
    picture.write(sheets.blends(lab, start, end, steps), lab, file)
