"""Mutants of every file that is read: answered or refused in a sentence. Many more of them in children, slowly."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from attack.children import run
from attack.families import FAMILIES

from padim_edge_artifact import PadimEdgeError

EVERYDAY = {"metadata": 250, "models": 100, "statistics": 120, "weights": 40}
"""Number of mutants of each family in this process."""
SLOW = 2500
"""Number of mutants of each family in children."""
FOUND = (
    ("graphs", 1, 9),
    ("graphs", 1, 17),
    ("graphs", 2, 2434),
    ("graphs", 2, 9902),
    ("metadata", 1, 21),
    ("metadata", 1, 2119),
    ("statistics", 1, 4),
    ("statistics", 1, 20),
    ("weights", 1, 1),
    ("weights", 1, 5),
)
"""Mutants that once did harm, or stand for a kind: family, seed, number."""


def attempt(family: str, seed: int, number: int, folder: Path) -> str | None:
    """The sentence with which a mutant is refused."""
    try:
        FAMILIES[family](seed, number, folder)
    except PadimEdgeError as error:
        return str(error)
    return None


@pytest.mark.parametrize("family", EVERYDAY)
def test_a_mutant_is_answered_or_refused_in_a_sentence(family: str, tmp_path: Path) -> None:
    sentences = [attempt(family, 0, number, tmp_path) for number in range(EVERYDAY[family])]
    told = [each for each in sentences if each is not None]
    assert all(each.isprintable() and len(each) < 2000 for each in told)
    assert 0.5 < len(told) / len(sentences) < 1, "a harness whose mutants are all alike finds nothing"


@pytest.mark.parametrize(("family", "seed", "number"), FOUND)
def test_a_mutant_that_was_found_stays_harmless(family: str, seed: int, number: int, tmp_path: Path) -> None:
    with contextlib.suppress(PadimEdgeError):
        FAMILIES[family](seed, number, tmp_path)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_seed_and_a_number_bring_a_mutant_back(family: str, tmp_path: Path) -> None:
    if family == "images":
        pytest.importorskip("attack.mutated_images")
    first, second = tmp_path / "a", tmp_path / "b"
    for folder in (first, second):
        folder.mkdir()
        attempt(family, 3, 6, folder)
    contents = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in (first, second)]
    assert contents[0] == contents[1]


def test_the_harness_sees_every_misbehaviour() -> None:
    """Otherwise its zeros would mean nothing: one child that fails in each way, and goes on behind it."""
    tally = run("harness", 9, processes=1, longest=2)
    expected = {"answered": 2, "refused": 1, "traceback": 3, "crash": 1, "hang": 1, "outside": 1}
    assert dict(tally.counts) == expected, tally.wrong
    told = " ".join(tally.wrong)
    for words in ("2 traceback ValueError: no sentence", "3 crash", "4 hang", "MemoryError", "6 outside /etc/hostname"):
        assert words in told
    assert tally.bad == 6


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("family", ["metadata", "models", "statistics", "weights", "images"])
def test_thousands_of_mutants_in_children(family: str) -> None:
    if family == "images":
        pytest.importorskip("attack.mutated_images")
    tally = run(family, SLOW, seed=2)
    assert sum(tally.counts.values()) == SLOW
    assert not tally.wrong
    assert tally.peak < 2 << 30
