"""Repeats among images: copies and noise are found, different images and slow drift are told apart."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from padim_edge.sample import draw_good
from padim_edge_artifact import ArtifactError
from padim_edge_artifact.evidence import Evidence
from padim_edge_artifact.relations import MOST_FINGERPRINTS
from padim_edge_model.repeats import (
    Recorder,
    distances,
    fingerprint,
    groups,
    groups_of,
    packed,
    repeats_of,
    unpacked,
)

COUNT = 12
RANDOM = np.random.default_rng(0)

Frame = np.ndarray


def drawn(class_name: str) -> list[Frame]:
    return [draw_good(class_name, index, size=128) for index in range(COUNT)]


def noise(frame: Frame) -> Frame:
    return (frame + RANDOM.normal(0, 2, frame.shape)).round().clip(0, 255).astype(np.uint8)


def compressed(frame: Frame) -> Frame:
    Image.fromarray(frame).save(buffer := io.BytesIO(), "JPEG", quality=80)
    return np.asarray(Image.open(buffer))


def flicker(frame: Frame) -> Frame:
    return (frame * 1.02).round().clip(0, 255).astype(np.uint8)


def codes(frames: list[Frame]) -> np.ndarray:
    return np.stack([fingerprint(frame) for frame in frames])


@pytest.mark.parametrize("class_name", ["weave", "bottle"])
def test_different_images_are_no_group(class_name: str) -> None:
    assert groups(codes(drawn(class_name))).tolist() == list(range(COUNT))


@pytest.mark.parametrize("class_name", ["weave", "bottle"])
@pytest.mark.parametrize("again", [np.copy, noise, compressed, flicker])
def test_a_shot_taken_again_joins_the_first_one(class_name: str, again: object) -> None:
    frames = drawn(class_name)
    twice = frames + [again(frame) for frame in frames]  # type: ignore[operator]
    assert groups(codes(twice)).tolist() == [*range(COUNT), *range(COUNT)]
    assert repeats_of(codes(frames), codes(twice)).all()
    assert not repeats_of(codes(frames[: COUNT // 2]), codes(frames[COUNT // 2 :])).any()


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_scene_without_variation_is_one_group(level: int) -> None:
    plain = np.full((64, 64, 3), level, np.uint8)
    assert not groups(codes([plain, plain, plain])).any()
    assert not groups(codes([noise(plain) for _ in range(COUNT)])).any()


def test_light_that_fades_slowly_is_more_than_one_image() -> None:
    """Each image is near the one before, and the last one far from the first."""
    frame = draw_good("bottle", 0, size=128)
    fading = [(frame * (1 - 0.005 * step)).astype(np.uint8) for step in range(60)]
    found = groups(codes(fading))
    assert 2 < found.max() + 1 < 40
    assert (np.diff(found) >= 0).all()


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 20), st.integers(1, 20))
def test_distances_are_symmetric_and_0_to_oneself(seed: int, some: int, others: int) -> None:
    generator = np.random.default_rng(seed)
    one, other = (generator.integers(0, 65280, (n, 64)).astype(np.uint16) for n in (some, others))
    np.testing.assert_allclose(distances(one, other), distances(other, one).T, atol=1e-6)
    np.testing.assert_allclose(np.diag(distances(one, one)), 0, atol=1e-3)


def test_named_groups_stand_before_what_the_images_say() -> None:
    recorder = Recorder(Evidence.nothing())
    for index, frame in enumerate(drawn("weave")):
        recorder.add(frame, "monday" if index < 3 else None)
    recorder.add(draw_good("weave", 5, size=128))
    found = groups_of(recorder.evidence)
    assert found.tolist() == [0, 0, 0, *range(1, 10), 3]


def test_evidence_of_two_machines_is_that_of_one() -> None:
    frames = drawn("weave")
    whole, first, second = (Recorder(Evidence.nothing()) for _ in range(3))
    for index, frame in enumerate(frames):
        name = f"part {index // 4}"
        whole.add(frame, name)
        (first if index < 6 else second).add(frame, name)
    merged = first.evidence.merged(second.evidence)
    assert np.array_equal(merged.fingerprints, whole.evidence.fingerprints)
    assert groups_of(merged).tolist() == groups_of(whole.evidence).tolist() == [0] * 4 + [1] * 4 + [2] * 4


@given(st.integers(0, 30), st.integers(0, 99))
def test_what_is_packed_is_unpacked(count: int, seed: int) -> None:
    some = np.random.default_rng(seed).integers(0, 65281, (count, 64)).astype(np.uint16)
    assert np.array_equal(unpacked(packed(some)), some)


def test_of_many_images_an_even_selection_is_kept() -> None:
    many = np.arange(3 * MOST_FINGERPRINTS * 64).reshape(-1, 64).astype(np.uint16)
    kept = unpacked(packed(many))
    assert len(kept) == MOST_FINGERPRINTS
    assert np.array_equal(kept[[0, -1]], many[[0, -1]])


@pytest.mark.parametrize("text", ["no base64!", "AAAA", packed(np.ones((2, 64), np.uint16))[:-8]])
def test_damaged_fingerprints_are_refused(text: str) -> None:
    with pytest.raises(ArtifactError, match="export the model again"):
        unpacked(text)
