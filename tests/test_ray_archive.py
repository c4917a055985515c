"""The example for archives: every image has one row, as `infer` gives it, whatever dies on the way."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import drawn_images
import golden
import pytest
import wheels
from archive_process import EXAMPLE, PATIENCE, ended, kill, processes, rows_of, started, wait_for_parts

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

NEEDED = ("ray[data]>=2.50", "fsspec", "s3fs", "moto[server]")
"""Packages of the group `archive`, 430 MB, which few users of this package want, and an S3 to test with."""
LOAD = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("ray_archive", sys.argv[1])
archive = sys.modules["ray_archive"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(archive)
"""
BUCKET = """
import fsspec, json
memory = fsspec.filesystem("memory")
names = ("b/2.png", "b/1.JPG", "a.png", ".hidden/x.png", "notes.txt")
for name in names:
    memory.pipe_file("/shop/" + name, b"image")
images, told = archive.listed("memory://shop")
cut = list(archive.parts(images, set(), 2))
row = lambda image: {"path": image.shown, "size": image.size, "stamp": image.stamp, "verdict": "good"}
archive.write("memory://out/model=1", archive.name_of(cut[0]), archive.encoded([row(each) for each in cut[0]]))
archive.write("memory://out/model=1", archive.name_of(cut[0]), archive.encoded([row(each) for each in cut[0]]))
done = {key for (key,) in archive.finished("memory://out/model=1")}
left = list(archive.parts(images, done, 2))
memory.pipe_file("/shop/a.png", b"another")
again, _ = archive.listed("memory://shop")
undone = list(archive.parts(again, done, 2))
json.dump({
    "names": [each.name for each in images],
    "told": told,
    "cut": [[each.name for each in part] for part in cut],
    "left": [[each.name for each in part] for part in left],
    "undone": [[each.name for each in part] for part in undone],
    "same name": archive.name_of(left[0]) == archive.name_of(cut[1]),
    "files": len(memory.glob("/out/model=1/*")),
    "new": archive.name_of(undone[0]) not in (archive.name_of(cut[0]), archive.name_of(cut[1])),
}, sys.stdout)
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has Ray: this one, or one of an environment that is made here."""
    if sys.platform != "linux":
        pytest.skip("the workers are found in /proc, which this system has not")
    if all(find_spec(name) for name in ("ray", "pyarrow", "fsspec")):
        return Path(sys.executable)
    folder = tmp_path_factory.mktemp("archive")
    wheel = wheels.runtime(folder)
    wheels.uv("venv", "--python", sys.executable, folder / "venv", cwd=folder)
    program = folder / "venv" / "bin" / "python"
    wheels.uv("pip", "install", "--python", program, f"{wheel}[cpu]", *NEEDED, cwd=folder)
    return program


def once(rows: list[dict[str, Any]], source: Path) -> None:
    """Each image of a folder has exactly one row."""
    wanted = {path.relative_to(source).as_posix() for path in source.rglob("*.png")}
    counts = Counter(row["path"] for row in rows)
    assert set(counts) == wanted
    assert set(counts.values()) == {1}


def many(folder: Path, count: int) -> Path:
    """A folder with as many images, of which only a few differ."""
    folder.mkdir()
    drawn = folder.with_name("drawn.png")
    drawn_images.good(70).save(drawn)
    for number in range(count):
        part = folder / f"lot {number % 5}" / f"{number:05d}.png"
        part.parent.mkdir(exist_ok=True)
        os.link(drawn, part)
    return folder


def test_rows_are_those_of_infer_and_what_is_done_is_not_done_again(python: Path, tmp_path: Path) -> None:
    model, source, output = golden.copy(golden.CROPPED, tmp_path), tmp_path / "images", tmp_path / "out"
    (source / "lot 1").mkdir(parents=True)
    for number in range(12):
        image = drawn_images.defective(number)[0] if number % 4 == 0 else drawn_images.good(number)
        image.save(source / "lot 1" / f"{number}.png")
    (source / "cut.png").write_bytes((source / "lot 1" / "1.png").read_bytes()[:300])
    infer = subprocess.run(
        [python, "-m", "padim_edge_runtime", "infer", model, source, "--json", "--device", "cpu"],
        capture_output=True,
        text=True,
        check=False,
    )
    expected = {
        Path(each["path"]).relative_to(source).as_posix(): each for each in map(json.loads, infer.stdout.splitlines())
    }
    assert len(expected) == 13

    run = (model, source, output, "--workers", 2, "--part", 5)
    # Ray looks for `uv run` among its ancestors, and would start workers by the project in the current folder.
    uv_run = [shutil.which("uv"), "run", "--no-sync"] if shutil.which("uv") else []
    assert "0 open, 0 twice" in ended(started(python, *run, by=uv_run))
    rows = rows_of(python, output)
    once(rows, source)
    for row in rows:
        said = expected[row["path"]]
        if said["verdict"] == "unreadable":
            assert row["verdict"] == "unreadable"
            assert row["error"]
            assert row["score"] is None
            continue
        for name in said.keys() - {"path", "milliseconds"}:  # scores bit for bit
            assert row[name] == said[name], name
        assert row["size"] == (source / row["path"]).stat().st_size
    (parts,) = output.iterdir()
    before = {path: path.stat().st_mtime_ns for path in parts.glob("*.parquet")}
    assert not list((parts / "_begun").iterdir()), "no note is left of what is done"

    shutil.copyfile(source / "lot 1" / "1.png", source / "new.png")
    os.utime(source / "lot 1" / "2.png", ns=(1, 1))
    assert "0 open, 0 twice" in ended(started(python, *run))
    assert {path: path.stat().st_mtime_ns for path in before} == before
    counts = Counter(row["path"] for row in rows_of(python, output))
    assert counts.pop("lot 1/2.png") == 2, "a file that has changed is judged again"
    assert counts.keys() == expected.keys() - {"lot 1/2.png"} | {"new.png"}
    assert set(counts.values()) == {1}


