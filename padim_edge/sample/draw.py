"""Drawing of one image of the sample, good or with a defect.

Every image has random generators of its own. They depend on class, split, defect, index and seed only, so images can be
drawn in any order, also in parallel, and each is always the same.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from padim_edge.sample import bottle, bottle_defects, weave, weave_defects
from padim_edge.sample.field import Plane, Scene
from padim_edge.sample.light import Light, choose_light, expose
from padim_edge_artifact.errors import PadimEdgeError

__all__ = ["CLASSES", "DEFECTS", "Mask", "Pixels", "Split", "check", "draw_defect", "draw_good", "draw_twin"]

Pixels: TypeAlias = npt.NDArray[np.uint8]
"""`(S, S, 3)` uint8, RGB."""

Mask: TypeAlias = npt.NDArray[np.bool_]
"""`(S, S)` bool, True where the image shows a defect."""

Split: TypeAlias = Literal["train", "test"]
"""Half of the sample that a good image belongs to."""

_Key: TypeAlias = tuple[str, Split, str | None, int, int]
"""Class, split, defect (`None` for a good image), index and seed."""

# Positions in these tuples go into the seeds: add new names at the end, or every image changes.
CLASSES: tuple[str, ...] = ("bottle", "weave")
"""An object and a texture."""

DEFECTS: dict[str, tuple[str, ...]] = {
    "bottle": ("bubble", "chip", "contamination", "crack", "deformed", "stain"),
    "weave": ("cut_thread", "foreign_fibre", "hole", "knot", "misweave", "stain"),
}
"""Kinds of defect of each class."""

_SPLITS: tuple[Split, ...] = ("train", "test")
_SMALLEST = 32
"""Smallest side in pixels. Below it a bottle's lip is one pixel wide, and nothing can be seen."""
_FINE = 256
"""Side in pixels below which images are drawn larger and averaged. Their threads would be thinner than the pixels."""
_NOTICED = 0.35
"""Lowest cover of a pixel in the mask, 0 to 1."""
_THING, _NOISE, _FLAW = range(3)
"""Purposes of random generators: the thing and its light, the sensor noise, the defect."""

_KEPT = 320
"""Number of drawn images kept in memory. The whole sample of both classes has 312."""
_LARGEST_KEPT = 320
"""Largest side in pixels of an image that is kept: with its mask it takes at most 410 kB, and all of them 131 MB."""


def draw_good(class_name: str, index: int, *, seed: int = 0, size: int = 320, split: Split = "train") -> Pixels:
    """Draw a good image.

    An image of at most 320 x 320 pixels is kept, so the same call soon after costs only a copy. The last 320 images are
    kept, at most 131 MB.

    Args:
        class_name: One of `CLASSES`.
        index: Number of the image, 0 or more.
        seed: Number of the sample, 0 or more.
        size: Side of the image in pixels, 32 or more.
        split: `"train"` or `"test"`; the two share no image.

    Returns:
        `(size, size, 3)` uint8, RGB; the caller's own to change.

    Raises:
        PadimEdgeError: There is no such class, or a number is out of range.
    """
    check(class_name, index, seed, size)
    return _drawn((class_name, split, None, index, seed), size)[0].copy()


def draw_defect(class_name: str, defect: str, index: int, *, seed: int = 0, size: int = 320) -> tuple[Pixels, Mask]:
    """Draw an image with a defect, and mark the pixels that the defect changed.

    The image is kept as one of `draw_good` is.

    Args:
        class_name: One of `CLASSES`.
        defect: One of `DEFECTS[class_name]`.
        index: Number of the image, 0 or more; easy and hard defects alternate.
        seed: Number of the sample, 0 or more.
        size: Side of the image in pixels, 32 or more.

    Returns:
        The image, `(size, size, 3)` uint8 RGB, and the mask, `(size, size)` bool, never empty; both the caller's own.

    Raises:
        PadimEdgeError: There is no such class or defect, or a number is out of range.
    """
    check(class_name, index, seed, size, defect)
    pixels, mask = _drawn((class_name, "test", defect, index, seed), size)
    assert mask is not None
    return pixels.copy(), mask.copy()


def draw_twin(class_name: str, defect: str, index: int, *, seed: int = 0, size: int = 320) -> Pixels:
    """Draw the image of `draw_defect` without its defect: the same thing, light, camera and noise.

    Arguments and errors are those of `draw_defect`. The twin is not part of the sample; it shows what a defect changed.
    """
    check(class_name, index, seed, size, defect)
    return _draw((class_name, "test", defect, index, seed), size, flawed=False)[0]


