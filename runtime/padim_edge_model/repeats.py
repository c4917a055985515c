"""Repeats among images: copies of a file, or the same scene taken again with other noise. They are no further evidence.

An image is summed up in a fingerprint: the mean grey levels of 8 x 8 cells. The distance of two fingerprints is the
root mean square of their difference after the lamp's flicker is taken out. benchmarks/README.md has the distances
within bursts and between different images of several parts, which the limits below rest on.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from array import array
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from padim_edge_artifact.errors import ArtifactError
from padim_edge_artifact.evidence import CELLS, SIDE, Evidence
from padim_edge_artifact.relations import MOST_FINGERPRINTS
from padim_edge_model.comparable import thumbnail

__all__ = [
    "Prepared",
    "Recorder",
    "distances",
    "fingerprint",
    "groups",
    "groups_of",
    "limit",
    "packed",
    "repeats_of",
    "unpacked",
]

_STEPS = 256
"""Steps of a fingerprint in one grey level."""

_GAIN = 1.05
"""Largest ratio of two images' contrasts that passes for flicker of the lamp; it is taken out."""
_OFFSET = 3.0
"""Largest difference of two images' mean grey levels that passes for flicker; it is taken out."""

_SHARE = 0.15
"""Share of the usual distance of two images below which two images are repeats."""
_LEAST, _MOST = 0.25, 0.6
"""Range of that limit in grey levels. Noise of sigma 5 at 512 x 512 pixels gives at most 0.2; the nearest two different
images of bottle and screw have 1.08."""

_SAMPLE = 512
"""Number of images that the usual distance is computed from, at most."""

_BLOCK, _LEAST_BLOCK = 256, 16
"""Largest and least number of images that are compared at a time."""
_PAIRS = 4_000_000
"""Number of pairs that are compared at a time, at most where the least block allows."""

Codes = npt.NDArray[np.uint16]
Float64 = npt.NDArray[np.float64]


class Recorder:
    """Evidence of the images that pass through a fit, in their order."""

    def __init__(self, start: Evidence) -> None:
        self._before = start
        self._codes, self._named = bytearray(), array("q")  # lists of numbers would take several times the memory

    def add(self, frame: npt.NDArray[np.uint8], group: str | None = None) -> int:
        """Note an image `(H, W, 3)`; return the number of the group that the user puts it in, 0 for none."""
        self._codes += fingerprint(frame).tobytes()
        self._named.append(0 if group is None else _number(group))
        return self._named[-1]

    @property
    def evidence(self) -> Evidence:
        """Evidence so far."""
        codes = np.frombuffer(bytes(self._codes), np.uint16).reshape(-1, CELLS)
        added = Evidence(codes, np.array(self._named, np.int64))
        return self._before.merged(added) if len(self._before.named) else added


def fingerprint(frame: npt.NDArray[np.uint8]) -> Codes:
    """Compute `(64,)` mean grey levels of the cells of a frame `(H, W, 3)`, in steps of 1/256."""
    return np.asarray(np.rint(thumbnail(frame, (SIDE, SIDE)) * _STEPS), np.uint16).ravel()


@dataclass(frozen=True, eq=False)
class Prepared:
    """Fingerprints that many images are compared with, prepared once."""

    centred: Float64
    """`(n, 64)` grey levels less their mean."""
    mean: Float64
    """`(n,)` mean grey levels."""
    variance: Float64
    """`(n,)` variances of the grey levels."""

    @classmethod
    def of(cls, fingerprints: Codes) -> Prepared:
        """Prepare fingerprints `(n, 64)`."""
        levels = np.asarray(fingerprints, np.float64) / _STEPS
        mean = levels.mean(axis=1) if len(levels) else np.empty(0)
        centred = levels - mean[:, None]
        return cls(centred, mean, np.square(centred).mean(axis=1) if len(levels) else np.empty(0))

    def apart(self, some: Codes) -> Float64:
        """Compute the distances `(m, n)` in grey levels of other images `(m, 64)`.

        With a and b the cells of two images and m their means, the distance is the root mean square of
        (a - m_a) - g (b - m_b), and of what the offset o = m_a - g m_b is beyond its limit. The gain g is the ratio of
        the standard deviations, up to its limit: flicker does not count. Both are divided by the root of g, which makes
        the distance the same from either side.
        """
        other = Prepared.of(some)
        both = other.centred @ self.centred.T / CELLS
        one, two = other.variance[:, None], self.variance[None]
        gain = np.clip(np.sqrt((one + 1e-9) / (two + 1e-9)), 1 / _GAIN, _GAIN)
        spread = np.maximum(one + gain * gain * two - 2 * gain * both, 0) / gain
        offset = np.abs(other.mean[:, None] - gain * self.mean[None]) / np.sqrt(gain)
        offset = np.minimum(offset, np.abs(other.mean[:, None] - self.mean[None]))  # plain images have no gain
        return np.asarray(np.sqrt(spread + np.square(np.maximum(offset - _OFFSET, 0))))


