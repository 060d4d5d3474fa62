"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])

FORMATS = ("terminal", "markdown", "csv", "latex", "html")

format_option = click.option(
    "--format", "form", type=click.Choice(FORMATS), default="terminal", show_default=True
)
uri_option = click.option(
    "--uri", help="Tracking store; by default the one of `vae-lab train` in this folder."
)
run_argument = click.argument("run")
device_option = click.option(
    "--device", default="cpu", show_default=True, help="auto, cpu, cuda, cuda:N or mps."
)
trust_option = click.option(
    "--trust",
    "trusted",
    multiple=True,
    metavar="NAME",
    help="A class or function of your own that a run names and may be imported; can be given again.",
)


def trained_model(output: str) -> Callable[[Function], Function]:
    """Returns what gives a command the argument RUN, and the options of every command that uses its model.

    Args:
        output: The file of its picture, if no other is named.
    """

    def decorate(function: Function) -> Function:
        for option in reversed((run_argument, _out_option(output), device_option, trust_option, uri_option)):
            function = option(function)
        return function

    return decorate


def _out_option(output: str) -> Callable[[Function], Function]:
    return click.option("--out", metavar="FILE.png", default=output, show_default=True, help="The picture.")
