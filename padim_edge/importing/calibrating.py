"""The threshold of an imported model: that of anomalib, or one from good images that are given here."""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from padim_edge.datasets import Item
from padim_edge.frames import numbered_frames
from padim_edge.gather import gather
from padim_edge.importing.graph import Built
from padim_edge.importing.source import RIDGE, Padim
from padim_edge_artifact import PadimEdgeError, Statistics, names
from padim_edge_artifact.calibration import BEST_F1, Calibration
from padim_edge_artifact.kept import Kept
from padim_edge_artifact.reference import Reference
from padim_edge_learn.accumulate import batches, side_by_side
from padim_edge_learn.assemble import RULE as RULE_FITTED
from padim_edge_learn.held_out import GoodImages, Shipped, judged
from padim_edge_learn.recalibrate import RULE as RULE_NEW
from padim_edge_model.calibration import calibrate, p_value, threshold
from padim_edge_model.comparable import Observed, reference_of
from padim_edge_model.repeats import groups_of, packed
from padim_edge_runtime.progress import Feedback

__all__ = ["FEWEST", "Threshold", "from_anomalib", "from_good"]

FEWEST = 2
"""Smallest number of good images that a threshold can be set from."""

_SAME = 0.1
"""Largest mean square of the difference of two means, in units of variance / n, for images that are the very ones of
the fit. Others of the same kind give 1 and more; another resize of the same ones gave at most .02."""

_RULE = f"{BEST_F1}the images that anomalib was validated with"


_NO_RATE = (
    "the threshold is anomalib's, for scores without normalisation, and its false-alarm rate is not known; --good DIR "
    "sets one of ours"
)
_OTHERS = (
    "are not those of the fit, or not all of them, and were judged as they are; if some are of the fit, the threshold "
    "is too low"
)


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """A threshold and all that comes with it."""

    threshold: float
    """Score above which an image is anomalous."""
    rule: str
    """Its source, in words."""
    rate: float
    """Share of good images that it lets raise alarms, in (0, 1)."""
    calibration: Calibration
    """Scores behind it."""
    reference: Reference
    """Look of the good images; one that fits every image where there are none."""
    images: int
    """Number of images of the fit, or the smallest one that it can be."""
    independent: int | None = None
    """Number of independent ones; `None` where that is unknown."""
    fingerprints: str = ""
    """Fingerprints of the images of the fit; empty where they are unknown."""
    unreadable: tuple[str, ...] = ()
    """One sentence for each good image that could not be read."""
    notes: tuple[str, ...] = ()
    """Remarks, one sentence each without a full stop."""


def from_anomalib(source: Padim, built: Built) -> Threshold:
    """Return the threshold of anomalib, without normalisation.

    Raises:
        PadimEdgeError: The file holds none.
    """
    decision = source.decision
    if decision is None:
        raise PadimEdgeError(
            f"{source.name} holds no threshold that can be carried over ({source.undecided}); give good images with "
            "--good DIR to set one from"
        )
    calibration = Calibration(1, (round(decision.lowest, 6),))
    h, w = built.embedding.grid
    count = built.kept.statistics.count
    return Threshold(
        threshold=decision.raw,
        rule=_RULE,
        rate=min(float(p_value(calibration, decision.raw)), 1 - calibration.resolution),
        calibration=calibration,
        # Nothing is known of the good images' look, so nothing is unlike them.
        reference=Reference(base64.b64encode(bytes([128]) * (h * w)).decode(), (0.0, 255.0), (0.0, 255.0), max(h, w)),
        images=count,
        notes=(_NO_RATE, f"anomalib does not keep the number of images of the fit, which is at least {count}"),
    )