def check(class_name: str, index: int, seed: int, size: int, defect: str | None = None) -> None:
    """Raise PadimEdgeError for an image that cannot be drawn."""
    if class_name not in CLASSES:
        raise PadimEdgeError(
            f"the sample has no class {class_name!r}, only {_listed(CLASSES)}; choose one of those names"
        )
    if defect is not None and defect not in DEFECTS[class_name]:
        raise PadimEdgeError(
            f"the sample's {class_name} has no defect {defect!r}, only {_listed(DEFECTS[class_name])}; "
            "choose one of those names"
        )
    for name, value, least in (("index", index, 0), ("seed", seed, 0), ("size", size, _SMALLEST)):
        if value < least:
            raise PadimEdgeError(f"the sample's {name} is {value}, expected {least} or more; give a larger {name}")


def _listed(names: tuple[str, ...]) -> str:
    """Join names as a sentence does: "a, b and c"."""
    return ", ".join(names[:-1]) + " and " + names[-1]


def _drawn(key: _Key, size: int) -> tuple[Pixels, Mask | None]:
    """Return an image and its mask, `None` for a good image. An image that is still kept is not drawn again."""
    return (_kept if size <= _LARGEST_KEPT else _masked)(key, size)


def _masked(key: _Key, size: int) -> tuple[Pixels, Mask | None]:
    flawed = key[2] is not None
    pixels, cover = _draw(key, size, flawed=flawed)
    if not flawed:
        return pixels, None
    # A line thinner than a pixel covers no pixel by much, so the limit is lower for it.
    return pixels, cover >= min(_NOTICED, 0.6 * float(cover.max()))


_kept = lru_cache(_KEPT)(_masked)


def _draw(key: _Key, size: int, *, flawed: bool) -> tuple[Pixels, Plane]:
    """Draw the image of a key, and return how much of each pixel the defect covers. `flawed` False leaves it out."""
    class_name, split, defect, index, seed = key
    kind = 0 if defect is None else 1 + DEFECTS[class_name].index(defect)
    ids = [seed, CLASSES.index(class_name), _SPLITS.index(split), kind, index]
    thing, noise, flaw = (np.random.default_rng([*ids, purpose]) for purpose in (_THING, _NOISE, _FLAW))
    finer = -(-_FINE // size) if size < _FINE else 1
    # Steps of the golden ratio spread the ease evenly over any number of images; the first one is easy.
    ease = (0.92 + index * 0.6180339887) % 1.0
    scene, cover, light = (_bottle if class_name == "bottle" else _weave)(
        thing, flaw, defect if flawed else None, ease, size * finer
    )
    if finer > 1:
        blocks = (size, finer, size, finer)
        scene, cover = scene.reshape(*blocks, 3).mean(axis=(1, 3)), cover.reshape(blocks).mean(axis=(1, 3))
    return expose(scene, light, noise), cover


def _bottle(
    thing: np.random.Generator, flaw: np.random.Generator, defect: str | None, ease: float, size: int
) -> tuple[Scene, Plane, Light]:
    """Draw a bottle: its scene, the cover of the defect, and the light."""
    light = choose_light(thing)
    frame, glass = bottle.stand(thing, size), bottle.choose_glass(thing, size)
    if defect is not None and defect in bottle_defects.WARPS:
        frame, cover = bottle_defects.WARPS[defect](frame, ease, flaw)
        return bottle.shade(frame, glass, light), cover, light
    scene = bottle.shade(frame, glass, light)
    if defect is None:
        return scene, np.zeros((size, size), np.float32), light
    return *bottle_defects.MARKS[defect](scene, frame, light, ease, flaw), light


def _weave(
    thing: np.random.Generator, flaw: np.random.Generator, defect: str | None, ease: float, size: int
) -> tuple[Scene, Plane, Light]:
    """Draw a cloth: its scene, the cover of the defect, and the light."""
    light = choose_light(thing)
    cloth = weave.lay(thing, size)
    if defect is not None and defect in weave_defects.FAULTS:
        cloth, cover = weave_defects.FAULTS[defect](cloth, ease, flaw)
        return weave.shade(cloth, light), cover, light
    scene = weave.shade(cloth, light)
    if defect is None:
        return scene, np.zeros((size, size), np.float32), light
    return *weave_defects.MARKS[defect](scene, light, ease, flaw), light
