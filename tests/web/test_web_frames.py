"""The page's way of an image into the frame, its regions and its comparison, in Node: the bytes and words of Python."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden import WHOLE

from padim_edge_artifact import Preprocessing
from padim_edge_artifact.container import read_metadata
from padim_edge_artifact.self_test import probe_image
from padim_edge_model.comparable import check_frame
from padim_edge_runtime import image_files
from padim_edge_runtime.regions import find_regions

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")

PAGE = Path(__file__).parents[2] / "examples" / "web"

PROGRAM = """
import { readFileSync, writeFileSync } from "node:fs";
const { prepare, pixelsOf } = await import(process.argv[2] + "/resize.js");
const { findRegions } = await import(process.argv[2] + "/regions.js");
const { metadataOf, probe, verified } = await import(process.argv[2] + "/model-file.js");
const { referenceOf, warningsOf } = await import(process.argv[2] + "/comparable.js");
const tasks = JSON.parse(readFileSync(0, "utf8"));
const model = readFileSync(tasks.model), metadata = metadataOf(model), reference = referenceOf(metadata);
for (const { from, width, height, way, to } of tasks.frames)
  writeFileSync(to, prepare(pixelsOf(readFileSync(from), width, height), way).data);
writeFileSync(tasks.probe, probe([100, 333]));
const { map, size, threshold, way, width, height } = tasks.regions;
console.log(JSON.stringify({
  regions: findRegions(Float32Array.from(map), size, threshold, way, { width, height }),
  warnings: tasks.compared.map(({ from, distance }) =>
    warningsOf(pixelsOf(readFileSync(from), 64, 64), new Float32Array(tasks.patches).fill(distance), reference)),
  verified: [await verified(model, null, metadata), await verified(model.subarray(1), null, metadata)],
  threshold: metadata.threshold,
}));
"""

WAYS = [
    Preprocessing((224, 224), None, "bicubic"),
    Preprocessing((256, 240), (224, 224), "bilinear"),
    Preprocessing((97, 211), (64, 201), "binned-bicubic"),
    Preprocessing((64, 64), None, "binned-bilinear"),
    Preprocessing((64, 64), None, "bicubic", camera=(120, 160)),
]
SIZES = [(512, 512), (900, 900), (33, 701), (64, 64), (480, 640), (97, 300), (1030, 411), (10, 8)]
"""(height, width) of images: larger, smaller and as large as the frames; blocks that the border cuts."""

DISTANCE = 0.1
"""Patch distance of a frame that is like the good ones."""


def given(way: Preprocessing) -> dict[str, Any]:
    """The fields of the metadata."""
    return {
        "resize": way.resize,
        "crop": way.crop,
        "interpolation": way.interpolation,
        "camera": way.camera,
    }


@pytest.fixture(scope="module")
def frames() -> list[np.ndarray]:
    """Frames of 64 pixels: like the good ones, moved, turned, dark, flat."""
    image = image_files.prepare(np.asarray(_good()), read_metadata(WHOLE).preprocessing)
    dark = (image * 0.4).astype(np.uint8)
    flat = np.full_like(image, 120)
    return [image, np.roll(image, 20, axis=1), np.rot90(image).copy(), np.rot90(image, 2).copy(), dark, flat]


def _good() -> Any:
    import drawn_images

    return drawn_images.good(70)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory, frames: list[np.ndarray]) -> tuple[dict[str, Any], Path]:
    """Answers of the page's modules, in one process, and the folder of what they wrote."""
    folder = tmp_path_factory.mktemp("frames")
    draw = np.random.default_rng(5)
    tasks: dict[str, Any] = {"model": str(WHOLE), "frames": [], "probe": str(folder / "probe")}
    for k, (height, width) in enumerate(SIZES):
        draw.integers(0, 256, (height, width, 3), np.uint8).tofile(folder / f"{k}.rgb")
        for number, way in enumerate(WAYS):
            paths = {"from": str(folder / f"{k}.rgb"), "to": str(folder / f"{k}-{number}.rgb")}
            tasks["frames"].append({**paths, "width": width, "height": height, "way": given(way)})
    tasks["compared"] = []
    for k, frame in enumerate(frames):
        frame.tofile(folder / f"frame-{k}")
        for distance in (DISTANCE, 1e6):
            tasks["compared"].append({"from": str(folder / f"frame-{k}"), "distance": distance})
    h, w = read_metadata(WHOLE).grid
    tasks["patches"] = h * w
    map_, way = region_map(), WAYS[1]
    tasks["regions"] = {
        "map": map_.ravel().tolist(),
        "size": map_.shape,
        "threshold": 0.6,
        "way": given(way),
        "width": 901,
        "height": 640,
    }
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "program.js").write_text(PROGRAM)
    done = subprocess.run(
        ["node", "program.js", PAGE.as_uri()],
        cwd=folder,
        input=json.dumps(tasks),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), folder


def region_map() -> np.ndarray:
    """A map with several regions, some of which touch at a corner only."""
    draw = np.random.default_rng(8).random((224, 224)).astype(np.float32)
    draw[::3] *= 0.5
    draw[:, ::4] *= 0.5
    draw[:60, :60] = 0
    draw[5:9, 5:30] = np.linspace(0.5, 2, 25, dtype=np.float32)
    return draw


@pytest.mark.parametrize("number", range(len(WAYS)), ids=lambda number: WAYS[number].interpolation)
@pytest.mark.parametrize("k", range(len(SIZES)), ids=lambda k: "x".join(map(str, SIZES[k])))
def test_a_frame_has_the_bytes_of_python(answers: tuple[dict[str, Any], Path], k: int, number: int) -> None:
    folder = answers[1]
    image = np.fromfile(folder / f"{k}.rgb", np.uint8).reshape(*SIZES[k], 3)
    expected = image_files.prepare(image, WAYS[number])
    found = np.fromfile(folder / f"{k}-{number}.rgb", np.uint8)
    assert np.array_equal(found, expected.ravel())


def test_regions_are_those_of_python(answers: tuple[dict[str, Any], Path]) -> None:
    expected = find_regions(region_map(), 0.6, WAYS[1], 901, 640)
    found = answers[0]["regions"]
    assert len(found) == len(expected) > 100
    key = [(tuple(each["box"]), each["area"], tuple(each["peak"]), each["score"]) for each in found]
    assert sorted(key) == sorted((each.box, each.area, each.peak, each.score) for each in expected)
    assert [each["score"] for each in found] == [each.score for each in expected]


def test_warnings_are_those_of_python(answers: tuple[dict[str, Any], Path], frames: list[np.ndarray]) -> None:
    metadata = read_metadata(WHOLE)
    expected = [
        list(check_frame(frame, metadata.reference, metadata.grid, np.full(metadata.grid, distance)).warnings)
        for frame in frames
        for distance in (DISTANCE, 1e6)
    ]
    assert answers[0]["warnings"] == expected
    assert expected[0] == []
    assert {"exposure"} <= {word for words in expected for word in words}


def test_the_model_file_is_read_and_damage_is_seen(answers: tuple[dict[str, Any], Path]) -> None:
    assert answers[0]["threshold"] == read_metadata(WHOLE).threshold
    assert answers[0]["verified"] == [True, False]


def test_the_self_tests_image_has_the_bytes_of_python(answers: tuple[dict[str, Any], Path]) -> None:
    assert (answers[1] / "probe").read_bytes() == probe_image((100, 333)).tobytes()
