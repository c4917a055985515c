"""Damaged images of every promised format give an answer or a sentence, and nothing else."""

from __future__ import annotations

import io
import time
from collections import Counter

import numpy as np
import pytest
from attack import mutated_images

from padim_edge_artifact import ImageError
from padim_edge_runtime import image_files

EVERYDAY, MANY = 400, 10_000
"""Number of mutants of the everyday test, and of the slow one."""
LONGEST = 30.0
"""Seconds that one image may take on a busy machine; they take milliseconds."""

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL", "ignore::PIL.Image.DecompressionBombWarning")


def outcome(content: bytes) -> str:
    """Decode as `infer` does, also with a range, and say how it ended."""
    try:
        decoded = image_files.decode(content, keep_grey=True)
    except ImageError as error:
        sentence = str(error)
        assert sentence.startswith("the encoded image")
        assert "\n" not in sentence
        assert len(sentence) < 600
        return "refused"
    assert decoded.image.mode in ("RGB", "L")
    assert min(decoded.size) >= image_files.SMALLEST_SIDE
    return "read"


def judged(seed: int, count: int) -> Counter[str]:
    found: Counter[str] = Counter()
    for name, content in mutated_images.mutants(seed, count):
        begin = time.perf_counter()
        try:
            found[outcome(content)] += 1
        except Exception as error:  # told with the name, which brings the mutant back
            raise AssertionError(f"{name} (seed {seed}): {type(error).__name__} {error}") from error
        assert time.perf_counter() - begin < LONGEST, name
    return found


def test_the_originals_are_read() -> None:
    for name, content in mutated_images.originals().items():
        levels = (0.0, 65_535.0) if name in ("ten-bits.pgm", "floats.tif") else None
        assert image_files.decode(content, levels=levels).image.mode == "RGB", name


def test_a_seed_brings_its_mutants_back_and_another_brings_others() -> None:
    first = list(mutated_images.mutants(3, 60))
    assert first == list(mutated_images.mutants(3, 60))
    assert first[:20] == list(mutated_images.mutants(3, 20))
    assert [content for _, content in first] != [content for _, content in mutated_images.mutants(4, 60)]


def test_mutants_give_an_answer_or_a_sentence() -> None:
    found = judged(1, EVERYDAY)
    assert sum(found.values()) == EVERYDAY
    assert min(found["read"], found["refused"]) > EVERYDAY / 20, "mutants that are all alike test nothing"


@pytest.mark.slow
def test_many_mutants_give_an_answer_or_a_sentence() -> None:
    assert sum(judged(int(time.time()) // 86_400, MANY).values()) == MANY  # other ones each day; the seed is told


def test_reading_twice_gives_the_same() -> None:
    for _, content in mutated_images.mutants(5, 60):
        try:
            first = np.asarray(image_files.decode(io.BytesIO(content).getvalue()).image)
        except ImageError as error:
            with pytest.raises(ImageError) as again:
                image_files.decode(content)
            assert str(again.value) == str(error)  # noqa: PT017  # both outcomes are right
        else:
            assert np.array_equal(first, np.asarray(image_files.decode(content).image))
