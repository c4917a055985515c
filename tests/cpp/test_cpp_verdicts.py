"""Whether a frame is comparable, in C++ as in Python."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import drawn_images
import golden as files
import numpy as np
import numpy.typing as npt
import pytest
from judge_program import compare

from padim_edge_artifact.reference import Seen
from padim_edge_model.comparable import WARNINGS, Observed, check_frame, reference_of
from padim_edge_runtime import Detector

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def odd_frames(frame: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.uint8]]:
    """A frame turned, moved, lit otherwise, covered in part and replaced: more and less of each."""
    height, width = frame.shape[:2]
    frames = [frame, np.zeros_like(frame), np.full_like(frame, 255), drawn_images.noise(3, (height, width))]
    turns = (1, 2, 3) if height == width else (2,)
    frames += [np.ascontiguousarray(np.rot90(frame, turn)) for turn in turns]
    frames += [np.roll(frame, by, axis=(0, 1)) for by in ((5, 0), (0, -9), (13, 7), (-20, 20))]
    frames += [(frame * gain).clip(0, 255).astype(np.uint8) for gain in (0.4, 0.8, 0.9, 1.2, 1.6)]
    for side in (4, 10, 20, 40):
        covered = frame.copy()
        covered[10 : 10 + side, 12 : 12 + side] = 250
        frames.append(covered)
    return frames


def lit(number: int, *, moved: int = 0) -> npt.NDArray[np.uint8]:
    """A good part that lies still under light from the upper left, or `moved` to the side."""
    rows, columns = np.mgrid[:96, :96] / 96
    image = np.asarray(drawn_images.good(number)) * (0.4 + 0.4 * rows + 0.3 * columns)[..., None]
    return np.roll(image.astype(np.uint8), moved, axis=1)


@pytest.mark.parametrize("still", [True, False])
@pytest.mark.parametrize("golden", [files.WHOLE, files.CROPPED], ids=["square", "oblong"])
def test_reasons_are_those_of_python(program: Path, golden: Path, still: bool, tmp_path: Path) -> None:
    """For parts that lie still, each reason occurs. For parts that lie anywhere, a shift never does."""
    files.copy(golden, tmp_path)
    detector = Detector.load(golden, "cpu")
    frames = [detector.prepare(lit(i, moved=0 if still else 11 * i)) for i in range(24)]
    observed = Observed(Seen.nothing(detector.metadata.grid))
    for look in (observed.add, observed.compare):
        for frame in frames:
            look(frame)
    observed.add_distances(detector(np.stack(frames)).patch_distance)
    reference = dataclasses.asdict(reference_of(observed.seen))
    model = files.rewrite(golden, tmp_path / golden.name, lambda metadata: metadata.update(reference=reference))
    odd = [each for i in (50, 51) for each in odd_frames(detector.prepare(lit(i)))]
    compare(program, model, odd, tmp_path)
    judge = Detector.load(model, "cpu")
    found = {
        warning
        for each in odd
        for warning in check_frame(
            each, judge.metadata.reference, judge.metadata.grid, judge(each).patch_distance[0]
        ).warnings
    }
    assert found == set(WARNINGS) if still else found >= {"unlike", "exposure"}
    assert still or "shift" not in found
