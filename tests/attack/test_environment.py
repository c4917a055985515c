"""Environment variables of torchrun that hold nonsense."""

from __future__ import annotations

from pathlib import Path

import commands
import pytest

from padim_edge.sample import draw_good


@pytest.mark.parametrize("variable", ["WORLD_SIZE", "LOCAL_WORLD_SIZE"])
@pytest.mark.parametrize("value", ["many", "-3", "0", "1e3", "9" * 40, ""])
def test_a_number_of_processes_that_is_none_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    from PIL import Image

    (tmp_path / "good").mkdir()
    for number in range(2):
        Image.fromarray(draw_good("bottle", number, size=64)).save(tmp_path / "good" / f"{number}.png")
    monkeypatch.setenv(variable, value)
    arguments = ("--data", tmp_path / "good", "--backbone", "builtin", "--size", "64", "--output", tmp_path / "f.npz")
    _, stderr = commands.run("fit", *arguments, code=1)
    assert f"the environment variable {variable} is {value!r}, expected a number of processes" in stderr
    assert [path.name for path in tmp_path.iterdir()] == ["good"]
