"""Search for a method that sees more, by rehearsals on good images alone: `export --improve MINUTES`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from padim_edge.model import Model
from padim_edge.presets import PRESETS, preset
from padim_edge.rehearsal.result import Rehearsal
from padim_edge.rehearsal.trials import PLAIN_CONTRAST, PLAIN_EXTENT
from padim_edge_artifact import PadimEdgeError
from padim_edge_artifact.method import Method

__all__ = ["Found", "Try", "improved", "seen_share", "variants"]

_SIDE = 224
"""Side in pixels of the usual frame, of which a plainly visible defect covers `PLAIN_EXTENT`."""
_SMALLEST = PLAIN_EXTENT / _SIDE
"""Smallest extent of a plainly visible defect as a share of the frame's shorter side."""
_FEWEST = 10
"""Smallest number of plainly visible defects that methods are compared by."""
_LARGEST = 1024
"""Largest side in pixels that is tried."""
_GAIN = 0.02
"""Least gain in the share found for which a method takes the place of an earlier, simpler one."""


@dataclass(frozen=True)
class Try:
    """One method to try."""

    words: str
    """Difference from the method that was asked for, such as `--size 448`."""
    method: Method
    """The method."""


@dataclass(frozen=True, eq=False)
class Found:
    """A method, and how much it sees."""

    what: Try
    """The method."""
    share: float | None
    """Share of the plainly visible planted defects that is found, 0 to 1; `None` where there are too few."""
    model: Model
    """Its model."""
    rehearsal: Rehearsal
    """Its rehearsal."""

    def __str__(self) -> str:
        if self.share is None:
            return f"{self.what.words}: fewer than {_FEWEST} plainly visible defects could be drawn to compare by"
        size = f"from {100 * _SMALLEST:.1f} % of the frame's side"
        return f"{self.what.words}: {100 * self.share:.0f} % of the planted defects {size} are found"


Make = Callable[[Method, Path], tuple[Model, Rehearsal]]
"""Function that writes the model of a method and rehearses it."""


def improved(
    asked: Method,
    path: Path,
    minutes: float,
    make: Make,
    tell: Callable[[str], object] = lambda _: None,
    *,
    both: bool = False,
) -> Found:
    """Try methods until the time is over, and return the model of the one that sees most.

    Only planted defects on good images decide. The first method is the one that was asked for; a later one must see
    clearly more to take its place.

    Args:
        asked: Method that was asked for, settled.
        path: File in a temporary folder; each model is written to a folder of its own beside it, under this file name.
        minutes: Time for all of it, positive. A method that has begun is finished.
        make: Writes and rehearses a model.
        tell: Called with one sentence for each method.
        both: Whether only methods with Gaussians and a memory are tried, because a share of the memory was given.

    Raises:
        PadimEdgeError: The time is not positive, or the method that was asked for cannot be fitted or rehearsed.
    """
    if not 0 < minutes < math.inf:
        raise PadimEdgeError(f"--improve is {minutes:g}, expected a number of minutes such as 10")
    end = time.monotonic() + 60 * minutes
    best: Found | None = None
    pace = 0.0  # seconds per pixel of the slowest method so far
    for number, each in enumerate(variants(asked)):
        if both and each.method.beside is None:
            continue
        pixels = math.prod(each.method.preprocessing.size)
        if best is not None and time.monotonic() + pace * pixels > end:
            tell(f"{each.words}: not tried, because the {minutes:g} minutes of --improve would be over before")
            continue
        start = time.monotonic()
        try:
            found = _tried(each, path.parent / f"{number}" / path.name, make)
        except PadimEdgeError as error:
            if best is None:
                raise
            tell(f"{each.words}: not tried, because {error}")
            continue
        pace = max(pace, (time.monotonic() - start) / pixels)
        tell(str(found))
        best = found if best is None else _better(best, found)
        if best.share is None:
            break  # there is nothing to compare by
    assert best is not None, "the method that was asked for comes first"
    tell(f"taken: {best.what.words}")
    return best


def _better(best: Found, found: Found) -> Found:
    """Return the later one where it sees clearly more."""
    clearly = best.share is not None and found.share is not None and found.share > best.share + _GAIN
    return found if clearly else best


def variants(asked: Method) -> Iterator[Try]:
    """Yield the method itself, then other presets, larger frames, more dimensions, and another backbone."""
    yield Try("as asked", asked)
    for name in ("auto", "free", "edge"):
        other = PRESETS[name]
        if name != asked.preset and _kinds(other) != _kinds(asked):
            yield Try(f"--preset {name}", _like(asked, preset(name, backbone=asked.backbone, seed=asked.seed)))
    height, width = asked.preprocessing.size
    for factor in (1.5, 2.0):
        size = tuple(32 * round(factor * side / 32) for side in (height, width))
        if max(size) <= _LARGEST and asked.preprocessing.camera is None:
            larger = replace(asked.preprocessing, resize=(size[0], size[1]), crop=None)
            sigma = asked.sigma * math.sqrt(math.prod(size) / (height * width))
            yield Try(f"--size {size[0]}x{size[1]}", asked.changed(preprocessing=larger, sigma=sigma))
    if asked.bank is None:
        most = _channels(asked)
        if 2 * asked.dims <= most:
            yield Try(f"--dims {2 * asked.dims}", replace(asked, dims=2 * asked.dims))
    if asked.backbone == "resnet18":
        other = preset(asked.preset, backbone="wide_resnet50_2", seed=asked.seed)
        yield Try("--backbone wide_resnet50_2", _like(asked, replace(other, dims=min(other.dims, 200))))


def _kinds(method: Method) -> list[bool]:
    """Return for each kind of distance of a method whether it is a memory."""
    return [head.bank is not None for head in method.heads]


def _channels(method: Method) -> int:
    from padim_edge_export.backbones import channels_of

    return sum(channels_of(method.backbone, method.layers).values())


def _like(asked: Method, other: Method) -> Method:
    """Return another method with the frame and the number types of the one that was asked for."""
    exact = asked.precision if other.bank is None else asked.precision.numbers
    return replace(other.changed(preprocessing=asked.preprocessing, sigma=asked.sigma), precision=exact)


def _tried(what: Try, path: Path, make: Make) -> Found:
    path.parent.mkdir()
    model, rehearsal = make(what.method, path)
    return Found(what, seen_share(rehearsal), model, rehearsal)


def seen_share(rehearsal: Rehearsal) -> float | None:
    """Return the share found of the plainly visible defects; `None` where there are too few of them.

    Extents count as shares of the frame, so frames of all sizes are compared by defects of the same size.
    """
    least = _SMALLEST * min(rehearsal.metadata.size)
    visible = [each for each in rehearsal.counted if each.contrast >= PLAIN_CONTRAST and each.extent >= least]
    if len(visible) < _FEWEST:
        return None
    return sum(each.score > rehearsal.threshold for each in visible) / len(visible)
