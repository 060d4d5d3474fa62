import ast
from pathlib import Path

import pytest

from vae_lab import files
from vae_lab.config.code_version import checksum, instructions

ONE = '''"""Words."""
import os  # a comment


def f(x):
    """More
    words."""
    # why
    text = "# no comment"  # but this is

    table = f"""{x}

    one  """

    return f"{x}" + text
'''
OTHER_WORDS = '''import os
def f(x):
    """Quite other words."""
    text = "# no comment"
    table = f"""{x}

    one  """
    return f"{x}" + text
'''


def test_words_do_not_count(tmp_path: Path) -> None:
    found = []
    for number, text in enumerate((ONE, OTHER_WORDS)):
        (tmp_path / f"{number}.py").write_text(text)
        found.append(checksum([tmp_path / f"{number}.py"]))
    assert found[0] == found[1]
    assert "words" not in instructions(ONE)
    assert '"# no comment"' in instructions(ONE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("+ text", "- text"),
        ('"# no comment"', '"# a comment"'),
        ("import os", "import re"),
        ("f(x)", "f(x, y)"),
    ],
)
def test_every_instruction_counts(tmp_path: Path, old: str, new: str) -> None:
    (tmp_path / "one.py").write_text(ONE)
    (tmp_path / "two.py").write_text(ONE.replace(old, new, 1))
    assert checksum([tmp_path / "one.py"]) != checksum([tmp_path / "two.py"])


def test_what_remains_of_a_module_is_the_same_program() -> None:
    sources = sorted(files.PACKAGE.rglob("*.py"))
    compared = 0
    for file in sources:
        try:
            kept = ast.parse(instructions(file.read_text()))
        except IndentationError:  # a body that was nothing but a docstring
            continue
        assert ast.dump(kept) == ast.dump(without_docstrings(ast.parse(file.read_text()))), file
        compared += 1
    assert compared > 0.8 * len(sources)


def without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and ast.get_docstring(node) is not None
        ):
            del node.body[0]
    return tree
