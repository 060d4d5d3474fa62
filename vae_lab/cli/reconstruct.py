"""`vae-lab reconstruct`: images as a trained model encodes and decodes them."""

from __future__ import annotations

from collections.abc import Sequence

import click

from vae_lab.cli import picture
from vae_lab.cli.options import trained_model
from vae_lab.errors import UserError, quoted

HELD_OUT = 10  # images, where no picture is given


@click.command
@trained_model("reconstruction.png")
@click.argument("pictures", nargs=-1)
@click.option(
    "--digit", "--label", "label", type=int, help="The pictures' class. [default: a CVAE's likeliest]"
)
@click.option(
    "--invert/--no-invert", default=None, help="Dark becomes light. [default: if the backgrounds differ]"
)
def reconstruct(
    run: str,
    pictures: tuple[str, ...],
    label: int | None,
    invert: bool | None,
    out: str,
    device: str,
    trusted: tuple[str, ...],
    uri: str | None,
) -> None:
    """Draw pictures of your own, or held-out images, above their reconstructions by a trained model.

    PICTURES are files of any size and colour, such as a photo of a digit on paper. Each is made like what the
    model was trained on: grey or colour, dark or light background, size and place of what is drawn; what was
    done is said. A whole number is the first held-out image of that class; without PICTURES the first ten are
    reconstructed.

    RUN is a run's id or name; reference:best is the run of the study `reference` with the lowest held-out
    loss, reference:best:METRIC the best in another metric, and reference:NAME its run of that name.

    \b
    Examples:
      vae-lab reconstruct reference:best
      vae-lab reconstruct reference:best photo.jpg drawing.png
      vae-lab reconstruct "reference:cvae L3 Z15 s0" photo.jpg --digit 7
    """
    from vae_lab.trained import loading, sheets
    from vae_lab.trained.subjects import held_out, subject_named

    file = picture.place(out)
    check_options(pictures, label, invert)
    lab = loading.load(run, uri=uri, device=device, trust=trusted)
    if label is not None and not lab.conditional:
        raise UserError(f"--digit {label}: {quoted(lab.run.name)} is a VAE, which is told no class.")
    subjects = [subject_named(lab, name, label, invert) for name in pictures] or held_out(lab, HELD_OUT)
    picture.say_changes(subjects)
    picture.write(sheets.reconstructions(lab, subjects), lab, file)


def check_options(pictures: Sequence[str], label: int | None, invert: bool | None) -> None:
    """Checks that there is a picture of the user's for what is said of one.

    Raises:
        UserError: There is none.
    """
    from vae_lab.tracking import whole_number

    if any(whole_number(name) is None for name in pictures):
        return
    option = "" if invert is None else "--invert" if invert else "--no-invert"
    option = option if label is None else f"--digit {label}"
    if option:
        raise UserError(
            f"{option}: is said of pictures of your own, and no file is named; held-out images are known."
        )
