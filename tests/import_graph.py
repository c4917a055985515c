"""The file-level import graph of the packages, read from their source; imports inside functions count."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["LAYERS", "PACKAGES", "Graph", "circles", "read", "upward"]

ROOT = Path(__file__).parents[1]

PACKAGES = {
    "padim_edge": ROOT,
    "padim_edge_export": ROOT / "export",
    "padim_edge_line": ROOT / "runtime",
    "padim_edge_learn": ROOT / "runtime",
    "padim_edge_runtime": ROOT / "runtime",
    "padim_edge_model": ROOT / "runtime",
    "padim_edge_artifact": ROOT / "runtime",
}
"""The packages, and the folder that holds each."""

LAYERS = (
    ("padim_edge",),
    ("padim_edge_export", "padim_edge_line"),
    ("padim_edge_learn",),
    ("padim_edge_runtime",),
    ("padim_edge_model",),
    ("padim_edge_artifact",),
)
"""From the top: a package may import those below its layer, and nothing beside or above it."""


@dataclass(frozen=True)
class Graph:
    """Modules, and what each imports of them."""

    imports: Mapping[str, frozenset[str]]
    """Names of modules, such as `padim_edge.cli` for its `__init__.py` as well as `padim_edge.cli.fit`."""


def read(packages: Mapping[str, Path] = PACKAGES) -> Graph:
    """Read the graph. Imports under `if TYPE_CHECKING` do not count, except where a package gives them lazily."""
    files = {}
    for package, folder in packages.items():
        for path in sorted((folder / package).rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    found = {}
    for name, path in files.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found[name] = frozenset(_targets(tree, name, path, files)) - {name}
    return Graph(found)


def _targets(tree: ast.Module, name: str, path: Path, files: Mapping[str, Path]) -> Iterator[str]:
    # A package whose __init__.py has a __getattr__ imports on demand what it shows to type checkers.
    lazy = path.name == "__init__.py" and any(
        isinstance(node, ast.FunctionDef) and node.name == "__getattr__" for node in tree.body
    )
    for node in _nodes(tree, type_checking=lazy):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in files)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                start = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
                base = ".".join([*start[: len(start) - node.level + 1], *base.split(".")]).strip(".")
            for alias in node.names:
                # `from a import b` means the module a.b where there is one, otherwise something that a itself holds.
                target = f"{base}.{alias.name}"
                if target in files or base in files:
                    yield target if target in files else base


def _nodes(node: ast.AST, *, type_checking: bool) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and not type_checking and "TYPE_CHECKING" in ast.unparse(child.test):
            for other in child.orelse:
                yield other
                yield from _nodes(other, type_checking=type_checking)
            continue
        yield child
        yield from _nodes(child, type_checking=type_checking)


def circles(graph: Graph) -> list[list[str]]:
    """Find the groups of modules that import each other, directly or around (Tarjan's components of 2 or more)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(name: str) -> None:
        order[name] = low[name] = len(order)
        stack.append(name)
        for target in sorted(graph.imports.get(name, ())):
            if target not in order:
                visit(target)
                low[name] = min(low[name], low[target])
            elif target in stack:
                low[name] = min(low[name], order[target])
        if low[name] == order[name]:
            group = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(group) > 1:
                found.append(sorted(group))

    for name in sorted(graph.imports):
        if name not in order:
            visit(name)
    return sorted(found)


def upward(graph: Graph, layers: tuple[tuple[str, ...], ...] = LAYERS) -> list[str]:
    """List the imports that go up or sideways against the layers, as `from -> to`."""
    level = {package: depth for depth, layer in enumerate(layers) for package in layer}
    found = []
    for name, targets in graph.imports.items():
        own = name.split(".")[0]
        for target in targets:
            other = target.split(".")[0]
            if other != own and level[other] <= level[own]:
                found.append(f"{name} -> {target}")
    return sorted(found)