def from_good(
    built: Built, items: tuple[Item, ...], session: Any, rate: float, device: str, feedback: Feedback
) -> Threshold:
    """Set a threshold from good images: those of the fit, all of them, or others.

    Images of the fit are recognised by the mean of their features. Each of them is judged as if it was not in the fit.

    Args:
        built: The imported model.
        items: Good images.
        session: Session of its graph.
        rate: Share of good images that may raise an alarm, in (0, 1).
        device: Device that judges them.
        feedback: Progress bars and sentences.

    Raises:
        PadimEdgeError: Fewer than `FEWEST` can be read.
    """
    kept, preprocessing = built.kept, built.kept.recipe.method.preprocessing
    empty = replace(kept, statistics=Statistics.empty(built.embedding.grid, built.embedding.dims))
    with feedback.report("looking at good images", len(items)) as advance:
        found, unreadable = gather(empty, items, device=device, advance=advance)
    count = found.statistics.count
    if count < FEWEST:
        first = next(iter(unreadable.values()), "there are no others")
        raise PadimEdgeError(f"{count} good images can be read ({first}), expected {FEWEST} or more, better 100")
    readable = [each for each in items if each.name not in unreadable]
    lost = dict(unreadable)
    images = GoodImages(numbered_frames(readable, preprocessing, lost), len(readable))
    observed = Observed(found.seen)
    if _are_those_of_the_fit(built, found):
        shipped = _with_count(built, found)
        held = judged(
            Shipped(shipped, session, None, shipped.recipe.method.precision, built.to_map, device),
            images,
            observed,
            feedback.report,
        )
        calibration, rule = calibrate(held.scores, held.groups), RULE_FITTED
        groups = groups_of(found.evidence)
        of_fit: dict[str, Any] = {
            "images": count,
            "independent": len(np.unique(groups)) or count,
            "fingerprints": packed(found.evidence.fingerprints),
        }
        notes = (f"the {count} good images are those of the fit; each was judged as if it was not",)
    else:
        scores = _scores(images, session, observed, preprocessing.input_size, feedback)
        calibration, rule = calibrate(scores, groups_of(found.evidence)), RULE_NEW
        of_fit = {"images": kept.statistics.count}
        notes = (f"the {count} good images {_OTHERS}",)
    return Threshold(
        threshold=threshold(calibration, rate),
        rule=rule,
        rate=rate,
        calibration=calibration,
        reference=reference_of(observed.seen),
        unreadable=tuple(lost.values()),
        notes=notes,
        **of_fit,
    )


def _are_those_of_the_fit(built: Built, found: Kept) -> bool:
    """Tell whether images are those of the fit: their mean is the model's mean."""
    statistics, given = built.kept.statistics, found.statistics
    assert isinstance(statistics, Statistics), "anomalib has Gaussians"
    assert isinstance(given, Statistics), "they were gathered for Gaussians"
    variance = np.einsum("pii->pi", given.scatter) / (given.count - 1)
    moving = variance > RIDGE
    if not moving.any():
        return False
    off = np.square(given.mean - statistics.mean)[moving] / variance[moving] * given.count
    return bool(np.median(off) < _SAME)


def _with_count(built: Built, found: Kept) -> Kept:
    """Return the model's statistics with the number of images that it was fitted on, and their evidence."""
    statistics, count = built.kept.statistics, found.statistics.count
    assert isinstance(statistics, Statistics), "anomalib has Gaussians"
    scatter = statistics.scatter * ((count - 1) / (statistics.count - 1))
    return replace(found, statistics=Statistics(count, statistics.mean, scatter, statistics.grid))


def _scores(
    images: GoodImages, session: Any, observed: Observed, size: tuple[int, int], feedback: Feedback
) -> list[float]:
    """Judge images as they are, and note their look."""
    scores: list[float] = []
    with feedback.report("calibrating", images.count) as advance:
        for batch in batches(images.read(range(images.count)), side_by_side(size)):
            frames = np.stack([frame for _, frame in batch])
            for frame in frames:
                observed.compare(frame)
            score, distance = session.run([names.SCORE, names.PATCH_DISTANCE], {names.IMAGE: frames})
            observed.add_distances(distance)
            scores += [float(each) for each in score]
            advance(len(batch))
    return scores
