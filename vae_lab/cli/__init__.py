"""The command line, `vae-lab`: one module a command, imported when it is asked for.

What a command needs, such as PyTorch, MLflow or Matplotlib, is imported when it runs, so that help and
completion answer at once.
"""

from __future__ import annotations

import sys
from importlib import import_module

import click

from vae_lab import __version__
from vae_lab.errors import LabError, os_error_message

NAMES = (
    *("compare", "completion", "data", "evaluate", "report", "status", "sync", "train", "ui", "verdict"),
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
      vae-lab report reference                              the study as one page
      vae-lab sync                                          deliver records that wait for a store
      vae-lab ui                                            the runs in the browser
    """


def main() -> None:
    """The entry point: runs a command and turns what went wrong into one message and an exit code."""
    try:
        commands(prog_name="vae-lab")
    except (LabError, OSError) as error:
        sys.exit(print_error(error))


def print_error(error: LabError | OSError) -> int:
    """Prints an error as one message and returns the exit code that goes with it."""
    message = os_error_message(error) if isinstance(error, OSError) else str(error)
    click.echo(f"vae-lab: {message}", err=True)
    return error.exit_code if isinstance(error, LabError) else LabError.exit_code


__all__ = ["commands", "main", "print_error"]
