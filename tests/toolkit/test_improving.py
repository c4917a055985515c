"""The search for a method that sees more: what is tried, in which order, for how long, and what is taken."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from padim_edge import improving
from padim_edge.improving import improved, seen_share, variants
from padim_edge.presets import PRESETS, preset
from padim_edge.rehearsal.trials import Trial
from padim_edge_artifact import PadimEdgeError
from padim_edge_artifact.method import Method

EDGE = preset("edge", size=64)


def trial(score: float, *, contrast: float = 5.0, extent: float = 10.0) -> Trial:
    return Trial("scratch", extent, contrast, 40.0, (0.5, 0.5), score, 0, 0.0)


def rehearsal(share: float, *, size: tuple[int, int] = (224, 224), count: int = 20) -> SimpleNamespace:
    """A rehearsal in which so many of the plain defects are found, threshold 1."""
    scores = [2.0] * round(share * count) + [0.5] * (count - round(share * count))
    side = 10.0 * min(size) / 224
    return SimpleNamespace(
        metadata=SimpleNamespace(size=size), threshold=1.0, counted=tuple(trial(each, extent=side) for each in scores)
    )


def maker(shares: dict[str, float | str], seconds: Callable[[Method], None] = lambda _: None) -> Callable[..., object]:
    """Writes a file for each method, with a share by the difference from the method that was asked for, or an error."""

    def make(method: Method, path: Path) -> object:
        words = next(each.words for each in variants(EDGE) if each.method == method)
        seconds(method)
        found = shares.get(words, 0.0)
        if isinstance(found, str):
            raise PadimEdgeError(found)
        path.write_bytes(words.encode())
        model = SimpleNamespace(path=path, metadata=SimpleNamespace(digests=SimpleNamespace(data_file=None)))
        return Model(path, model.metadata), rehearsal(found)

    return make


@dataclasses.dataclass(frozen=True)
class Model:
    path: Path
    metadata: SimpleNamespace


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(improving, "time", SimpleNamespace(monotonic=lambda: now.seconds))
    return now


def test_what_sees_most_is_taken(tmp_path: Path) -> None:
    told: list[str] = []
    make = maker({"as asked": 0.3, "--preset free": 0.7, "--size 96x96": 0.5})
    found = improved(EDGE, tmp_path / "part.onnx", 5, make, told.append)  # type: ignore[arg-type]
    assert found.what.words == "--preset free"
    assert found.model.path.name == "part.onnx"
    assert found.model.path.read_bytes() == b"--preset free"
    assert not (tmp_path / "part.onnx").exists()  # the caller gives it its name
    assert told[-1] == "taken: --preset free"
    assert "as asked: 30 % of the planted defects from 3.6 % of the frame's side are found" in told


def test_a_later_method_must_see_clearly_more(tmp_path: Path) -> None:
    found = improved(EDGE, tmp_path / "part.onnx", 5, maker({"as asked": 0.7, "--preset auto": 0.7}))  # type: ignore[arg-type]
    assert found.what.words == "as asked"


def test_what_cannot_be_made_is_told_and_passed_over(tmp_path: Path) -> None:
    told: list[str] = []
    make = maker({"as asked": 0.3, "--preset auto": "the weights are missing", "--preset free": 0.6})
    found = improved(EDGE, tmp_path / "part.onnx", 5, make, told.append)  # type: ignore[arg-type]
    assert found.what.words == "--preset free"
    assert "--preset auto: not tried, because the weights are missing" in told


def test_what_was_asked_for_must_be_possible(tmp_path: Path) -> None:
    with pytest.raises(PadimEdgeError, match="no image"):
        improved(EDGE, tmp_path / "part.onnx", 5, maker({"as asked": "no image"}))  # type: ignore[arg-type]
    assert not (tmp_path / "part.onnx").exists()


def test_no_method_is_begun_that_would_take_too_long(tmp_path: Path, clock: SimpleNamespace) -> None:
    """Time grows with the pixels of the frame."""

    def spend(method: Method) -> None:
        clock.seconds += 20 * math.prod(method.preprocessing.size) / 64**2

    told: list[str] = []
    improved(EDGE, tmp_path / "part.onnx", 1, maker({}, spend), told.append)  # type: ignore[arg-type]
    assert clock.seconds <= 60
    skipped = [each for each in told if "would be over" in each]
    assert any("--size" in each for each in skipped)
    assert len(told) == len(list(variants(EDGE))) + 1


@pytest.mark.parametrize("minutes", [0.0, -1.0, math.inf, math.nan])
def test_the_time_must_be_a_number_of_minutes(tmp_path: Path, minutes: float) -> None:
    with pytest.raises(PadimEdgeError, match="expected a number of minutes"):
        improved(EDGE, tmp_path / "part.onnx", minutes, maker({}))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", PRESETS)
def test_variants_begin_with_the_method_and_differ(name: str) -> None:
    asked = preset(name, backbone="resnet18")
    found = list(variants(asked))
    assert found[0].method == asked
    methods = [each.method for each in found]
    assert all(methods.count(each) == 1 for each in methods)
    assert len({each.words for each in found}) == len(found)
    for each in methods:
        assert all(side % 32 == 0 for side in each.preprocessing.size)
        assert each.precision.name == asked.precision.name
        assert each.sigma / math.sqrt(math.prod(each.preprocessing.size)) == pytest.approx(
            asked.sigma / math.sqrt(math.prod(asked.preprocessing.size))
        )


def test_defects_of_one_size_are_compared_in_frames_of_all_sizes() -> None:
    """An extent of 10 pixels of 224 counts; the same pixels of 448 are half as large, and do not."""
    assert seen_share(rehearsal(0.5)) == 0.5  # type: ignore[arg-type]
    large = rehearsal(0.5, size=(448, 448))
    assert seen_share(large) == 0.5  # type: ignore[arg-type]
    small = SimpleNamespace(**{**vars(large), "counted": tuple(trial(2.0, extent=10.0) for _ in range(20))})
    assert seen_share(small) is None  # type: ignore[arg-type]


def test_few_defects_say_nothing() -> None:
    assert seen_share(rehearsal(1.0, count=9)) is None  # type: ignore[arg-type]
