"""The plan of the house: what a stranger counts and reads is what the code does."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tests import house
from tests.conftest import SMALL
from vae_lab import by_hand

DESIGN = (house.ROOT / "docs" / "design.md").read_text()
MOST_NAMES, MOST_LAYERS, MOST_FILES = 23, 11, 25
MOST_FRAMES = {"run": 8, "multirun": 11}  # from `vae-lab train` to the optimizer's step
IN_BACKWARD = 2  # more, to where the backward pass moves a layer's weights


def test_a_stranger_counts_about_twenty_names_at_the_top() -> None:
    assert len(house.names_at_the_top()) <= MOST_NAMES


def test_the_contract_has_few_layers_and_names_every_module() -> None:
    assert len(house.layers()) <= MOST_LAYERS
    assert sorted(name for layer in house.layers() for name in layer) == house.names_at_the_top()
    for room in ("tracking", "jobs"):
        named = {name for layer in house.layers(f"vae_lab.{room}") for name in layer}
        assert named == {path.stem for path in shown_in(house.PACKAGE / room)}


def test_no_room_has_more_files_than_a_stranger_reads() -> None:
    for folder in house.PACKAGE.rglob("*/"):
        assert len([*shown_in(folder)]) <= MOST_FILES, folder


def shown_in(folder: Path) -> Iterator[Path]:
    """The modules and packages in a folder."""
    for path in folder.iterdir():
        if path.stem != "__init__" and (path.suffix == ".py" or (path / "__init__.py").exists()):
            yield path


def test_no_module_imports_from_above_also_not_late_or_for_types() -> None:
    height = {name: -place for place, layer in enumerate(house.layers()) for name in layer}
    for file, tree in house.modules():
        room = file.relative_to(house.PACKAGE).parts[0].removesuffix(".py")
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                continue
            rooms = {name.split(".")[1] for name in names if name.startswith("vae_lab.")} & height.keys()
            if room in height:  # the package's own __init__ stands above all
                assert all(height[other] < height[room] or other == room for other in rooms), file


def test_the_table_of_floors_is_the_contract() -> None:
    rows = re.findall(r"^\| (\d+) \| (.+?) \|", DESIGN, flags=re.MULTILINE)
    floors = [(int(number), set(re.findall(r"`(\w+)`", names))) for number, names in rows]
    assert floors == [(len(house.layers()) - place, layer) for place, layer in enumerate(house.layers())]


def test_every_file_and_function_that_the_design_names_exists() -> None:
    walks = re.findall(r"^\d+\. .*(?:\n   .*)*", DESIGN, flags=re.MULTILINE)
    named = [
        step for walk in walks for step in re.findall(r"`([\w/]+\.py)`((?:.|\n)*?)(?=`[\w/]+\.py`|$)", walk)
    ]
    assert len(named) >= 30
    for path, text in named:
        tree = ast.parse((house.ROOT / path).read_text())
        defined = {
            name
            for node in tree.body
            if isinstance(node, ast.FunctionDef | ast.ClassDef)
            for name in [node.name, *(f"{node.name}.{inner.name}" for inner in _methods(node))]
        }
        assert set(re.findall(r"`([A-Za-z]\w*(?:\.\w+)?)`", text)) <= defined, path


def _methods(node: ast.AST) -> list[ast.FunctionDef]:
    body = node.body if isinstance(node, ast.ClassDef) else []
    return [inner for inner in body if isinstance(inner, ast.FunctionDef)]


def test_every_module_says_in_its_first_line_what_it_is() -> None:
    for file, tree in house.modules():
        first = (ast.get_docstring(tree) or "").partition("\n")[0]
        assert first.endswith((".", "`", ":")), f"{file}: {first}"


@pytest.mark.parametrize(
    "room", ["evaluation", "jobs", "report/charts", "report/tables", "studies/latent_size"]
)
def test_a_package_that_lists_its_modules_leaves_none_out(room: str) -> None:
    text = ast.get_docstring(ast.parse((house.PACKAGE / room / "__init__.py").read_text())) or ""
    listed = re.findall(r"`(\w+)`", text[text.index("- `") :])
    assert sorted(listed) == sorted(path.stem for path in shown_in(house.PACKAGE / room))


def test_no_function_is_longer_than_a_screen() -> None:
    assert house.long_functions() == []


def test_locals_are_named_for_what_they_hold() -> None:
    assert house.locals_that_say_nothing() == []


@pytest.mark.parametrize("kind", ["run", "multirun"])
def test_few_frames_lie_between_the_command_and_the_step(
    kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vae_lab.cli import main

    steps: list[list[str]] = []
    moves: list[list[str]] = []
    step: Callable[[by_hand._Adam], None] = by_hand._Adam.step
    move: Callable[..., object] = torch._fused_adam_

    def stepped(self: by_hand._Adam) -> None:
        steps.append(house.frames_to_here())
        step(self)

    def moved(weights: list[torch.Tensor], *others: object, **numbers: object) -> object:
        if len(weights) > 1:  # not the one weight that tries the optimizer
            moves.append(house.frames_to_here())
        return move(weights, *others, **numbers)

    several = ["-m", "seed=0,1"] if kind == "multirun" else []
    monkeypatch.setattr(by_hand._Adam, "step", stepped)
    monkeypatch.setattr(torch, "_fused_adam_", moved)
    monkeypatch.setattr(sys, "argv", ["vae-lab", "train", *SMALL, "train.epochs=1", *several])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    for stacks, most in ((steps, MOST_FRAMES[kind]), (moves, MOST_FRAMES[kind] + IN_BACKWARD)):
        assert stacks
        assert max(map(len, stacks)) <= most, max(stacks, key=len)
