"""Options that several commands share."""

from __future__ import annotations

import click

FORMATS = ("terminal", "markdown", "csv", "latex", "html")

format_option = click.option(
    "--format", "form", type=click.Choice(FORMATS), default="terminal", show_default=True
)
uri_option = click.option(
    "--uri", help="Tracking store; by default the one of `vae-lab train` in this folder."
)
