"""`vae-lab data`: fetches and checks a data set and says what is in it."""

from __future__ import annotations

import logging

import click
import yaml
from hydra.utils import get_method

from vae_lab.cli.training_help import first_comment
from vae_lab.data import Dataset
from vae_lab.errors import UserError, choices
from vae_lab.folders import CONF


def describe(name: str | None, root: str | None) -> None:
    """Prints sizes, classes, mean brightness and place of a data set."""
    files = {file.stem: file for file in sorted((CONF / "data").glob("*.yaml"))}
    if name is None:
        for each, file in files.items():
            click.echo(f"{each:15} {first_comment(file)}")
        return
    if name not in files:
        raise UserError(f"{name}: no such data set{choices(name, files)}")
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
