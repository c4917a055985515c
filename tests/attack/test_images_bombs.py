"""Bombs are refused or judged at a bounded cost, measured in a child with a limit and a watchdog."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from attack.bombs import BOMBS

from padim_edge_artifact import ImageError
from padim_edge_runtime import image_files
from padim_edge_runtime.image_formats import readable

COST = 14
"""Cost of a bomb at most, in units of unpacking 256 MiB of zeros in the same process. The dearest one costs 8 to 9."""
WATCHDOG = 60.0
"""Seconds after which a child is ended, on a busy machine."""
MOST = 1 << 30
"""Bytes that the whole process may hold."""
ADDRESSES = 3 << 29
"""Limit of the address space of a child in bytes."""
SMALL = ("side.bmp", "tile.tif", "circle.tif", "canvas.webp", "exif.jpg", "scans.jpg", "heavy-tags.tif")
"""Bombs that are made in milliseconds and refused by their heads."""

CHILD = f"""
import json, resource, sys, time, zlib
from pathlib import Path
import numpy as np
from padim_edge_runtime import ImageError, image_files
from padim_edge_runtime.memory import peak_memory
from padim_edge_artifact import Preprocessing
resource.setrlimit(resource.RLIMIT_AS, ({ADDRESSES}, {ADDRESSES}))
begin, error = time.process_time(), None
try:
    decoded = image_files.read(Path(sys.argv[1]), keep_grey=True)
    image_files.prepare(decoded.pixels, Preprocessing((224, 224), None, "bicubic"))
except ImageError as refused:
    error = str(refused)
seconds, peak, zeros = time.process_time() - begin, peak_memory(), zlib.compress(bytes(1 << 28), 1)
begin = time.process_time()
zlib.decompress(zeros)
print(json.dumps([seconds, peak, error, time.process_time() - begin]))
"""

JUDGED = {"black.png", "odd.pgm", "one.gif", "runs.tga"}
"""Bombs that cost little enough to be read."""


@pytest.mark.parametrize("name", SMALL)
def test_a_bomb_is_refused_by_its_head(tmp_path: Path, name: str) -> None:
    (path := tmp_path / name).write_bytes(BOMBS[name]())
    begin = time.process_time()
    with pytest.raises(ImageError) as refused:
        image_files.read(path)
    assert time.process_time() - begin < 1
    assert "\n" not in str(refused.value)
    assert name in str(refused.value)


@pytest.mark.slow
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_costs_little(tmp_path: Path, name: str, record_property: pytest.RecordProperty) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux limits the address space and tells the peak of the memory")
    if name.endswith(".jp2") and "JPEG2000" not in readable():
        pytest.skip("this Pillow has no JPEG 2000")
    (path := tmp_path / name).write_bytes(BOMBS[name]())
    command = [sys.executable, "-c", CHILD, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WATCHDOG, check=False)
    assert done.returncode == 0, done.stderr
    seconds, peak, error, unit = json.loads(done.stdout)
    told = {"seconds": seconds, "unit": unit, "MB": peak / 1e6, "bytes": path.stat().st_size, "error": error}
    for key, value in told.items():
        record_property(key, value)
    print(f"{name}: {path.stat().st_size} bytes, {seconds:.2f} s, {peak / 1e6:.0f} MB, {error}")
    assert seconds < COST * unit
    assert peak < MOST
    assert (error is None) == (name in JUDGED), error
