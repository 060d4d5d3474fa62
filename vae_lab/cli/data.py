"""`vae-lab data`: fetches and checks a data set and says what is in it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import click
import yaml
from hydra.utils import get_method
from rich import box
from rich.console import Console
from rich.table import Table

from vae_lab.cli.train_help import first_comment
from vae_lab.data import Dataset
from vae_lab.errors import UserError, choices, quoted
from vae_lab.files import CONF

FIGURES = (".png", ".pdf", ".svg")
RANK_SHARES = (0.90, 0.95, 0.99)
PCA_NOTE = (
    "Noise: the maximum likelihood sigma^2 of Z dimensions, the mean of the eigenvalues left out.\n"
    "Dimensions above noise: what a linear VAE of any latent size uses if its sigma is held at that\n"
    "value; the others collapse (Lucas et al. 2019). The log density is of grey pixels."
)


def describe(name: str | None, root: str | None) -> Dataset | None:
    """Prints what a data set holds and where it lies, and gives it; without a name, lists all."""
    files = {file.stem: file for file in sorted((CONF / "data").glob("*.yaml"))}
    if name is None:
        for each, file in files.items():
            click.echo(f"{each:15} {first_comment(file)}")
        return None
    if name not in files:
        raise UserError(f"{quoted(name)}: no such data set{choices(name, files)}")
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("vae_lab").setLevel(logging.INFO)
    settings = yaml.safe_load(files[name].read_text())
    root = root or settings.get("root")
    if root == "???":
        raise UserError(f"{name}: needs --root, the folder of its IDX files.")
    data: Dataset = get_method(settings["_target_"])(root=root)
    channels, height, width = data.shape
    click.echo(f"{data.name}: checked, checksum {data.checksum}")
    click.echo(f"  images    {len(data.train):,} to train on, {len(data.test):,} held out")
    click.echo(f"  size      {height} x {width} pixels, {channels} channel{'s' if channels > 1 else ''}")
    counts = data.train.labels.bincount(minlength=data.classes).tolist()
    click.echo(f"  classes   {data.classes}, with {min(counts):,} to {max(counts):,} training images each")
    click.echo(f"  pixels    mean {data.train.scaled(slice(None)).mean():.4f}, black 0, white 1")
    click.echo(f"  files     {data.origin}")
    return data


def spectrum(data: Dataset, latent_sizes: Sequence[int], figure: str | None) -> None:
    """Prints, and draws if asked to, the singular value spectrum of the centred training images."""
    from vae_lab.evaluation import spectrum as pca
    from vae_lab.report import pictures

    if figure and Path(figure).suffix.lower() not in FIGURES:
        raise UserError(f"--figure {quoted(figure)}: must end in one of {', '.join(FIGURES)}.")
    for size in latent_sizes:
        if size >= data.size:
            raise UserError(f"--latent-size {size}: must be below the {data.size} pixels of an image.")
    found = pca.eigenvalues(data.train)
    singular = pca.singular_values(found, len(data.train))
    ranks = {share: pca.rank_at(found, share) for share in RANK_SHARES}
    click.echo(f"\nSpectrum of the centred training images, {len(data.train):,} x {data.size}")
    click.echo(f"  variance  {found.sum():.3f} over all pixels, white = 1")
    click.echo(
        f"  largest   {', '.join(f'{value:.1f}' for value in singular[:6].tolist())} (singular values)"
    )
    for share, rank in ranks.items():
        click.echo(f"  {share:.0%}       of the variance is in {rank} dimensions")
    sizes = Table(box=box.SIMPLE_HEAD)
    for heading in (
        "Z",
        "variance\nkept, %",
        "noise sd\nwhite = 1",
        "log density\nnats/image",
        "dimensions\nabove noise",
    ):
        sizes.add_column(heading, justify="right")
    kept = pca.cumulative_variance(found)
    for size in latent_sizes:
        noise = pca.noise_variance(found, size)
        density = pca.log_likelihood(found, size)
        sizes.add_row(
            str(size),
            f"{100 * float(kept[size - 1]):.1f}",
            f"{noise**0.5:.4f}",
            f"{density:,.1f}",
            str(pca.active_dimensions(found, noise)),
        )
    click.echo("\nProbabilistic PCA with Z latent dimensions (Tipping & Bishop 1999)")
    Console(highlight=False).print(sizes)
    click.echo(PCA_NOTE)
    if figure:
        title = f"{data.name}: {len(data.train):,} centred training images"
        pictures.spectrum(singular.tolist(), kept.tolist(), ranks, title).savefig(figure)
        click.echo(f"Drawn to {figure}")
