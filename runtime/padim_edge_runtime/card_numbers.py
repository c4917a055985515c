"""Figures of an evaluation for a model card, out of the JSON that `padim-edge evaluate --json` prints."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from padim_edge_artifact import Metadata, PadimEdgeError
from padim_edge_artifact.schema import MOST_BYTES, MOST_IMAGES, read_json, shown

__all__ = ["Figure", "Kind", "Numbers", "read_numbers"]

_METRICS = {
    "image_auroc": ("roc_auc", "image AUROC"),
    "image_ap": ("average_precision", "image average precision"),
    "best_f1": ("f1", "best F1"),
    "pixel_auroc": ("roc_auc", "pixel AUROC"),
    "pro": ("per_region_overlap", "PRO"),
    "false_alarm_rate": ("false_positive_rate", "false alarms at the threshold"),
    "miss_rate": ("false_negative_rate", "misses at the threshold"),
}
"""Metrics of an evaluation: the type that model hubs know, and words."""
_INTERVALS = {"false_alarm_interval": "false alarms", "miss_interval": "misses"}
_MOST_KINDS = 1000
"""Largest number of kinds of images."""
_REMEDY = "write one with padim-edge evaluate MODEL --data FOLDER --json > FILE"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Value of one metric."""

    metric: str
    """Type of the metric, as model hubs name it."""
    words: str
    """Name of the metric in words."""
    value: float
    """Value, 0 to 1."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Images of one kind."""

    name: str
    """Name of the kind, as the test images' folders have it."""
    images: int
    """Number of images."""
    alarms: int
    """Number of images above the threshold."""


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """Outcome of the evaluation of one model."""

    metrics: dict[str, float | None]
    """Value of each metric, 0 to 1; `None` where it is undefined."""
    intervals: dict[str, tuple[float, float]]
    """95 % interval of false alarms and misses, by their names in words."""
    good: int
    """Number of good images."""
    anomalous: int
    """Number of anomalous images."""
    without_mask: int
    """Number of anomalous images without a mask."""
    unreadable: int
    """Number of images that could not be judged."""
    kinds: tuple[Kind, ...]
    """Images above the threshold by kind."""

    def figures(self) -> list[Figure]:
        """Return the metrics that are defined."""
        return [
            Figure(metric=metric, words=words, value=value)
            for name, (metric, words) in _METRICS.items()
            if (value := self.metrics[name]) is not None
        ]

    @property
    def undefined(self) -> list[str]:
        """Names in words of the metrics that are undefined."""
        return [words for name, (_, words) in _METRICS.items() if self.metrics[name] is None]

    def remarks(self) -> Iterator[str]:
        """Yield lines about images that do not count, for the limits."""
        if self.unreadable:
            yield f"- {self.unreadable} test images could not be judged and count nowhere."
        if self.without_mask:
            yield f"- {self.without_mask} anomalous test images have no mask; the pixel metrics leave them out."


def read_numbers(path: Path, metadata: Metadata) -> Numbers:
    """Read an evaluation of this very model.

    Args:
        path: JSON that `padim-edge evaluate --json` printed.
        metadata: Metadata of the model.

    Raises:
        PadimEdgeError: It is no evaluation, has no such class, or was made with another threshold.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MOST_BYTES + 1).decode()
        content = read_json(text, path.name)
    except OSError as error:
        raise PadimEdgeError(f"{path} cannot be read ({error.strerror or error}); {_REMEDY}") from error
    except (PadimEdgeError, UnicodeDecodeError) as error:
        raise PadimEdgeError(f"{path} is not an evaluation in JSON; {_REMEDY}") from error
    classes = _object(_object(content, path).get("classes"), path)
    found = classes.get(metadata.class_name)
    if found is None:
        there = ", ".join(map(shown, list(classes)[:5])) or "none"
        raise PadimEdgeError(
            f"{path} has the classes {there}, expected {shown(metadata.class_name)}; evaluate this model, and {_REMEDY}"
        )
    values = _object(found, path)
    if values.get("threshold") != metadata.threshold:
        raise PadimEdgeError(
            f"{path} was made with the threshold {shown(values.get('threshold'))}, and the model has "
            f"{metadata.threshold}; evaluate this model again, and {_REMEDY}"
        )
    return Numbers(
        metrics={name: None if values.get(name) is None else _share(values[name], path) for name in _METRICS},
        intervals={
            words: _interval(values[name], path) for name, words in _INTERVALS.items() if values.get(name) is not None
        },
        good=_count(values.get("good"), path),
        anomalous=_count(values.get("anomalous"), path),
        without_mask=_count(values.get("without_mask"), path),
        unreadable=_count(values.get("unreadable"), path),
        kinds=tuple(_kinds(_object(values.get("kinds"), path), path)),
    )


def _kinds(kinds: dict[str, Any], path: Path) -> Iterator[Kind]:
    if len(kinds) > _MOST_KINDS:
        raise _wrong(f"{len(kinds)} kinds", path)
    for name, each in kinds.items():
        rate = _object(each, path)
        yield Kind(name=name, images=_count(rate.get("images"), path), alarms=_count(rate.get("alarms"), path))


def _object(value: Any, path: Path) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(shown(value), path)
    return value


def _share(value: Any, path: Path) -> float:
    if type(value) not in (int, float) or not 0 <= value <= 1:  # NaN is in no range
        raise _wrong(shown(value), path)
    return float(value)


def _interval(value: Any, path: Path) -> tuple[float, float]:
    if not isinstance(value, list) or len(value) != 2:
        raise _wrong(shown(value), path)
    return _share(value[0], path), _share(value[1], path)


def _count(value: Any, path: Path) -> int:
    if type(value) is not int or not 0 <= value <= MOST_IMAGES:
        raise _wrong(shown(value), path)
    return value


def _wrong(what: str, path: Path) -> PadimEdgeError:
    return PadimEdgeError(f"{path} has {what} where an evaluation has something else; {_REMEDY}")
