"""No output of a command overwrites an input."""

from __future__ import annotations

from pathlib import Path

import pytest
import small_models
from commands import run

from padim_edge_artifact import PadimEdgeError
from padim_edge_artifact.files import refuse_inputs
from padim_edge_learn.merge import merge_files


def test_an_output_that_is_an_input_by_another_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"statistics")
    (tmp_path / "link.npz").symlink_to(tmp_path / "a.npz")
    refuse_inputs([tmp_path / "b.npz"], [tmp_path / "a.npz"])
    with pytest.raises(PadimEdgeError, match="is an input, which would be lost"):
        refuse_inputs([tmp_path / "link.npz"], [tmp_path / "a.npz"])


def test_merging_never_overwrites_what_it_merges(tmp_path: Path) -> None:
    paths = [tmp_path / "a.npz", tmp_path / "b.npz"]
    for path in paths:
        path.write_bytes(path.name.encode())
    for path in paths:
        with pytest.raises(PadimEdgeError, match="is an input"):
            merge_files(paths, path)
    assert [path.read_bytes() for path in paths] == [b"a.npz", b"b.npz"]


@pytest.mark.parametrize("command", ["rehearse", "evaluate"])
def test_a_report_never_overwrites_the_model(command: str, tmp_path: Path) -> None:
    model = tmp_path / "part.onnx"
    model.write_bytes(b"a model")
    images = [tmp_path / "images"] if command == "rehearse" else []
    _, stderr = run(command, model, *images, "--report", model, code=1)
    assert "is an input, which would be lost" in stderr
    assert model.read_bytes() == b"a model"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for name, image in zip("ab", small_models.weave(2), strict=True):
        image.save(folder / f"{name}.png")
        image.save(folder / f"{name}.tif")
    return folder


@pytest.mark.parametrize("option", ["--heatmaps", "--maps"])
def test_maps_never_overwrite_the_images(golden: Path, images: Path, option: str) -> None:
    """A heat map has the name of its image, and so has an anomaly map of a TIFF."""
    before = {path: path.read_bytes() for path in images.iterdir()}
    _, stderr = run("infer", golden, images, option, images, code=1)
    assert "is an input, which would be lost" in stderr
    assert {path: path.read_bytes() for path in images.iterdir()} == before


def test_a_table_never_overwrites_an_image_or_the_model(golden: Path, images: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(golden.read_bytes())
    for path in (images / "a.png", model):
        before = path.read_bytes()
        _, stderr = run("infer", model, images, "--csv", path, code=1)
        assert "is an input, which would be lost" in stderr
        assert path.read_bytes() == before


def test_a_fit_like_another_never_overwrites_it(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"statistics")
    options = ("--like", tmp_path / "a.npz", "--output", tmp_path / "a.npz")
    _, stderr = run("fit", "--class", "weave", *options, code=1)
    assert "is an input, which would be lost" in stderr
    assert (tmp_path / "a.npz").read_bytes() == b"statistics"


def test_kept_statistics_never_overwrite_what_the_export_reads(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("image,label\n")
    options = ("--data", tmp_path / "list.csv", "--keep-statistics", tmp_path / "list.csv")
    _, stderr = run("export", *options, code=1)
    assert "is an input, which would be lost" in stderr
    assert (tmp_path / "list.csv").read_text() == "image,label\n"
