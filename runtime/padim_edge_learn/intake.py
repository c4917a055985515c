"""A look at good images before a model learns from them. Doubtful ones are set aside until a person says otherwise.

Each image is judged by the present model. It is set aside where it is, in this order:

- fitted: the model was fitted on it, or on a repeat of it, so its score is too low to tell anything;
- not comparable: another product, a moved camera, no image of a part;
- anomalous: it may be a defective part;
- repeated: another of the new images shows the same. One of them stays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from padim_edge_artifact import ImageError, PadimEdgeError
from padim_edge_artifact.evidence import CELLS
from padim_edge_model.repeats import Codes, fingerprint, groups, repeats_of
from padim_edge_runtime import image_files
from padim_edge_runtime.detector import Detector
from padim_edge_runtime.inspection import ANOMALOUS, NOT_COMPARABLE, Inspection, Source, Unreadable
from padim_edge_runtime.pipeline import Choice, inspect_many
from padim_edge_runtime.results import remarks

__all__ = [
    "FITTED",
    "REASONS",
    "REPEATED",
    "Intake",
    "Looks",
    "NothingTakenError",
    "SetAside",
    "Unusual",
    "counted",
    "in_words",
    "look",
    "nothing_taken",
    "reasons_of",
    "sort_out",
]

FITTED, REPEATED = "fitted", "repeated"
REASONS = (FITTED, NOT_COMPARABLE, ANOMALOUS, REPEATED)
"""Reasons to set an image aside, in the order in which they are looked for."""

Float64 = npt.NDArray[np.float64]

Unusual = Callable[[Float64], tuple[float, str]]
"""Function that is given the scores of comparable new images, without repeats. It returns the limit above which an
image is anomalous, and words for it that follow "score 31.20, "."""


@dataclass(frozen=True)
class SetAside:
    """One image that is not learned from."""

    path: Path
    """File of the image."""
    reason: str
    """One of `REASONS`."""
    sentence: str
    """Reason in full."""

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}; {self.sentence}"

    def to_json(self) -> dict[str, Any]:
        """Return the object that stands in the list `set_aside` of `--json`."""
        return {"path": str(self.path), "reason": self.reason, "sentence": self.sentence}


class NothingTakenError(ImageError):
    """Too few images are left to learn from; `set_aside` has those that were set aside."""

    def __init__(self, sentence: str, set_aside: tuple[SetAside, ...]) -> None:
        super().__init__(sentence)
        self.set_aside = set_aside


@dataclass(frozen=True, eq=False)
class Looks:
    """Look of each new image to the present model."""

    paths: tuple[Path, ...]
    """Files of the images that could be read."""
    scores: Float64
    """`(n,)` score of each image."""
    remarks: tuple[str, ...]
    """Reason why each image is not comparable, in words; blank where it is comparable."""
    fingerprints: Codes
    """`(n, 64)` fingerprints."""
    unreadable: tuple[str, ...]
    """One sentence for each image that could not be read."""


@dataclass(frozen=True, eq=False)
class Intake:
    """New images, sorted into those to learn from and the others."""

    taken: tuple[Path, ...]
    """Images to learn from."""
    scores: Float64
    """`(n,)` score of each of these in the present model."""
    groups: npt.NDArray[np.int64]
    """`(n,)` group of each of these; repeats share one."""
    fitted: npt.NDArray[np.bool_]
    """`(n,)` whether the present model was fitted on it; not all False only where a person said so."""
    set_aside: tuple[SetAside, ...]
    """The others."""
    fitted_seen: int
    """Number of all new images that the model was fitted on, as far as it remembers."""


def reasons_of(take: Iterable[str]) -> frozenset[str]:
    """Read the reasons that are no reason to set an image aside.

    Args:
        take: Words of `REASONS`, or `all`; each text with one or several between commas. A hyphen may stand for the
            blank.

    Raises:
        PadimEdgeError: A word is none of them.
    """
    words = [take] if isinstance(take, str) else take
    found = [word.strip().lower().replace("-", " ") for text in words for word in text.split(",")]
    for word in found:
        if word not in (*REASONS, "all"):
            raise PadimEdgeError(
                f"--take has {word!r}, expected {', '.join(map(_as_option, REASONS))} or all, as in --take "
                f"{REPEATED},{ANOMALOUS}"
            )
    return frozenset(REASONS if "all" in found else found)


def counted(set_aside: Sequence[SetAside]) -> dict[str, int]:
    """Count the images that were set aside, by each of `REASONS`."""
    count = Counter(each.reason for each in set_aside)
    return {reason: count[reason] for reason in REASONS}


def look(detector: Detector, images: Sequence[Path], advance: Callable[[int], object] = lambda _: None) -> Looks:
    """Look at images with the present model.

    Args:
        detector: The model.
        images: Files.
        advance: Called with the number of images done since the last call.

    Raises:
        DeviceError: The device failed while it ran.
    """
    preprocessing = detector.metadata.preprocessing
    codes: dict[Path | None, Codes] = {}

    def note(inspection: Inspection) -> None:
        decoded = inspection.view.pixels
        pixels = decoded.read(preprocessing.levels) if isinstance(decoded, Source) else decoded.pixels
        codes[inspection.path] = fingerprint(image_files.prepare(pixels, preprocessing))

    paths, scores, told, unreadable = [], [], [], []
    for path, found in zip(images, inspect_many(detector, images, Choice(), hook=note), strict=True):
        if isinstance(found, Unreadable):
            unreadable.append(found.error)
        else:
            paths.append(path)
            scores.append(found.score)
            sentences = remarks(replace(found, notes=()))
            told.append("; ".join(sentence.removeprefix(f"{path}: ") for sentence in sentences))
        advance(1)
    rows = np.array([codes[path] for path in paths], np.uint16).reshape(-1, CELLS)
    return Looks(tuple(paths), np.array(scores, np.float64), tuple(told), rows, tuple(unreadable))


def sort_out(looks: Looks, fitted: Codes, unusual: Unusual, take: frozenset[str] = frozenset()) -> Intake:
    """Sort new images into those to learn from and the others.

    Args:
        looks: Looks of the images.
        fitted: Fingerprints `(m, 64)` of the images that the model was fitted on.
        unusual: Limit of the scores.
        take: Reasons that are no reason to set an image aside.
    """
    reasons: dict[int, tuple[str, str]] = {}

    def put_aside(number: int, reason: str, sentence: str) -> None:
        if reason not in take:
            reasons.setdefault(number, (reason, sentence))

    known = repeats_of(fitted, looks.fingerprints)
    for i, remark in enumerate(looks.remarks):
        if known[i]:
            put_aside(i, FITTED, "the model was fitted on it, or on a repeat of it")
        if remark:
            put_aside(i, NOT_COMPARABLE, remark)
    left = np.array([i for i in range(len(looks.paths)) if i not in reasons], np.int64)
    if len(left):
        group = dict(zip(left.tolist(), groups(looks.fingerprints[left]).tolist(), strict=True))
        _, first = np.unique(list(group.values()), return_index=True)
        limit, words = unusual(looks.scores[left[first]])
        leaders: dict[int, int] = {}
        for i in left.tolist():
            if looks.scores[i] > limit:
                put_aside(i, ANOMALOUS, f"score {looks.scores[i]:.2f}, {words}")
            if i not in reasons and leaders.setdefault(group[i], i) != i:
                put_aside(i, REPEATED, f"it shows the same as {looks.paths[leaders[group[i]]]}")
        left = np.array([i for i in left.tolist() if i not in reasons], np.int64)
    return Intake(
        tuple(looks.paths[i] for i in left),
        looks.scores[left],
        np.array([group[i] for i in left.tolist()], np.int64),
        known[left],
        tuple(SetAside(looks.paths[i], *reasons[i]) for i in sorted(reasons)),
        int(known.sum()),
    )


def nothing_taken(intake: Intake, expected: str) -> NothingTakenError:
    """Say that too few images are left, why, and what to do.

    Args:
        intake: The images.
        expected: Images that were expected, in words.
    """
    count = {reason: number for reason, number in counted(intake.set_aside).items() if number}
    images = len(intake.taken) + len(intake.set_aside)
    left = "none" if not intake.taken else str(len(intake.taken))
    return NothingTakenError(
        f"{left} of {images} images can be taken ({in_words(intake.set_aside)}), expected {expected}; give other "
        f"images, or take these all the same with --take {','.join(map(_as_option, count))}",
        intake.set_aside,
    )


def in_words(set_aside: Sequence[SetAside]) -> str:
    """Write the counts by reason, such as "3 fitted, 1 anomalous"."""
    return ", ".join(f"{number} {reason}" for reason, number in counted(set_aside).items() if number)


def _as_option(reason: str) -> str:
    return reason.replace(" ", "-")
