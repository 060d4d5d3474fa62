"""The plan of the house as numbers: names, layers, frames, lines. `python -m tests.house` prints them."""

from __future__ import annotations

import ast
import sys
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "vae_lab"
LONGEST = 40  # lines of a function
SAYS_NOTHING = {"found", "each"}  # names that could stand for anything


def modules(*folders: Path) -> Iterator[tuple[Path, ast.Module]]:
    """Yields every Python file below folders, parsed."""
    for folder in folders or (PACKAGE,):
        for file in sorted(folder.rglob("*.py")):
            yield file, ast.parse(file.read_text())


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yields every function and method in a parsed file."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def names_at_the_top() -> list[str]:
    """Returns the names of modules and packages that a stranger sees first."""
    shown = (path for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists())
    return sorted(path.stem for path in shown if path.stem not in ("__init__", "__main__"))


def layers(container: str = "vae_lab") -> list[set[str]]:
    """Returns the layers of a package by its import contract, the highest first, each with its modules."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = settings["tool"]["importlinter"]["contracts"]
    (wanted,) = (contract for contract in contracts if contract["containers"] == [container])
    return [set(layer.split(" | ")) for layer in wanted["layers"]]


def long_functions() -> list[str]:
    """Returns the functions that have more than `LONGEST` lines."""
    return [
        f"{file.relative_to(ROOT)}:{node.lineno} {node.name}"
        for file, tree in modules(PACKAGE, ROOT / "hydra_plugins")
        for node in functions(tree)
        if node.end_lineno is not None and node.end_lineno - node.lineno >= LONGEST
    ]


def locals_that_say_nothing() -> list[str]:
    """Returns the places where a local variable or an argument has a name of `SAYS_NOTHING`."""
    places = []
    for file, tree in modules(PACKAGE, ROOT / "hydra_plugins"):
        for node in ast.walk(tree):
            name = ""
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                name = node.id
            elif isinstance(node, ast.arg):
                name = node.arg
            if name in SAYS_NOTHING and isinstance(node, ast.expr | ast.arg):
                places.append(f"{file.relative_to(ROOT)}:{node.lineno} {name}")
    return places


def lines(folder: Path = PACKAGE) -> int:
    """Returns the number of lines of Python below a folder."""
    return sum(len(file.read_text().splitlines()) for file in folder.rglob("*.py"))


def own_frames(frame: FrameType | None) -> list[str]:
    """Returns the lab's own functions on a stack, the innermost first."""
    stack = []
    while frame is not None:
        file = Path(frame.f_code.co_filename)
        if file.is_relative_to(PACKAGE) or file.is_relative_to(ROOT / "hydra_plugins"):
            stack.append(f"{file.relative_to(ROOT)}:{frame.f_code.co_name}")
        frame = frame.f_back
    return stack


def frames_to_here() -> list[str]:
    """Returns the lab's own functions that lead here, those of the main thread before a worker's."""
    stack = own_frames(sys._getframe(1))
    main = threading.main_thread().ident
    if threading.get_ident() != main and main is not None:
        stack += own_frames(sys._current_frames().get(main))
    return stack


if __name__ == "__main__":
    print(f"names at the top        {len(names_at_the_top())}")
    print(f"layers in the contract  {len(layers())}, in tracking {len(layers('vae_lab.tracking'))}")
    print(f"functions over {LONGEST} lines {len(long_functions())}")
    print(f"locals found or each    {len(locals_that_say_nothing())}")
    print(f"lines                   {lines()}, of tracking {lines(PACKAGE / 'tracking')}")
