"""Weights files that are damaged, hold other things, or promise more than they hold: one sentence, and no code runs."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from attack.weights import base, network, read
from safetensors.torch import save

from padim_edge.network import _stamp
from padim_edge_artifact import PadimEdgeError


def refusal(path: Path) -> str:
    with pytest.raises(PadimEdgeError) as caught:
        read(path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 700
    return str(caught.value)


def saved(path: Path, state: object) -> Path:
    torch.save(state, path)
    return path


def state() -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in network().state_dict().items()}


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_whole_weights_are_read(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"w{suffix}"
    path.write_bytes(base(suffix))
    assert len(read(path)) == 64


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_file_cut_anywhere_is_refused(suffix: str, tmp_path: Path) -> None:
    path, content = tmp_path / f"w{suffix}", base(suffix)
    for end in range(0, len(content), 41):
        path.write_bytes(content[:end])
        refusal(path)


@pytest.mark.parametrize("kind", [torch.int64, torch.uint8, torch.bool, torch.complex64, torch.float8_e4m3fn])
def test_other_numbers_than_floating_point_are_refused(kind: torch.dtype, tmp_path: Path) -> None:
    for format_ in ("w.pth", "w.safetensors"):
        odd = state()
        odd["0.weight"] = torch.zeros(odd["0.weight"].shape).to(kind)
        (tmp_path / format_).write_bytes(save(odd) if format_.endswith("rs") else b"")
        path = tmp_path / format_ if format_.endswith("rs") else saved(tmp_path / format_, odd)
        assert "no plain floating-point numbers in 0.weight" in refusal(path)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_widths_are_read(kind: torch.dtype, tmp_path: Path) -> None:
    assert len(read(saved(tmp_path / "w.pth", {key: value.to(kind) for key, value in state().items()}))) == 64


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_weights_beyond_float32_are_refused(value: float, tmp_path: Path) -> None:
    odd = {key: value.to(torch.float64) for key, value in state().items()}
    odd["0.weight"][0, 0, 0, 0] = value
    assert "not finite in 0.weight" in refusal(saved(tmp_path / "w.pth", odd))


def test_tensors_of_other_layouts_are_refused(tmp_path: Path) -> None:
    for tensor in (state()["0.weight"].to_sparse(), state()["0.weight"].to("meta")):
        refusal(saved(tmp_path / "w.pth", state() | {"0.weight": tensor}))


@pytest.mark.parametrize("name", [7, ("a",), None, 1.5, b"x"])
def test_names_that_are_no_text_are_refused(name: object, tmp_path: Path) -> None:
    assert "expected a state dict" in refusal(saved(tmp_path / "w.pth", {name: torch.zeros(1)}))


@pytest.mark.parametrize("name", ["a\nb", "\x1b[2J", "x" * 100_000, "\udcff"])
def test_names_that_cannot_be_shown_are_told_in_a_sentence(name: str, tmp_path: Path) -> None:
    assert "unknown" in refusal(saved(tmp_path / "w.pth", state() | {name: torch.zeros(1)}))


@pytest.mark.parametrize(
    "content", [[], 1, None, "text", {"state_dict": 3}, {"a": {"b": torch.zeros(1)}}, torch.zeros(3)]
)
def test_other_contents_are_refused(content: object, tmp_path: Path) -> None:
    refusal(saved(tmp_path / "w.pth", content))


def test_a_tensor_that_repeats_one_number_for_ever_is_refused(tmp_path: Path) -> None:
    """A view with strides of 0 has 2^50 elements in four bytes; looking at each would take years."""
    endless = torch.zeros(1).as_strided((1 << 25, 1 << 25), (0, 0))
    assert "wrong shapes" in refusal(saved(tmp_path / "w.pth", state() | {"0.weight": endless}))
    path = saved(tmp_path / "w.pth", state() | {"9.weight": endless})
    assert "9.weight unknown" in refusal(path)


@pytest.mark.parametrize("kind", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_a_bomb_is_refused_unopened(kind: int, tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    with zipfile.ZipFile(io.BytesIO(base(".pth"))) as old, zipfile.ZipFile(path, "w", kind) as new:
        for name in old.namelist():
            new.writestr(name, bytes(16 << 20) if name.endswith("data/0") else old.read(name))
    assert path.stat().st_size < 1 << 20
    assert "compressed archive" in refusal(path)


@pytest.mark.parametrize(
    "tensor",
    [
        {"dtype": "F32", "shape": [1 << 60], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [4], "data_offsets": [0, 1 << 60]},
        {"dtype": "F32", "shape": [4], "data_offsets": [16, 0]},
        {"dtype": "F32", "shape": [1 << 33, 1 << 33], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]},
        {"dtype": "nonsense", "shape": [4], "data_offsets": [0, 16]},
    ],
)
def test_a_header_of_safetensors_that_lies_is_refused(tensor: dict[str, object], tmp_path: Path) -> None:
    header = json.dumps({"0.weight": tensor}).encode()
    (tmp_path / "w.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))
    refusal(tmp_path / "w.safetensors")


@pytest.mark.parametrize("length", [0, 1, 1 << 31, 1 << 63, (1 << 64) - 1])
def test_a_header_of_any_length_is_refused(length: int, tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(length.to_bytes(8, "little") + b"{}" + bytes(64))
    refusal(tmp_path / "w.safetensors")


class Attack:
    """Runs code where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.mark,)


def test_no_pickle_runs_code(tmp_path: Path) -> None:
    """In torch's archive, as a bare pickle, and under the name of the other format."""
    mark, path = tmp_path / "attacked", tmp_path / "w.pth"
    assert "it holds more than tensors" in refusal(saved(path, state() | {"x": Attack(mark)}))
    for name in ("w.pth", "w.pt", "w.bin", "w.safetensors"):
        (tmp_path / name).write_bytes(pickle.dumps({"0.weight": Attack(mark)}))
        refusal(tmp_path / name)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["nothing.pth", "x" * 300, "a\0b", "."])
def test_paths_that_are_no_files_are_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    with pytest.raises(PadimEdgeError, match="there is no weights file"):
        read(path)
    if name != ".":
        assert _stamp(str(path)) is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes in the file system")
@pytest.mark.timeout(60)
def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "w.pth")
    assert "there is no weights file" in refusal(tmp_path / "w.pth")
