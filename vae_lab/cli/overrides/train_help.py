"""The page of `vae-lab train --help`: groups, keys and their meaning, read from the YAML files themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import yaml
from rich.table import Table
from rich.text import Text

from vae_lab.files import CONF, CONFIG_ROOT
from vae_lab.report.terminal import Terminal

LINE = re.compile(r"^(?P<indent> *)(?P<key>\w+):\s*(?P<value>[^#]*?)\s*(?:#\s*(?P<meaning>.*))?$")
HYDRAS = "hydra"  # keys that are Hydra's own
LAUNCHERS = {  # of a multirun; the first is the default
    "workers": "As many runs at a time as the CPU has cores, on a GPU one: hydra.launcher.workers=N.",
    "stacked": "Runs of one architecture trained as one model, at most hydra.launcher.stack=16.",
    "ray": "On workers of Ray, here or on several machines: hydra.launcher.address=auto (docs/scale.md).",
    "basic": "One run after another (Hydra's own).",
}

INTRODUCTION = """\
[bold]vae-lab train[/bold] \\[FLAGS] \\[GROUP=OPTION] \\[KEY=VALUE] ...

Trains one run, or many: give lists of values, a sweep or a study. MLflow records them.

[bold]Examples[/bold]
  vae-lab train                                            one VAE on MNIST, ten epochs
  vae-lab train model=cvae model.latent_size=30            a CVAE with 30 latent dimensions
  vae-lab train data=digits train.epochs=3                 twelve seconds on 8 x 8 digits
  vae-lab train -m model.layers=2,3,4 seed=0,1,2           every combination
  vae-lab train sweeps=depth seed=0,1,2                    a named sweep, three seeds
  vae-lab train experiments=reference                      a named study
  vae-lab train --config-dir my_configs model=mine         with a folder of your own configs
"""
FLAGS = """\
[bold]Flags[/bold] (Hydra's)
  -m, --multirun       run every combination of values given as lists
  --cfg job            print the composed config and stop
  --config-dir DIR     add a folder of configs
  --info, --hydra-help what Hydra found, and all of its flags
"""


def show() -> None:
    """Prints the page of `vae-lab train --help`."""
    console = Terminal()
    console.print(Text.from_markup(INTRODUCTION))
    console.print(Text.from_markup("[bold]Groups[/bold]: choose with GROUP=OPTION"))
    console.print(_groups())
    console.print(Text.from_markup("\n[bold]Keys[/bold]: set with KEY=VALUE"))
    console.print(_keys())
    console.print(Text.from_markup(FLAGS))


def _plain_table() -> Table:
    return Table(box=None, show_header=False, padding=(0, 2, 0, 2))


def _groups() -> Table:
    table = _plain_table()
    for folder in [
        *filter(Path.is_dir, sorted(CONF.iterdir())),
        CONFIG_ROOT / "sweeps",
        CONFIG_ROOT / "experiments",
    ]:
        for i, file in enumerate(sorted(folder.glob("*.yaml"))):
            table.add_row(folder.name if i == 0 else "", file.stem, first_comment(file))
    for i, (launcher, meaning) in enumerate(LAUNCHERS.items()):
        table.add_row("hydra/launcher" if i == 0 else "", launcher, meaning)
    return table


def _keys() -> Table:
    table = _plain_table()
    for key, default, meaning in documented_keys():
        table.add_row(key, default, meaning)
    return table


def first_comment(file: Path) -> str:
    """Returns what a YAML file says in its first comment."""
    lines = (
        line[1:].strip() for line in file.read_text(encoding="utf-8").splitlines() if line.startswith("#")
    )
    return next((line for line in lines if not line.startswith("@package")), "")


def documented_keys() -> Iterator[tuple[str, str, str]]:
    """Yields key, default and meaning of everything in the lab's default config but Hydra's part.

    >>> next(documented_keys())[:2]
    ('data.name', 'mnist')
    """
    defaults = yaml.safe_load((CONF / "config.yaml").read_text(encoding="utf-8"))["defaults"]
    for entry in defaults:
        if not isinstance(entry, dict):
            continue
        ((group, option),) = entry.items()
        if option is not None and (CONF / group).is_dir():
            for key, value, meaning in _lines(CONF / group / f"{option}.yaml"):
                yield f"{group}.{key}", value, meaning
    for key, value, meaning in _lines(CONF / "config.yaml"):
        if meaning and value:
            yield key, value, meaning


def _lines(file: Path) -> Iterator[tuple[str, str, str]]:
    """Yields the keys of a file, those one level down as `section.key`."""
    section = ""
    for line in file.read_text(encoding="utf-8").splitlines():
        match = LINE.match(line)
        if match is None or match["key"] in ("defaults", "_target_"):
            continue
        if not match["indent"]:
            section = match["key"]
            yield section, match["value"], match["meaning"] or ""
        elif section != HYDRAS:
            yield f"{section}.{match['key']}", match["value"], match["meaning"] or ""
