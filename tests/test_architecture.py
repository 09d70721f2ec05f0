"""Limits that ruff and import-linter have no rule for."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src/vdm"
LONGEST = 40
SOURCES = [path.relative_to(PACKAGE).as_posix() for path in sorted(PACKAGE.rglob("*.py"))]


@pytest.mark.parametrize("source", SOURCES)
def test_no_function_is_longer_than_40_lines(source):
    """From ``def`` to the last line, with the docstring."""
    tree = ast.parse((PACKAGE / source).read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert [f.name for f in functions if f.end_lineno - f.lineno + 1 > LONGEST] == []
