"""Draws one image of the sample, good or with a defect.

Every image has random generators of its own, which depend on class, split, defect, index and seed and on nothing
else. So images can be drawn in any order, one at a time or in parallel, and each is always the same.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from padim_edge.sample import bottle, bottle_defects, weave, weave_defects
from padim_edge.sample.field import Plane, Scene
from padim_edge.sample.light import Light, choose_light, expose
from padim_edge_artifact.errors import PadimEdgeError

__all__ = ["CLASSES", "DEFECTS", "Mask", "Pixels", "Split", "draw_defect", "draw_good", "draw_twin"]

Pixels: TypeAlias = npt.NDArray[np.uint8]
"""`(S, S, 3)` uint8, RGB."""

Mask: TypeAlias = npt.NDArray[np.bool_]
"""`(S, S)` bool, True where the image shows a defect."""

Split: TypeAlias = Literal["train", "test"]
"""Which half of the sample a good image belongs to."""

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
"""Below this size a bottle's lip is one pixel wide and nothing can be seen."""
_FINE = 256
"""Images smaller than this are drawn larger and averaged, because their threads would be thinner than the pixels."""
_NOTICED = 0.35
"""Cover from which a pixel belongs to the mask."""
_THING, _NOISE, _FLAW = range(3)
"""What a generator is for: the thing and its light, the sensor noise, the defect."""


def draw_good(class_name: str, index: int, *, seed: int = 0, size: int = 320, split: Split = "train") -> Pixels:
    """Draws a good image.

    Args:
        class_name: One of `CLASSES`.
        index: Which image, 0 or more.
        seed: Which sample, 0 or more.
        size: Side of the image in pixels, 32 or more.
        split: `"train"` or `"test"`; the two share no image.

    Returns:
        `(size, size, 3)` uint8, RGB.

    Raises:
        PadimEdgeError: No such class, or a number out of range.
    """
    _check(class_name, index, seed, size)
    return _draw((class_name, split, None, index, seed), size, flawed=False)[0]


def draw_defect(class_name: str, defect: str, index: int, *, seed: int = 0, size: int = 320) -> tuple[Pixels, Mask]:
    """Draws an image with a defect, and marks the pixels which the defect changed.

    Args:
        class_name: One of `CLASSES`.
        defect: One of `DEFECTS[class_name]`.
        index: Which image, 0 or more; easy and hard ones alternate.
        seed: Which sample, 0 or more.
        size: Side of the image in pixels, 32 or more.

    Returns:
        The image, `(size, size, 3)` uint8 RGB, and the mask, `(size, size)` bool, never empty.

    Raises:
        PadimEdgeError: No such class or defect, or a number out of range.
    """
    _check(class_name, index, seed, size, defect)
    pixels, cover = _draw((class_name, "test", defect, index, seed), size, flawed=True)
    # A line thinner than a pixel covers none of them by much, so the bar is lowered for it.
    return pixels, cover >= min(_NOTICED, 0.6 * float(cover.max()))


def draw_twin(class_name: str, defect: str, index: int, *, seed: int = 0, size: int = 320) -> Pixels:
    """Draws what `draw_defect` draws, without the defect: the same thing, light, camera and noise.

    Arguments and errors are those of `draw_defect`. The twin is not part of the sample; it shows what a defect changed.
    """
    _check(class_name, index, seed, size, defect)
    return _draw((class_name, "test", defect, index, seed), size, flawed=False)[0]


def _check(class_name: str, index: int, seed: int, size: int, defect: str | None = None) -> None:
    """Refuses what cannot be drawn."""
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
    """Names as a sentence lists them."""
    return ", ".join(names[:-1]) + " and " + names[-1]


def _draw(key: tuple[str, Split, str | None, int, int], size: int, *, flawed: bool) -> tuple[Pixels, Plane]:
    """Draws the image with the key (class, split, defect, index, seed); `flawed` False leaves the defect out."""
    class_name, split, defect, index, seed = key
    kind = 0 if defect is None else 1 + DEFECTS[class_name].index(defect)
    ids = [seed, CLASSES.index(class_name), _SPLITS.index(split), kind, index]
    thing, noise, flaw = (np.random.default_rng([*ids, purpose]) for purpose in (_THING, _NOISE, _FLAW))
    finer = -(-_FINE // size) if size < _FINE else 1
    # Steps of the golden ratio spread the ease evenly over however many images are drawn; the first is an easy one.
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
    """Scene, cover of the defect, and light of a bottle."""
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
    """Scene, cover of the defect, and light of a cloth."""
    light = choose_light(thing)
    cloth = weave.lay(thing, size)
    if defect is not None and defect in weave_defects.FAULTS:
        cloth, cover = weave_defects.FAULTS[defect](cloth, ease, flaw)
        return weave.shade(cloth, light), cover, light
    scene = weave.shade(cloth, light)
    if defect is None:
        return scene, np.zeros((size, size), np.float32), light
    return *weave_defects.MARKS[defect](scene, light, ease, flaw), light
