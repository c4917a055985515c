"""The anomaly map and its regions in the pixels of the image as it was given."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from padim_edge_artifact import Preprocessing

__all__ = ["Region", "find_regions", "label", "to_image"]


@dataclass(frozen=True)
class Region:
    """A connected part of the anomaly map above the threshold, in pixels of the image as it was given."""

    box: tuple[int, int, int, int]
    """(x, y, width, height)."""
    area: int
    """Area in square pixels, 1 or more."""
    share: float
    """Share of the image's area, in (0, 1]."""
    peak: tuple[int, int]
    """(x, y) of the highest value in the map."""
    score: float
    """Highest value in the map."""


def to_image(
    anomaly_map: npt.NDArray[np.float32],
    preprocessing: Preprocessing,
    width: int,
    height: int,
    *,
    inspected: npt.NDArray[np.bool_] | None = None,
    rows: tuple[int, int] | None = None,
) -> npt.NDArray[np.float32]:
    """Bring the anomaly map `(H, W)` to the image's own pixels: `(height, width)` float32, or some rows of that.

    The interpolation is bilinear, so no value is higher than the map's.

    Args:
        anomaly_map: Distances in the model's frame.
        preprocessing: Way of the image into the frame.
        width: Width of the image in pixels.
        height: Height of the image in pixels.
        inspected: `(H, W)` region of interest in the frame; `None` where everything is inspected.
        rows: First row of the image, and the one behind the last; `None` for all.

    Returns:
        The map, NaN outside the frame and outside the region of interest.
    """
    if inspected is not None and not inspected.all():
        # Values outside are 0, which must not be blended into the rim of the region: the shares are divided out.
        inside = to_image(inspected.astype(np.float32), preprocessing, width, height, rows=rows)
        seen = np.where(inspected, anomaly_map, 0).astype(np.float32)
        whole = to_image(seen, preprocessing, width, height, rows=rows)
        return np.where(inside >= 0.5, whole / np.maximum(inside, 0.5), np.float32(np.nan)).astype(np.float32)
    box = preprocessing.judged_box(width, height)
    first, last = rows or (0, height)
    across, down = anomaly_map.shape[1] / box.width, anomaly_map.shape[0] / box.height
    image = Image.fromarray(np.asarray(anomaly_map, np.float32)).transform(
        (width, last - first),
        Image.Transform.AFFINE,
        (across, 0.0, -box.left * across, 0.0, down, (first - box.top) * down),
        Image.Resampling.BILINEAR,
        fillcolor=float("nan"),
    )
    return np.array(image)


def find_regions(
    anomaly_map: npt.NDArray[np.float32],
    threshold: float,
    preprocessing: Preprocessing,
    width: int,
    height: int,
    *,
    smallest: int = 0,
) -> tuple[Region, ...]:
    """Find the connected regions (8 neighbours) of the anomaly map above the threshold, the highest first.

    Args:
        anomaly_map: `(H, W)` distances in the model's frame.
        threshold: Regions are strictly above it.
        preprocessing: Way of the image into the frame.
        width: Width of the image in pixels.
        height: Height of the image in pixels.
        smallest: Regions of less area (square pixels of the image) are left out.
    """
    labels = label(anomaly_map.astype(np.float64) > threshold)  # float64, as for the verdict
    frame = preprocessing.judged_box(width, height)
    across, down = frame.width / anomaly_map.shape[1], frame.height / anomaly_map.shape[0]
    found = []
    for number in range(1, int(labels.max(initial=0)) + 1):
        rows, columns = np.nonzero(labels == number)
        values = anomaly_map[rows, columns]
        top = int(values.argmax())
        left, right = frame.left + columns.min() * across, frame.left + (columns.max() + 1) * across
        upper, lower = frame.top + rows.min() * down, frame.top + (rows.max() + 1) * down
        x, y = int(left), int(upper)
        found.append(
            Region(
                box=(x, y, min(int(np.ceil(right)), width) - x, min(int(np.ceil(lower)), height) - y),
                area=(area := max(1, round(len(values) * across * down))),
                share=min(area / (width * height), 1.0),
                peak=(
                    int(frame.left + (columns[top] + 0.5) * across),
                    int(frame.top + (rows[top] + 0.5) * down),
                ),
                score=float(values[top]),
            )
        )
    return tuple(sorted((r for r in found if r.area >= smallest), key=lambda region: -region.score))


def label(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """Number the connected regions (8 neighbours) of a mask: `(H, W)` with 1, 2, ... inside and 0 outside.

    The device has no scipy. So the runs of each row are joined with those that they touch in the row above.
    """
    height, width = mask.shape
    padded = np.zeros((height, width + 2), np.int8)
    padded[:, 1:-1] = mask
    edges = np.diff(padded, axis=1)
    run_rows, starts = np.nonzero(edges == 1)
    _, stops = np.nonzero(edges == -1)
    parents = list(range(len(starts)))

    def root(run: int) -> int:
        while parents[run] != run:
            parents[run] = parents[parents[run]]
            run = parents[run]
        return run

    first_of_row = np.searchsorted(run_rows, np.arange(height + 1))
    for row in range(1, height):
        above, stop_above = int(first_of_row[row - 1]), int(first_of_row[row])
        for run in range(stop_above, int(first_of_row[row + 1])):
            while above < stop_above and stops[above] < starts[run]:
                above += 1
            touching = above
            while touching < stop_above and starts[touching] <= stops[run]:
                parents[root(touching)] = root(run)
                touching += 1
    roots = [root(run) for run in range(len(parents))]
    numbers = {each: number for number, each in enumerate(dict.fromkeys(roots), start=1)}
    labels = np.zeros((height, width), np.intp)
    for row, start, stop, each in zip(run_rows.tolist(), starts.tolist(), stops.tolist(), roots, strict=True):
        labels[row, start:stop] = numbers[each]
    return labels
