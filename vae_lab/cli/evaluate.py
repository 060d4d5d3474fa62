"""`vae-lab evaluate`: adds measures to finished runs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from vae_lab.cli.completion import complete_overrides
from vae_lab.cli.options import trust_option, uri_option
from vae_lab.errors import LabError, UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig


@click.command
@click.argument("name", metavar="RUN_OR_STUDY")
@click.argument("overrides", nargs=-1, shell_complete=complete_overrides)
@click.option("--again", is_flag=True, help="Measure runs too that have these measures.")
@trust_option
@uri_option
def evaluate(
    name: str, overrides: tuple[str, ...], again: bool, trusted: tuple[str, ...], uri: str | None
) -> None:
    """Add measures to finished runs without training them again.

    RUN_OR_STUDY is a study's name, for its newest multirun, the id of a parent run, or a run: its id, its
    name, STUDY:RUN_NAME or STUDY:best. What follows are Hydra's overrides of the group `evaluation`, which is
    `full` unless another is named, and of data.root, train.device and train.threads.

    A run names the classes of its model, loss and likelihood and the function that loads its data. Those that
    are not the lab's own are imported only if --trust names them, since a store may hold what others wrote.

    \b
    Examples:
      vae-lab evaluate reference
      vae-lab evaluate reference evaluation.importance_samples=1000 --again
      vae-lab evaluate reference:best evaluation.samples=10000
      vae-lab evaluate tempered --trust my_models.Tempered
    """
    import torch

    from vae_lab.jobs.runs import measuring
    from vae_lab.tracking import Store
    from vae_lab.trained.reference import run_or_study

    settings = composed(measuring.evaluation_overrides(overrides))
    if settings.train.threads is not None:
        torch.set_num_threads(settings.train.threads)
    store = Store.open(uri)
    failures = measuring.evaluate(store, run_or_study(store, name), settings, trusted=trusted, again=again)
    sys.exit(LabError.exit_code if failures else 0)


def composed(overrides: list[str]) -> DictConfig:
    """Returns the lab's config with these overrides, checked.

    Raises:
        UserError: An override that Hydra does not take, or a value out of range.
    """
    from hydra import compose, initialize_config_dir

    from vae_lab import config
    from vae_lab.cli.overrides.checks import checked_lines, explained
    from vae_lab.cli.overrides.line import Line

    line = Line(overrides, multirun=False)
    try:
        checked_lines(line)
        with initialize_config_dir(line.config_path, version_base="1.3"):
            settings = compose(line.config_name, overrides)
    except Exception as error:
        raise UserError(explained(error, line)) from None
    return config.checked(settings)
