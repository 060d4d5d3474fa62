"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from vae_lab.errors import UserError, quoted

Function = TypeVar("Function", bound=Callable[..., Any])

FORMATS = ("terminal", "markdown", "csv", "latex", "html")

format_option = click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default="terminal",
    show_default=True,
    help="What tables are written as.",
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
    help="A model, loss, likelihood or data function of your own that a run names and that may be imported, "
    "such as my_models.Tempered; can be given again.",
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


def refuse_unread(rule: str, *names: str) -> None:
    """Refuses options that stand on the command line where what the command does there reads none of them.

    Args:
        rule: What follows the option and its value in the message.
        names: The parameters of the command's function that are not read.

    Raises:
        UserError: One of them was typed.
    """
    context = click.get_current_context()
    for option in context.command.params:
        if option.name not in names:
            continue
        if context.get_parameter_source(option.name) is click.core.ParameterSource.COMMANDLINE:
            value = context.params[option.name]
            value = value[0] if isinstance(value, tuple) else value
            text = "" if isinstance(value, bool) else f" {quoted(value)}"
            raise UserError(f"{option.opts[0]}{text}: {rule}")


def page_file(out: str) -> Path:
    """Returns where an HTML page goes, before anything is read for it.

    Raises:
        UserError: It is no name of an HTML file, or in no folder.
    """
    file = Path(out)
    if file.suffix not in (".html", ".htm"):
        raise UserError(f"--out {out}: the page is HTML. Valid: a name that ends in .html.")
    if not file.parent.is_dir():
        raise UserError(f"--out {out}: there is no folder {file.parent}.")
    return file


def _out_option(output: str) -> Callable[[Function], Function]:
    return click.option("--out", metavar="FILE.png", default=output, show_default=True, help="The picture.")
