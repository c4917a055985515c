"""The command as a process: encodings, names that are no text, readers that go away."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import drawn_images
import pytest


def spawn(*arguments: object, **options: Any) -> subprocess.Popen[bytes]:
    """The command in a process of its own, for what happens to a process."""
    command = [sys.executable, "-m", "padim_edge_runtime", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def test_names_that_do_not_fit_the_terminals_encoding_are_printed_somehow(golden: Path, tmp_path: Path) -> None:
    drawn_images.good(1).save(tmp_path / "图片.png")
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1:strict", "PYTHONUTF8": "0"}
    stdout, stderr = spawn("infer", golden, tmp_path, "--device", "cpu", env=environment).communicate(timeout=60)
    assert b"\\u56fe\\u7247.png" in stdout
    assert b"Traceback" not in stderr


def test_names_that_are_no_text_are_judged_and_tabled(golden: Path, tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux has names that are no text")
    raw = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    drawn_images.good(1).save(buffer := io.BytesIO(), "PNG")
    raw.write_bytes(buffer.getvalue())
    arguments = ("infer", golden, raw, "--device", "cpu", "--csv", tmp_path / "t.csv", "--heatmaps", tmp_path / "heat")
    process = spawn(*arguments)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert stdout.startswith(b"good")
    assert "caf\\udce9.png" in (tmp_path / "t.csv").read_text(encoding="utf-8")
    assert [os.fsencode(path.name) for path in (tmp_path / "heat").iterdir()] == [b"caf\xe9.png"]


@pytest.mark.parametrize("table", [True, False])
def test_a_reader_that_goes_away_ends_it_quietly(golden: Path, tmp_path: Path, table: bool) -> None:
    """`padim-edge infer ... | head -1` ends with exit code 1, and complains about nothing else."""
    folder = tmp_path / "many"
    folder.mkdir()
    for i in range(3):
        drawn_images.good(i).save(folder / f"{i}.png")
    process = spawn("infer", golden, folder, "--device", "cpu", *(("--csv", tmp_path / "t.csv") if table else ()))
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    stderr = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 1
    assert stderr == b""
    assert not (tmp_path / "t.csv").exists()


def test_ctrl_c_inside_exec_ends_with_exit_code_1(tmp_path: Path) -> None:
    """Under `python -m`, Python would end by the signal if Ctrl-C ever arrived inside `exec`, as dataclasses use it."""
    (tmp_path / "stopped.py").write_text(
        "from padim_edge_runtime.cli import app, main\n"
        "@app.command()\n"
        "def stop() -> None:\n"
        "    print('so far')\n"
        "    exec('raise KeyboardInterrupt')\n"
        "main()\n"
    )
    command = [sys.executable, "-m", "stopped", "stop"]
    process = subprocess.run(command, check=False, cwd=tmp_path, capture_output=True, timeout=60)
    assert process.returncode == 1, process.stderr
    assert process.stdout.split() == [b"so", b"far"]
    assert process.stderr.decode().strip() == "padim-edge: interrupted; nothing unfinished stands under a final name"


@pytest.mark.parametrize(("world", "tidied"), [("1", "and tidied up"), ("2", "")])
def test_one_process_of_several_ends_without_tearing_the_interpreter_down(
    world: str, tidied: str, tmp_path: Path
) -> None:
    """Threads of torch may ask for the interpreter while it is torn down, which aborts the process."""
    (tmp_path / "ended.py").write_text(
        "import atexit\n"
        "from padim_edge_runtime.cli import app, main\n"
        "@app.command()\n"
        "def end() -> None:\n"
        "    print('so far')\n"
        "    atexit.register(print, 'and tidied up')\n"
        "main()\n"
    )
    command = [sys.executable, "-m", "ended", "end"]
    environment = {**os.environ, "WORLD_SIZE": world}
    process = subprocess.run(command, check=False, cwd=tmp_path, env=environment, capture_output=True, timeout=60)
    assert process.returncode == 0, process.stderr
    assert process.stdout.decode().split("\n")[:-1] == ["so far", *([tidied] if tidied else [])]
