"""Rules of the house that no linter knows: few parameters, docstrings that stand alone, files of a readable length."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PRODUCT = ("padim_edge", "export", "runtime")
"""Folders with the packages."""
ALL = (*PRODUCT, "tests", "benchmarks", "tools", "examples", "docs")

MOST_LINES = 400
MOST_PARAMETERS = 6

BARE = frozenset(("As", "Of", "Such", "That", "What", "Where"))
"""First words of docstrings that do not say what they are about."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def files(folders: tuple[str, ...]) -> Iterator[Path]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if not {"build", "node_modules", ".venv"} & set(path.parts):
                yield path


def parameters(function: Function) -> int:
    """Number of parameters, `self` and `cls` left out; `*arguments` and `**options` are one each."""
    given = function.args
    names = [each.arg for each in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    names += [each.arg for each in (given.vararg, given.kwarg) if each is not None]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def texts(tree: ast.AST) -> Iterator[ast.Constant]:
    """Yield every docstring, and every string that stands under a field or constant."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.value


def bare(source: str) -> list[int]:
    """Lines of the docstrings that begin with a bare word."""
    return [each.lineno for each in texts(ast.parse(source)) if (each.value.split() or [""])[0] in BARE]


def crowded(source: str) -> list[str]:
    """Names of the functions with too many parameters."""
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, Function)]
    return [each.name for each in functions if parameters(each) > MOST_PARAMETERS]


def test_no_function_outside_the_command_line_takes_more_than_six_parameters() -> None:
    """A command has one parameter for each of its options."""
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in files(PRODUCT)
        if path.parent.name != "cli"
        for name in crowded(path.read_text(encoding="utf-8"))
    ]
    assert not found, "\n".join(found)


def test_no_docstring_begins_with_a_bare_word() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}" for path in files(ALL) for line in bare(path.read_text(encoding="utf-8"))
    ]
    assert not found, "\n".join(found)


def test_no_file_is_longer_than_400_lines() -> None:
    lengths = {path.relative_to(ROOT): len(path.read_text(encoding="utf-8").splitlines()) for path in files(ALL)}
    assert len(lengths) > 200
    assert not {str(path): lines for path, lines in lengths.items() if lines > MOST_LINES}


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ('"""Of all engines."""', [1]),
        ("def f():\n    '''As it is.'''", [2]),
        ('class C:\n    x: int\n    """What it is."""', [3]),
        ('X = 1\n"""\nWhere it is."""', [2]),
        ('"""Offset of the crop."""\nX = "Of"', []),
        ('""""""', []),
    ],
)
def test_a_bare_word_is_found_wherever_a_docstring_may_stand(source: str, lines: list[int]) -> None:
    assert bare(source) == lines


@pytest.mark.parametrize(
    ("signature", "count"),
    [("", 0), ("self, a", 1), ("cls, /, a, *, b=1", 2), ("a, *b, c, **d", 4), ("a, self", 2)],
)
def test_parameters_are_counted_as_a_caller_sees_them(signature: str, count: int) -> None:
    (function,) = ast.parse(f"def f({signature}): ...").body
    assert isinstance(function, ast.FunctionDef)
    assert parameters(function) == count
