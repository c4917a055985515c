"""The options, rounds and committed results that all benchmarks share. These tests are fast."""

from __future__ import annotations

import ast
import importlib
import json
import sys
from pathlib import Path

import pytest

from benchmarks import accuracy_table, quiet, redraw, report
from benchmarks.rivals import page

FOLDER = Path(report.__file__).parent
README = (FOLDER / "README.md").read_text()
COMMANDS = (
    "ablation",
    "accuracy",
    "calibration",
    "cold_start",
    "decisions",
    "fit_memory",
    "gpu",
    "latency",
    "pro",
    "redraw",
    "repeats",
    "scale_out",
    "throughput",
    "timing",
    "verdicts",
)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_is_on_the_page(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as end:
        importlib.import_module(f"benchmarks.{name}").main()
    assert end.value.code == 0
    assert f"usage: python -m benchmarks.{name}" in capsys.readouterr().out
    assert f"python -m benchmarks.{name}" in README


def test_every_committed_result_is_on_the_page() -> None:
    for file in redraw.RESULTS.rglob("*.json"):
        assert f"results/{file.relative_to(redraw.RESULTS).as_posix()}" in README, file.name


def test_no_function_takes_more_than_six_parameters() -> None:
    found = []
    for path in FOLDER.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                each = node.args
                count = len(each.posonlyargs) + len(each.args) + len(each.kwonlyargs)
                own = bool(each.args) and each.args[0].arg in ("self", "cls")
                if count - own > 6:
                    found.append((path.name, node.name))
    assert not found


@pytest.mark.parametrize("name", redraw.TIMINGS)
def test_the_committed_timings_are_those_of_their_page(name: str) -> None:
    """Figures may be rounded another way in their last digit: those of the page were, before they were written."""
    path = redraw.RESULTS / name
    again = page.markdown(page.read(path)).splitlines()
    committed = path.with_suffix(".md").read_text().splitlines()
    rows = [line for line in committed if line.startswith(("| ours", "| anomalib", "| SPADE", "| Patch", "| bare"))]
    assert len(rows) >= len(page.read(path).methods)
    for row in rows:
        name, *figures = row.strip("| ").split(" | ")
        others = [line.strip("| ").split(" | ")[1:] for line in again if line.startswith(f"| {name} | ")]
        assert any(_alike(figures, other) for other in others), row


def _alike(one: list[str], other: list[str]) -> bool:
    if len(one) != len(other):
        return False
    words = [(a, b) for x, y in zip(one, other, strict=True) for a, b in zip(x.split(), y.split(), strict=True)]
    return all(a == b or abs(float(a.replace(",", "")) - float(b.replace(",", ""))) < 0.011 for a, b in words)


def test_the_committed_accuracies_are_those_of_their_page() -> None:
    found = accuracy_table.read(redraw.RESULTS / redraw.ACCURACY)
    committed = (redraw.RESULTS / redraw.ACCURACY).with_suffix(".md").read_text()
    lines = [f"| {' | '.join(line)} |" for line in accuracy_table.table(found.rows, found.targets)]
    assert len(lines) == 36
    for line in lines:
        assert line in committed


@pytest.mark.parametrize("file", sorted(redraw.RESULTS.rglob("*.json")), ids=lambda file: file.stem)
def test_committed_results_can_be_read_and_their_commit_is_on_the_page(file: Path) -> None:
    text = file.read_text()
    assert "picture" not in text
    content = json.loads(text)
    if isinstance(content, dict):
        found = report.read_json(file)
        assert found.results
        assert found.environment.commit.removesuffix("+") in README


class Clock:
    """Neighbours whose shares are known beforehand, then none."""

    def __init__(self, shares: list[float]) -> None:
        self.shares = shares

    def share(self) -> float:
        return self.shares.pop(0) if self.shares else 0.0


def test_noisy_rounds_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.quiet.time.sleep", lambda _: None)
    clock = Clock([0.0, 0.5, 0.0, 0.0, 0.02])  # the third is the wait for quiet after the second
    calls = {name: iter(range(9)).__next__ for name in "ab"}
    turns = quiet.take_turns(calls, 3, 60, lambda: clock)
    assert turns.found == {"a": [0, 2, 3], "b": [0, 2, 3]}
    assert turns.rounds == 4
    assert turns.others == pytest.approx(0.02 / 3)


def test_without_quiet_the_quietest_rounds_are_taken() -> None:
    clock = Clock([0.9, 0.2, 0.5])
    turns = quiet.take_turns({"a": iter(range(9)).__next__}, 3, 0, lambda: clock)
    assert turns.found == {"a": [1, 2, 0]}
    assert quiet.choose([(0.9, "x"), (0.2, "y"), (0.01, "z")], 2) == [(0.01, "z"), (0.2, "y")]


def test_neighbours_are_everybody_but_this_process() -> None:
    pytest.importorskip("psutil")
    clock = quiet.Neighbours(lambda: 0.0)
    sum(range(1_000_000))
    assert 0 < clock.share() <= 1  # told that it has taken nothing, it takes itself for a neighbour
    clock = quiet.Neighbours(iter((0.0, 1e9)).__next__)
    assert clock.share() == 0


def test_a_command_shows_no_folder_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    typed = ["timing", "--data", "/some/where/mvtec", "--work", "/tmp/w", "--methods", "", "--rounds", "3"]
    monkeypatch.setattr(sys, "argv", typed)
    found = report.command("timing", without=("--work",))
    assert found == "python -m benchmarks.timing --data .../mvtec --methods '' --rounds 3"


def test_verdicts() -> None:
    assert report.verdict(report.Target("a", 0.5, None)) == ("a", "at least 0.5000", "undefined", "not reached")
    assert report.verdict(report.Target("a", 0.5, -0.00001, True)) == ("a", "at most 0.5000", "0.0000", "reached")
    assert report.markdown_table(("a", "b"), [("c", "1")]) == "| a | b |\n| --- | --: |\n| c | 1 |"
