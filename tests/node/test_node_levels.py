"""The page's lines for cameras of more than 8 bits give the bytes of the Python runtime."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import golden as files
import numpy as np
import pytest

from padim_edge_runtime import image_files

README = Path(__file__).parents[2] / "runtime" / "node" / "README.md"

PROGRAM = """
import { readFileSync } from "node:fs";
const found = levels(readFileSync(process.argv[2], "latin1"));
const bytes = found && Array.from(eightBits(Uint16Array.from({ length: 65536 }, (_, value) => value), found));
console.log(JSON.stringify([found, bytes]));
"""


def judged(folder: Path, model: Path) -> tuple[list[float] | None, list[int] | None]:
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    found = re.search(r"<!-- levels -->\n```js\n(.*?)```", README.read_text(), re.DOTALL)
    assert found
    (folder / "levels.mjs").write_text(found[1] + PROGRAM)
    done = subprocess.run(
        ["node", "levels.mjs", str(model)], cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    levels, pixels = json.loads(done.stdout)
    return levels, pixels


@pytest.mark.parametrize("levels", [(0, 1023), (0, 4095), (0, 65_535), (64, 940)])
def test_all_values_become_the_same_bytes(tmp_path: Path, levels: tuple[int, int]) -> None:
    def change(metadata: dict[str, dict[str, dict[str, object]]]) -> None:
        metadata["method"]["preprocessing"]["levels"] = list(levels)

    model = files.rewrite(files.WHOLE, tmp_path / "deep.onnx", change)
    values = np.arange(65_536, dtype=np.uint16).reshape(256, 256)
    wanted = np.asarray(image_files.decode(values, levels=levels, keep_grey=True).image)
    assert judged(tmp_path, model) == (list(levels), wanted.ravel().tolist())


def test_a_model_of_8_bits_has_no_range(tmp_path: Path) -> None:
    def change(metadata: dict[str, dict[str, dict[str, object]]]) -> None:
        metadata["method"]["preprocessing"]["levels"] = None

    model = files.rewrite(files.WHOLE, tmp_path / "plain.onnx", change)
    assert judged(tmp_path, model) == (None, None)
