"""Imports go one way, file by file: no circle, lazy imports counted, and no arrow against the layers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from import_graph import LAYERS, PACKAGES, Graph, circles, read, upward


@pytest.fixture(scope="module")
def graph() -> Graph:
    return read()


def test_no_file_imports_itself_around_others(graph: Graph) -> None:
    assert circles(graph) == []


def test_imports_go_down_only(graph: Graph) -> None:
    assert upward(graph) == []


def test_every_package_is_looked_at(graph: Graph) -> None:
    assert {name.split(".")[0] for name in graph.imports} == set(PACKAGES) == {name for row in LAYERS for name in row}
    assert len(graph.imports) > 100
    assert "padim_edge_runtime.devices.providers" in graph.imports["padim_edge_runtime.detector"]
    assert "padim_edge_runtime.detector" in graph.imports["padim_edge_runtime"], "given lazily"


def package(folder: Path, **files: str) -> Graph:
    """The graph of two packages `a` (above) and `b`, from the text of their files; `a__x` is a/x.py."""
    for name, text in {"a____init__": "", "b____init__": "", **files}.items():
        path = folder / f"{name.replace('__', '/', 1)}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return read({"a": folder, "b": folder})


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("from a import y", "from a import x"),
        ("from a.y import thing", "import a.x"),
        ("from .y import thing", "from . import x"),
        ("from a.y import thing", "def late():\n    from a.x import other"),
        (
            "class C:\n    def late(self):\n        try:\n            import a.y\n        finally:\n            pass",
            "import a.x",
        ),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    pass\nelse:\n    import a.y", "import a.x"),
    ],
)
def test_a_circle_is_found(tmp_path: Path, one: str, two: str) -> None:
    assert circles(package(tmp_path, a__x=one, a__y=two)) == [["a.x", "a.y"]]


def test_a_circle_around_three_and_through_a_lazy_package_is_found(tmp_path: Path) -> None:
    front = (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from a.x import thing\n"
        "def __getattr__(name):\n    return __import__('a.x').x.thing\n"
    )
    found = package(tmp_path, a____init__=front, a__x="import a.y", a__y="from a import thing")
    assert circles(found) == [["a", "a.x", "a.y"]]


def test_imports_for_type_checkers_do_not_count(tmp_path: Path) -> None:
    text = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from a.x import thing"
    found = package(tmp_path, a__x="import a.y", a__y=text)
    assert found.imports["a.x"] == {"a.y"}
    assert circles(found) == []


@pytest.mark.parametrize("text", ["import a.x", "def late():\n    from a import x", "from a import thing"])
def test_an_import_that_goes_up_or_sideways_is_found(tmp_path: Path, text: str) -> None:
    found = package(tmp_path, a__x="import b.y", b__y=text)
    assert [each.split(" -> ")[0] for each in upward(found, (("a",), ("b",)))] == ["b.y"]
    assert len(upward(found, (("a", "b"),))) == 2
    assert upward(package(tmp_path, b__y=""), (("a",), ("b",))) == []


@pytest.mark.parametrize("module", ["padim_edge_runtime.cli.options", "padim_edge_runtime.detector"])
def test_each_end_of_the_runtime_can_be_imported_first(module: str) -> None:
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