def distances(some: Codes, others: Codes) -> Float64:
    """Compute the distances `(m, n)` in grey levels between fingerprints `(m, 64)` and `(n, 64)`."""
    return Prepared.of(others).apart(some)


def limit(fingerprints: Codes) -> float:
    """Return the distance in grey levels below which two images of this set `(n, 64)` are repeats."""
    if len(fingerprints) < 2:
        return _LEAST
    some = fingerprints[_even(len(fingerprints), _SAMPLE)]
    apart = distances(some, some)[np.triu_indices(len(some), 1)]
    return float(np.clip(_SHARE * np.median(apart), _LEAST, _MOST))


def groups(fingerprints: Codes) -> npt.NDArray[np.int64]:
    """Return the group `(n,)` of each image, counted in the order of first appearance.

    The first image of a group stands for it: later images join the nearest such image within the limit. So a scene that
    drifts slowly falls into several groups, and not into one.
    """
    within = limit(fingerprints)
    found = np.empty(len(fingerprints), np.int64)
    leaders: list[int] = []
    start = 0
    while start < len(fingerprints):
        chunk = fingerprints[start : start + max(_LEAST_BLOCK, min(_BLOCK, _PAIRS // (len(leaders) + 1)))]
        nearest = np.full(len(chunk), np.inf)
        joined = np.zeros(len(chunk), np.int64)
        if leaders:
            apart = distances(chunk, fingerprints[leaders])
            joined, nearest = apart.argmin(axis=1), apart.min(axis=1)
        inside = distances(chunk, chunk)
        before = len(leaders)
        for i in range(len(chunk)):
            own = [leader - start for leader in leaders[before:]]
            if own and inside[i, own].min() < nearest[i]:
                nearest[i], joined[i] = inside[i, own].min(), before + int(inside[i, own].argmin())
            if nearest[i] > within:
                joined[i] = len(leaders)
                leaders.append(start + i)
        found[start : start + len(chunk)] = joined
        start += len(chunk)
    return found


@lru_cache(maxsize=2)  # an export asks several times, and comparing all images with all takes a while
def groups_of(evidence: Evidence) -> npt.NDArray[np.int64]:
    """Return the group `(n,)` of each image: groups that were named, and repeats among the other images; read-only."""
    found = groups(evidence.fingerprints)
    named = evidence.named != 0
    if named.any():
        _, labels = np.unique(evidence.named[named], return_inverse=True)
        found[named] = labels + len(found)
    _, first, found = np.unique(found, return_index=True, return_inverse=True)
    numbers = np.asarray(np.argsort(np.argsort(first))[found], np.int64)
    numbers.flags.writeable = False
    return numbers


def repeats_of(fitted: Codes, images: Codes) -> npt.NDArray[np.bool_]:
    """Tell which images `(m, 64)` repeat one of the fitted images `(n, 64)`."""
    if not len(fitted) or not len(images):
        return np.zeros(len(images), np.bool_)
    return np.asarray(distances(images, fitted).min(axis=1) <= limit(fitted))


def packed(fingerprints: Codes) -> str:
    """Write fingerprints as text for the metadata: all of them, or an even selection of `MOST_FINGERPRINTS`."""
    some = fingerprints[_even(len(fingerprints), MOST_FINGERPRINTS)]
    # Differences from image to image are small numbers, which pack well.
    steps = np.diff(some.astype("<u2"), axis=0, prepend=np.zeros((1, CELLS), "<u2")).astype("<u2")
    planes = np.ascontiguousarray(steps.T).view(np.uint8).reshape(-1, 2).T
    return base64.b64encode(zlib.compress(np.ascontiguousarray(planes).tobytes(), 9)).decode()


def unpacked(text: str) -> Codes:
    """Read what `packed` wrote: `(n, 64)`.

    Raises:
        ArtifactError: The text is damaged.
    """
    if not text:
        return np.empty((0, CELLS), np.uint16)
    try:
        reader = zlib.decompressobj()
        content = reader.decompress(base64.b64decode(text, validate=True), 2 * CELLS * MOST_FINGERPRINTS + 1)
        if not reader.eof:
            raise ValueError("they are cut short")
        planes = np.frombuffer(content, np.uint8).reshape(2, -1)
        steps = np.ascontiguousarray(planes.T).view("<u2").reshape(CELLS, -1).T
    except (ValueError, zlib.error) as error:
        raise ArtifactError(f"the fingerprints in the model cannot be read ({error}); export the model again") from None
    return np.cumsum(steps, axis=0, dtype=np.uint16)


def _even(count: int, most: int) -> npt.NDArray[np.int64]:
    """Return the indices of an even selection of at most `most`."""
    return np.arange(count) if count <= most else np.linspace(0, count - 1, most).round().astype(np.int64)


def _number(group: str) -> int:
    """Return a number other than 0 that stands for a group's name on every machine."""
    return (
        int.from_bytes(hashlib.sha256(group.encode("utf-8", "surrogateescape")).digest()[:8], "little", signed=True)
        or 1
    )
