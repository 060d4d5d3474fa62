"""The group of all commands: one module a command, imported when it is asked for.

What a command needs, such as PyTorch, MLflow or Matplotlib, is imported when it runs, so that help and
completion answer at once.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import click

from vae_lab import __version__
from vae_lab.errors import LabError

NAMES = (
    *("compare", "completion", "data", "doctor", "evaluate", "explore", "interpolate", "plan"),
    *("reconstruct", "register", "report", "sample", "server", "status", "sync", "train", "traverse", "ui"),
    "verdict",
)


class LazyGroup(click.Group):
    """Commands that are imported from the modules of their names; see Click's page on lazy loading."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the names of all commands."""
        return list(NAMES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Returns the command of this name."""
        for name in (cmd_name,) if cmd_name in NAMES else NAMES:  # all, for a message that names the nearest
            self.add_command(getattr(import_module(f"vae_lab.cli.{name}"), name))
        return super().get_command(ctx, cmd_name)


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="vae-lab")
def commands() -> None:
    """Experiments with fully connected VAEs and CVAEs.

    Hydra describes an experiment, PyTorch trains it, MLflow keeps it, and the lab compares the runs.

    \b
    Examples:
      vae-lab train                                         one VAE on MNIST
      vae-lab train model=cvae model.latent_size=30         one CVAE
      vae-lab train -m model.layers=2,3,4 seed=0,1,2        nine runs
      vae-lab train experiments=reference                   the report's ten runs
      vae-lab status reference                              how far they are
      vae-lab compare reference                             their tables again
      vae-lab verdict reference                             what they say to the report's claims
      vae-lab evaluate reference                            bounds and sample quality of its runs
      vae-lab doctor reference                              known faults in its runs
      vae-lab report reference                              the study as one page
      vae-lab sample reference:best                         images of its best model
      vae-lab traverse reference:best                       what each latent dimension changes
      vae-lab interpolate reference:best --from 3 --to 8    what lies between two digits
      vae-lab reconstruct reference:best photo.jpg          a picture of your own, encoded and decoded
      vae-lab explore reference                             its models in the browser: sliders, maps, drawings
      vae-lab register reference:best                       its best model to the registry, as ONNX
      vae-lab sync                                          deliver records that wait for a store
      vae-lab ui                                            the runs in the browser
      vae-lab server                                        a store for a team: users, PostgreSQL, TLS
    """
    try:
        Path.cwd()
    except FileNotFoundError:
        raise LabError("the folder that this command was started in is gone; change into another.") from None


@commands.result_callback()
def _end(code: object) -> None:
    """Ends with the exit code that a command returned."""
    if isinstance(code, int) and code:
        sys.exit(code)