def test_four_workers_of_which_one_is_killed_lose_nothing(python: Path, tmp_path: Path) -> None:
    source, output, mark = many(tmp_path / "images", 3000), tmp_path / "out", uuid.uuid4().hex
    process = started(python, golden.WHOLE, source, output, "--workers", 4, "--part", 25, mark=mark)
    wait_for_parts(output, 3, process)
    kill(mark)
    assert len(list(output.rglob("part-*.parquet"))) < 100, "it was killed too late"
    assert "0 open, 0 twice" in ended(process)
    once(rows_of(python, output), source)


def test_a_run_that_is_killed_goes_on_where_it_was(python: Path, tmp_path: Path) -> None:
    source, output, mark = many(tmp_path / "images", 3000), tmp_path / "out", uuid.uuid4().hex
    run = (golden.WHOLE, source, output, "--workers", 2, "--part", 25)
    process = started(python, *run, mark=mark)
    wait_for_parts(output, 3, process)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + PATIENCE
    while processes(mark) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not processes(mark), "Ray's processes end with the run"
    there = {path: path.stat().st_mtime_ns for path in output.rglob("part-*.parquet")}
    assert 3 <= len(there) < 120
    assert "0 open, 0 twice" in ended(started(python, *run))
    once(rows_of(python, output), source)
    assert {path: path.stat().st_mtime_ns for path in there} == there


def test_a_bucket_is_listed_cut_and_written_by_name_size_and_stamp(python: Path) -> None:
    """Object storage in memory; Ray's workers are other processes, which would not see it."""
    done = subprocess.run([python, "-I", "-c", LOAD + BUCKET, EXAMPLE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "names": ["a.png", "b/1.JPG", "b/2.png"],
        "told": ["passed over: 2 files, hidden or without the ending of an image"],
        "cut": [["a.png", "b/1.JPG"], ["b/2.png"]],
        "left": [["b/2.png"]],
        "undone": [["a.png"], ["b/2.png"]],
        "same name": True,
        "files": 1,
        "new": True,
    }


RACE = """
for part in range(3):
    row = {"path": f"{part}.png", "size": 1, "stamp": "", "verdict": "good"}
    archive.write(sys.argv[2], f"part-{part}.parquet", archive.encoded([row]))
assert len(list(archive.finished(sys.argv[2]))) == 3
"""


def test_a_run_that_ends_when_it_has_read_its_parts_ends_well(python: Path, tmp_path: Path) -> None:
    """A thread of Arrow's that frees what is Python's after Python's end aborts the run; that was one of fourteen."""

    def run(number: int) -> int:
        return subprocess.run(
            [python, "-I", "-c", LOAD + RACE, EXAMPLE, tmp_path / str(number)], check=False
        ).returncode

    with ThreadPoolExecutor(4) as runs:  # more than the cores, so that threads are late
        assert set(runs.map(run, range(24))) == {0}


@pytest.mark.parametrize("wrong", ["model", "source"])
def test_what_is_not_there_is_said_in_a_sentence(python: Path, tmp_path: Path, wrong: str) -> None:
    model = tmp_path / "none.onnx" if wrong == "model" else golden.WHOLE
    done = subprocess.run(
        [python, EXAMPLE, model, tmp_path / "none", tmp_path / "out"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "none" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


S3 = """
import fsspec, os, subprocess, sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
_, port = server.get_host_and_port()
os.environ.update(
    AWS_ACCESS_KEY_ID="a", AWS_SECRET_ACCESS_KEY="b", AWS_DEFAULT_REGION="us-east-1",
    AWS_ENDPOINT_URL=f"http://127.0.0.1:{port}",
)
example, model, folder = sys.argv[1:]
s3 = fsspec.filesystem("s3")
s3.mkdir("shop")
s3.put(folder, "shop/images", recursive=True)
s3.pipe_file("shop/images/bad.png", b"nothing")
for _ in range(2):
    command = [sys.executable, example, model, "s3://shop/images", "s3://shop/out", "--workers", "2", "--part", "7"]
    done = subprocess.run(command, capture_output=True, text=True)
    print(done.returncode, done.stderr.splitlines()[-1], flush=True)
s3.invalidate_cache()
s3.get("shop/out", folder + "/../out", recursive=True)
os._exit(0)
"""


def test_a_bucket_of_s3_is_judged_and_not_judged_again(python: Path, tmp_path: Path) -> None:
    """A server of S3 that runs here stands for the real one."""
    source = many(tmp_path / "images", 20)
    done = subprocess.run(
        [python, "-c", S3, EXAMPLE, golden.WHOLE, source], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    if "No module named" in done.stderr:
        pytest.skip("moto or s3fs is not installed")
    first, second = done.stdout.splitlines()
    assert first.startswith("0 20 good, 1 unreadable; 0 open, 0 twice"), done.stderr
    assert second.startswith("0 20 good, 1 unreadable; 0 open, 0 twice"), "nothing was left to do"
    assert len(list((tmp_path / "out").rglob("part-*.parquet"))) == 3
    assert len(rows_of(python, tmp_path / "out")) == 21
