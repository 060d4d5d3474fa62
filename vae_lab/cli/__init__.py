"""The command line, `vae-lab`; torch and MLflow are imported only by the commands that use them."""

from __future__ import annotations

import sys

import click

from vae_lab import __version__
from vae_lab.cli.completion import complete_overrides
from vae_lab.errors import LabError, UserError, os_error_message

FORMATS = ("terminal", "markdown", "csv", "latex", "html")
SHELLS = ("bash", "zsh", "fish")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
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


@commands.command(
    "train",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True},
    short_help="Train one run, a sweep or a study (--help lists every key).",
)
@click.argument("overrides", nargs=-1, type=click.UNPROCESSED, shell_complete=complete_overrides)
def _train(overrides: tuple[str, ...]) -> None:
    """Train; everything after `train` is Hydra's."""
    from vae_lab.cli import train

    sys.exit(train.train(list(overrides)))


@commands.command("compare")
@click.argument("study", required=False)
@click.option("--format", "form", type=click.Choice(FORMATS), default="terminal", show_default=True)
@click.option("--metric", "metrics", multiple=True, help="Show this metric instead; can be given again.")
@click.option("--by", multiple=True, help="One row for each value of this key; can be given again.")
@click.option(
    "--contrast",
    "contrasts",
    multiple=True,
    metavar="KEY=A,B",
    help="What going from A to B changes, paired by seed, instead; can be given again.",
)
@click.option("--importance", is_flag=True, help="How much of the variance each key explains, instead.")
@click.option("--uri", help="Tracking store; by default the one of `vae-lab train` in this folder.")
def _compare(
    study: str | None,
    form: str,
    metrics: tuple[str, ...],
    by: tuple[str, ...],
    contrasts: tuple[str, ...],
    importance: bool,
    uri: str | None,
) -> None:
    """Print the ablation tables of STUDY, read from MLflow.

    STUDY is a study's or sweep's name, for its newest multirun, or the id of a parent run. Without it,
    the multiruns of the store are listed. Where seeds repeat, values are means with 95 % intervals, and the
    best are marked only where the seeds show that others are worse.

    \b
    Examples:
      vae-lab compare reference
      vae-lab compare reference --format latex > tables.tex
      vae-lab compare depth --by model.layers --metric test/loss --metric test/kl
      vae-lab compare depth --contrast model.layers=2,3 --contrast model.layers=3,4
      vae-lab compare ablations --importance --metric test/loss
    """
    from vae_lab.cli import compare

    compare.compare(study, form, metrics, by, contrasts, importance, uri)


@commands.command("status")
@click.argument("study", required=False)
@click.option("--all", "every", is_flag=True, help="Finished runs too.")
@click.option("--uri", help="Tracking store; by default the one of `vae-lab train` in this folder.")
def _status(study: str | None, every: bool, uri: str | None) -> None:
    """Say which runs of STUDY are finished, running, interrupted, failed or missing.

    STUDY is a study's or sweep's name, for its newest multirun, or the id of a parent run. Without it, all
    studies are listed. Runs whose process is gone are marked as interrupted; the command that started the
    study, given again, goes on with them after their last finished epoch.

    \b
    Examples:
      vae-lab status
      vae-lab status reference --all
    """
    from vae_lab.cli import status

    status.status(study, every, uri)


@commands.command("verdict")
@click.argument("study")
@click.option("--format", "form", type=click.Choice(FORMATS), default="terminal", show_default=True)
@click.option("--sequential", is_flag=True, help="Seeds were added until the verdicts were clear.")
@click.option("--uri", help="Tracking store; by default the one of `vae-lab train` in this folder.")
def _verdict(study: str, form: str, sequential: bool, uri: str | None) -> None:
    """Judge the claims of STUDY: supported, refuted or undecided, with effect and interval.

    Runs that differ only by seed are paired. The verdicts are also kept on the study's parent run.
    A study whose number of seeds was chosen while looking at its verdicts needs --sequential.

    \b
    Examples:
      vae-lab verdict reference
      vae-lab verdict reference --format markdown > verdicts.md
    """
    from vae_lab.cli import verdict

    verdict.verdict(study, form, sequential, uri)


