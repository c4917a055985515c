"""The page's function for cameras of more than 8 bits gives the bytes of the Python runtime."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from padim_edge_runtime import image_files

README = Path(__file__).parents[2] / "runtime" / "cpp" / "README.md"

PROGRAM = """
#include <cstdio>
#include <cstdlib>
int main(int, char** arguments) {
  const double lowest = std::atof(arguments[1]), highest = std::atof(arguments[2]);
  for (int value = 0; value < 65536; ++value) std::putchar(eight_bits(value, lowest, highest));
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    found = re.search(r"<!-- levels -->\n```cpp\n(.*?)```", README.read_text(), re.DOTALL)
    assert found
    folder = tmp_path_factory.mktemp("levels")
    (folder / "levels.cpp").write_text(found[1] + PROGRAM)
    command = ["g++", "-std=c++17", "-Wall", "-Wextra", "-Werror", "-O2", "-o", "levels", "levels.cpp"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "levels"


@pytest.mark.parametrize("levels", [(0, 1023), (0, 4095), (0, 16_383), (0, 65_535), (64, 940)])
def test_all_values_become_the_same_bytes(program: Path, levels: tuple[int, int]) -> None:
    values = np.arange(65_536, dtype=np.uint16).reshape(256, 256)
    wanted = np.asarray(image_files.decode(values, levels=levels, keep_grey=True).image)
    found = subprocess.run([program, *map(str, levels)], capture_output=True, check=True).stdout
    assert found == wanted.tobytes()
