"""What tells one version of a module's code from another: its instructions, not its words or its layout."""

from __future__ import annotations

import ast
import hashlib
import io
import tokenize
from collections.abc import Iterable
from importlib.util import decode_source
from pathlib import Path


def checksum(files: Iterable[Path | str]) -> str:
    """Returns sixteen hex digits of what files do.

    In Python, comments, docstrings and empty lines do not count.

    >>> checksum([__file__]) == checksum([Path(__file__)])
    True
    """
    hashed = hashlib.sha256()
    for file in map(Path, files):
        raw = file.read_bytes()
        try:
            hashed.update(instructions(decode_source(raw)).encode() if file.suffix == ".py" else raw)
        except (SyntaxError, UnicodeError):
            hashed.update(raw)
    return hashed.hexdigest()[:16]


def instructions(source: str) -> str:
    """Returns Python source without comments, docstrings and empty lines, alike for every version of Python.

    Raises:
        SyntaxError: It is no Python.

    >>> instructions("x = 1  # one")
    'x = 1'
    """
    lines = source.split("\n")  # not splitlines(), which also ends lines where Python does not
    tree = ast.parse(source)
    docstrings = [_docstring(node) for node in ast.walk(tree)]
    within = {  # lines that end inside of a text, where even an empty one counts
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr | ast.Constant) and node not in docstrings
        for line in range(node.lineno, node.end_lineno or node.lineno)
    }
    starts = {(node.lineno, node.col_offset) for node in docstrings if node is not None}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT or token.start in starts:
            (first, left), (last, right) = token.start, token.end
            # As many signs as there were, so that what else stands on these lines keeps its place.
            lines[first - 1], rest = lines[first - 1][:left], lines[last - 1][right:]
            lines[first:last] = [""] * (last - first)
            lines[last - 1] = lines[last - 1].ljust(right) + rest if rest.strip() else lines[last - 1]
    trimmed = [line if number in within else line.rstrip() for number, line in enumerate(lines, 1)]
    return "\n".join(line for number, line in enumerate(trimmed, 1) if line or number in within)


def _docstring(node: ast.AST) -> ast.Constant | None:
    if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return None
    first = node.body[0] if node.body else None
    value = first.value if isinstance(first, ast.Expr) else None
    return value if isinstance(value, ast.Constant) and isinstance(value.value, str) else None
