"""No output of the device's learning commands overwrites an input."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import run

from padim_edge_artifact import PadimEdgeError
from padim_edge_artifact.files import refuse_inputs
from padim_edge_learn.merge import merge_files


def test_an_output_that_is_an_input_by_another_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"statistics")
    (tmp_path / "link.npz").symlink_to(tmp_path / "a.npz")
    refuse_inputs(tmp_path / "b.npz", [tmp_path / "a.npz"])
    with pytest.raises(PadimEdgeError, match="is an input, which would be lost"):
        refuse_inputs(tmp_path / "link.npz", [tmp_path / "a.npz"])


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