@commands.command("evaluate")
@click.argument("name", metavar="RUN_OR_STUDY")
@click.argument("overrides", nargs=-1, shell_complete=complete_overrides)
@click.option("--again", is_flag=True, help="Metric runs too that have these measures.")
@click.option(
    "--trust",
    "trusted",
    multiple=True,
    metavar="NAME",
    help="A model class or data function of your own that may be imported; can be given again.",
)
@click.option("--uri", help="Tracking store; by default the one of `vae-lab train` in this folder.")
def _evaluate(
    name: str, overrides: tuple[str, ...], again: bool, trusted: tuple[str, ...], uri: str | None
) -> None:
    """Add measures to finished runs without training them again.

    RUN_OR_STUDY is the id of a run or of a parent run, or a study's name, for its newest multirun. What
    follows are Hydra's overrides of the group `evaluation`, which is `full` unless another is named, and of
    data.root, train.device and train.threads.

    A run names the class of its model and the function that loads its data. Those that are not the lab's own
    are imported only if --trust names them, since a store may hold what others wrote.

    \b
    Examples:
      vae-lab evaluate reference
      vae-lab evaluate reference evaluation.importance_samples=1000 --again
      vae-lab evaluate 8c1f0a2b5d7e4f6a9b3c2d1e0f9a8b7c evaluation.samples=10000
      vae-lab evaluate tempered --trust my_models.Tempered
    """
    from vae_lab.cli import evaluate

    sys.exit(evaluate.evaluate(name, overrides, trusted, uri, again))


@commands.command("report")
@click.argument("study")
@click.option("--output", metavar="FILE.html", help="Where the page goes; by default ./STUDY.html.")
@click.option(
    "--links/--no-links",
    default=True,
    help="Whether it links to the runs in your MLflow.",
)
@click.option("--uri", help="Tracking store; by default the one of `vae-lab train` in this folder.")
def _report(study: str, output: str | None, links: bool, uri: str | None) -> None:
    """Write STUDY as one page: verdicts, tables, curves, samples, setup and how to do it again.

    The page is one HTML file that needs nothing else, for screen, phone and print, with its words and tables
    as Markdown beside it. Both are also kept on the study's parent run.

    \b
    Examples:
      vae-lab report reference
      vae-lab report reference --no-links --output docs/reference.html     a page to be published
    """
    from vae_lab.cli import report

    report.report(study, output, links, uri)


@commands.command("sync")
@click.option("--uri", help="Only the records for this store; by default those for every store.")
@click.option("--to", help="With --uri: deliver them here, as the store has another address now.")
def _sync(uri: str | None, to: str | None) -> None:
    """Deliver records that wait because their store was away.

    While a tracking server does not answer or a database cannot be written, runs go on and their records
    wait in journals on this machine. This delivers them, in order, each once. The exit code is 0 if none is
    left.

    \b
    Examples:
      vae-lab sync
      vae-lab sync --uri http://127.0.0.1:5000 --to http://127.0.0.1:5001
    """
    from vae_lab.cli import sync

    sys.exit(sync.sync(uri, to))


@commands.command("ui")
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True)
@click.option("--uri", help="Tracking store; by default the one of `vae-lab train` in this folder.")
@click.option(
    "--open/--no-open", "browser", default=False, help="Open the page in the browser.", show_default=True
)
def _ui(port: int, uri: str | None, browser: bool) -> None:
    """Serve the MLflow UI on 127.0.0.1 and print the link that shows the runs."""
    from vae_lab.cli import ui

    ui.serve(port, uri, browser)


@commands.command("data")
@click.argument("name", required=False)
@click.option("--root", help="Folder of the files, as data.root.")
@click.option("--svd", is_flag=True, help="Show the singular values of the training images, too.")
@click.option(
    "--latent-size",
    "latent_sizes",
    type=click.IntRange(1),
    multiple=True,
    default=(10, 15, 30),
    show_default=True,
    help="With --svd: a latent size to compare; can be given again.",
)
@click.option("--figure", type=click.Path(dir_okay=False), help="With --svd: draw the spectrum to this file.")
def _data(
    name: str | None, root: str | None, svd: bool, latent_sizes: tuple[int, ...], figure: str | None
) -> None:
    """Fetch and check a data set, and say what is in it; without NAME, list the data sets.

    \b
    Examples:
      vae-lab data mnist
      vae-lab data idx --root ~/my-images
      vae-lab data mnist --svd --figure spectrum.png
    """
    from vae_lab.cli import data

    if figure and not svd:
        raise UserError(f"--figure {figure}: there is nothing to draw without --svd.")
    found = data.describe(name, root)
    if svd:
        if found is None:
            raise UserError("--svd: needs the name of a data set, as in: vae-lab data mnist --svd")
        data.spectrum(found, latent_sizes, figure)


@commands.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
def _completion(shell: str) -> None:
    """Print the completion script of SHELL, which completes groups and keys after `train` too.

    \b
    Examples:
      source <(vae-lab completion bash)          add this line to ~/.bashrc
      vae-lab completion fish > ~/.config/fish/completions/vae-lab.fish
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(commands, {}, "vae-lab", "_VAE_LAB_COMPLETE").source())


def main() -> None:
    """The entry point: runs a command and turns what went wrong into one message and an exit code."""
    try:
        commands(prog_name="vae-lab")
    except LabError as error:
        click.echo(f"vae-lab: {error}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        click.echo(f"vae-lab: {os_error_message(error)}", err=True)
        sys.exit(LabError.exit_code)


__all__ = ["commands", "main"]
