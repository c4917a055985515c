"""The pages on devices: nothing that the doctor says otherwise, the wheel's own version, and what was tried."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from pages import DOCS, ROOT, calls

from padim_edge_runtime.doctor import graphics, jetson

PAGES = [DOCS / "deployment" / f"{name}.md" for name in ("industrial-pc", "jetson", "offline", "raspberry-pi")]


def page(name: str) -> str:
    return (DOCS / "deployment" / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_page_begins_with_the_doctor(path: Path) -> None:
    assert ["padim-edge", "doctor"] in calls(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_page_says_what_to_expect_what_goes_wrong_and_what_was_tried(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert "models run on" in text
    assert "## What goes wrong most often" in text
    assert "## What was tried" in text
    assert not re.search(r"https?://", text), "indices are named in words"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_the_wheel_has_its_version(path: Path) -> None:
    version = tomllib.loads((ROOT / "runtime" / "pyproject.toml").read_text())["project"]["version"]
    assert set(re.findall(r"padim_edge_runtime-([\d.]+)-py3", path.read_text(encoding="utf-8"))) == {version}


def test_the_doctor_sends_jetsons_where_the_page_does() -> None:
    text = page("jetson.md")
    for model, jetpack, architecture in (("Orin", "6", None), ("Orin", "7", "87"), ("Thor", "7", "110")):
        source = jetson.Jetson(model, "", jetpack).source
        for path in re.findall(r"path ([\w/]+)", source):
            assert f"`{path}`" in text
        if architecture:
            assert f"CMAKE_CUDA_ARCHITECTURES={architecture}" in source
            assert re.search(rf"=87`.*`{architecture}`|ARCHITECTURES={architecture}`", text)
    for capability in graphics._KERNELS["1.31", "aarch64"]:
        assert capability in text


def test_the_doctors_drivers_are_those_of_the_page() -> None:
    text = page("industrial-pc.md")
    for cuda, driver in graphics._OLDEST_DRIVERS.items():
        assert re.search(rf"{driver} or newer for CUDA {cuda}|{driver} for CUDA {cuda}", text)


@pytest.mark.parametrize(
    ("name", "lacking", "board"),
    [
        ("industrial-pc.md", ["libcuda.so.1"], None),
        ("industrial-pc.md", ["libcublasLt.so.13"], None),
        ("industrial-pc.md", ["libnvinfer.so.10"], None),
        ("jetson.md", ["libcublasLt.so.12"], jetson.Jetson("Orin", "36.4.3", "6")),
    ],
)
def test_cures_stand_on_the_pages(name: str, lacking: list[str], board: jetson.Jetson | None) -> None:
    cuda = 13 if board is None else 12
    (cure,) = graphics._cures(lacking, graphics._Place(cuda, board, None, ("onnxruntime-gpu",)))
    text = page(name)
    # With another program before it, or --python behind it, where the environment's pip is not the shell's.
    telling = re.findall(
        r'install "[^"]+"|--gpus all|--runtime nvidia|sudo apt install nvidia-jetpack|580 or newer', cure
    )
    assert telling
    for words in telling:
        assert words in text
