"""The real service, killed while two PLCs work with it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_no_part_is_accepted_wrongly_while_the_service_is_killed(tmp_path: Path) -> None:
    """The figures are the benchmark's; how soon a loss is noticed depends on the machine, and is not tested here."""
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "benchmarks.line_plc", "--triggers", "60", "--kills", "3", "--json", str(report)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert report.is_file(), done.stderr
    (found,) = json.loads(report.read_text())["results"]
    assert found["wrong"] == []
    assert found["triggers"] == 60
    assert found["kills"] >= 1
    for plc in found["plcs"].values():
        assert plc["outcomes"]["good: accepted"] > 0
        assert "bad: accepted" not in plc["outcomes"]
