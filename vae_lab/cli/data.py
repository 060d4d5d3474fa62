"""`vae-lab data`: fetches and checks a data set and says what is in it."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vae_lab.cli.options import refuse_unread
from vae_lab.cli.terminal.messages import echo
from vae_lab.errors import UserError, choices, quoted
from vae_lab.files import CONF

if TYPE_CHECKING:
    from torch import Tensor

    from vae_lab.data import Dataset

FIGURES = (".png", ".pdf", ".svg")
RANK_SHARES = (0.90, 0.95, 0.99)
LATENT_SIZES = (10, 15, 30)  # compared if no others are named
PCA_HEADINGS = (
    *("Z", "variance\nkept, %", "noise sd\nwhite = 1", "log density\nnats/image"),
    "dimensions\nabove noise",
)
PCA_NOTE = (
    "Noise: the maximum likelihood sigma^2 of Z dimensions, the mean of the eigenvalues left out.\n"
    "Dimensions above noise: what a linear VAE of any latent size uses if its sigma is held at that\n"
    "value; the others collapse (Lucas et al. 2019). The log density is of grey pixels."
)
NO_NOISE_NOTE = "–: Z dimensions hold all variance; no noise is left, and the density has no bound."


@click.command
@click.argument("name", required=False)
@click.option("--root", help="Folder of the files, as data.root.")
@click.option("--svd", is_flag=True, help="Show the singular values of the training images, too.")
@click.option(
    "--latent-size",
    "latent_sizes",
    type=click.IntRange(1),
    multiple=True,
    help="With --svd: a latent size to compare; can be given again. [default: 10, 15 and 30 that fit]",
)
@click.option("--figure", type=click.Path(dir_okay=False), help="With --svd: draw the spectrum to this file.")
def data(
    name: str | None, root: str | None, svd: bool, latent_sizes: tuple[int, ...], figure: str | None
) -> None:
    """Fetch and check a data set, and say what is in it; without NAME, list the data sets.

    \b
    Examples:
      vae-lab data mnist
      vae-lab data idx --root ~/my-images
      vae-lab data mnist --svd --figure spectrum.png
    """
    if not svd:
        refuse_unread("there is nothing to draw without --svd.", "figure")
        refuse_unread("is of the spectrum; add --svd.", "latent_sizes")
    if name is None:
        refuse_unread("needs the name of a data set, as in: vae-lab data mnist --svd", "svd")
        refuse_unread("is the folder of a data set; name it, as in: vae-lab data mnist --root FOLDER", "root")
    files = {file.stem: file for file in sorted((CONF / "data").glob("*.yaml"))}
    if name is None:
        from vae_lab.cli.overrides.train_help import first_comment

        for stem, file in files.items():
            echo(f"{stem:15} {first_comment(file)}")
        return
    if name not in files:
        raise UserError(f"{quoted(name)}: no such data set{choices(name, files)}")
    dataset = _load(files[name], root)
    _print_facts(dataset)
    if svd:
        _print_spectrum(dataset, latent_sizes, figure)


def _load(file: Path, root: str | None) -> Dataset:
    import yaml
    from hydra.utils import get_method

    settings = yaml.safe_load(file.read_text(encoding="utf-8"))
    root = root or settings.get("root")
    if root == "???":
        raise UserError(f"{file.stem}: needs --root, the folder of its IDX files.")
    dataset: Dataset = get_method(settings["_target_"])(root=root)
    return dataset


def _print_facts(dataset: Dataset) -> None:
    from vae_lab.data.arrays import remarks

    train, (channels, height, width) = dataset.train, dataset.shape
    counts = train.labels.bincount(minlength=dataset.classes).tolist()
    echo(f"{dataset.name}: checked, checksum {dataset.checksum}")
    echo(f"  images    {len(train):,} to train on, {len(dataset.test):,} held out")
    echo(f"  size      {height} x {width} pixels, {channels} channel{'s' if channels > 1 else ''}")
    trained = [count for count in counts if count]
    classes = f"{len(trained)} of {dataset.classes}" if len(trained) < dataset.classes else f"{len(trained)}"
    echo(f"  classes   {classes}, with {min(trained):,} to {max(trained):,} training images each")
    echo(f"  pixels    mean {train.scaled(slice(None)).mean():.4f}, black 0, white 1")
    echo(f"  files     {dataset.origin}")
    for remark in remarks(dataset):
        echo(f"  {remark}")


def _print_spectrum(dataset: Dataset, latent_sizes: Sequence[int], figure: str | None) -> None:
    """Prints, and draws if asked to, the singular value spectrum of the centred training images."""
    from vae_lab.evaluation import spectrum

    _check_figure(figure)
    for size in latent_sizes:
        if size >= dataset.size:
            raise UserError(f"--latent-size {size}: must be below the {dataset.size} pixels of an image.")
    eigenvalues = spectrum.eigenvalues(dataset.train)
    if not eigenvalues.any():
        raise UserError(
            f"--svd: all training images of {quoted(dataset.name)} are the same; they have no spectrum."
        )
    singular = spectrum.singular_values(eigenvalues, len(dataset.train)).tolist()
    ranks = {share: spectrum.rank_at(eigenvalues, share) for share in RANK_SHARES}
    echo(f"\nSpectrum of the centred training images, {len(dataset.train):,} x {dataset.size}")
    echo(f"  variance  {eigenvalues.sum():.3f} over all pixels, white = 1")
    echo(f"  largest   {', '.join(f'{value:.1f}' for value in singular[:6])} (singular values)")
    for share, rank in ranks.items():
        echo(f"  {share:.0%}       of the variance is in {rank} dimensions")
    _print_pca(eigenvalues, latent_sizes or _latent_sizes_below(dataset.size))
    if figure:
        from vae_lab.report.charts.data_spectrum import data_spectrum
        from vae_lab.report.drawing import save

        title = f"{dataset.name}: {len(dataset.train):,} centred training images"
        shares = spectrum.cumulative_variance(eigenvalues).tolist()
        save(data_spectrum(singular, shares, ranks, title), figure)
        echo(f"Drawn to {figure}")


def _check_figure(figure: str | None) -> None:
    if figure and Path(figure).suffix.lower() not in FIGURES:
        raise UserError(f"--figure {quoted(figure)}: must end in one of {', '.join(FIGURES)}.")
    if figure and os.path.lexists(figure):
        raise UserError(f"--figure {quoted(figure)}: is there already; remove it, or choose another name.")


def _latent_sizes_below(pixels: int) -> list[int]:
    """Returns those of LATENT_SIZES that fit, else the largest that does; none for an image of one pixel."""
    return [size for size in LATENT_SIZES if size < pixels] or [*range(1, pixels)][-1:]


def _print_pca(eigenvalues: Tensor, latent_sizes: Sequence[int]) -> None:
    from rich import box
    from rich.table import Table

    from vae_lab.evaluation import spectrum
    from vae_lab.report.terminal import Terminal

    if not latent_sizes:
        echo("\nProbabilistic PCA: no latent size is below the one pixel of an image.")
        return
    table = Table(box=box.SIMPLE_HEAD)
    for heading in PCA_HEADINGS:
        table.add_column(heading, justify="right")
    shares = spectrum.cumulative_variance(eigenvalues)
    densities = []
    for size in latent_sizes:
        noise = spectrum.noise_variance(eigenvalues, size)
        density = spectrum.log_likelihood(eigenvalues, size)
        densities.append(density)
        table.add_row(
            str(size),
            f"{100 * float(shares[size - 1]):.1f}",
            f"{noise**0.5:.4f}",
            f"{density:,.1f}" if math.isfinite(density) else "–",
            str(spectrum.active_dimensions(eigenvalues, noise)),
        )
    echo("\nProbabilistic PCA with Z latent dimensions (Tipping & Bishop 1999)")
    Terminal().print(table)
    echo(PCA_NOTE)
    if math.inf in densities:
        echo(NO_NOISE_NOTE)
