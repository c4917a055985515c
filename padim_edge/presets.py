"""The presets: everything of the method that a user may choose, with one name."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from padim_edge_artifact import PadimEdgeError, Preprocessing

__all__ = ["PRESETS", "REDUCTIONS", "Preset", "choose", "parse_frame", "parse_size"]

REDUCTIONS = ("random", "semi-orthogonal", "pca")
"""`random` channels (PaDiM), a random projection, or the principal components of the good images' features."""


_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


@dataclass(frozen=True)
class Preset:
    """One way to run PaDiM."""

    name: str
    preprocessing: Preprocessing
    reduction: str
    """One of `REDUCTIONS`."""
    pooling: int
    """Side of the mean pooling of the embedding; 1 is none."""
    ridge: float
    """Added to the diagonal of every covariance."""
    shares: tuple[float, ...] | None = None
    """Share of the dimensions that each stage gets, finest first; `None` draws from all stages together. They are made
    for as many stages as there are; see `shares_of`."""
    sigma_at_224: float = 4.0
    """Standard deviation of the map's Gaussian filter in pixels, for an input of 224 pixels."""
    dims: int = 100
    pool_patches: bool = False
    """Pool over patches of the finest grid; otherwise over the cells of each stage, before the upsampling."""

    @property
    def sigma(self) -> float:
        """The same, scaled to this preset's input size."""
        return self.sigma_at_224 * min(self.preprocessing.size) / 224

    def shares_of(self, layers: int) -> tuple[float, ...] | None:
        """The shares of a backbone with so many layers: equal ones where this preset's are for another number."""
        if self.shares is None or len(self.shares) == layers:
            return self.shares
        return (1 / layers,) * layers


_WHOLE_FRAME = Preprocessing(resize=(224, 224))

# Drawn from all 448 channels together, 57 % of the dimensions come from the coarsest stage, whose vectors are shared by
# 4 x 4 patches and say little of place; and their number changes with the seed. Half of them from the middle stage and
# a quarter from each neighbour gave, over 4 seeds with ResNet-18: screw image / pixel AUROC .889 / .985 (worst seed
# .878) against .859 / .981 (.835) from all together over 5, and on bottle .986 against .982 pixel AUROC.
_SHARES = (0.25, 0.5, 0.25)

PRESETS = {
    preset.name: preset
    for preset in (
        # The published method (PaDiM, section IV-B): resize to 256, centre crop of 224, random dimensions, 0.01.
        Preset("paper", Preprocessing(resize=(256, 256), crop=(224, 224)), "random", pooling=1, ridge=0.01),
        # Nothing cropped away; pooling forgives small shifts of the part. Each stage is pooled over its own cells, so
        # that patches of one cell keep sharing a vector: a third of the constants (see `whitening`). Pooled over
        # patches instead, screw has .882 / .985 against .878 / .985, and bottle the same (means of seeds 0 and 1).
        Preset("edge", _WHOLE_FRAME, "random", pooling=3, ridge=0.003, shares=_SHARES),
        # Here it matters: .892 / .987 on screw against .873 / .986.
        Preset("accurate", _WHOLE_FRAME, "semi-orthogonal", 3, ridge=0.003, shares=_SHARES, pool_patches=True),
    )
}


def choose(
    name: str,
    *,
    dims: int | None = None,
    size: str | None = None,
    reduction: str | None = None,
    camera: tuple[int, int] | None = None,
) -> Preset:
    """A preset, with other dimensions or another size where they are given.

    Args:
        name: A key of `PRESETS`.
        dims: Embedding dimensions.
        size: `256` or `256x512` (height x width): the whole frame is brought to it and nothing is cropped.
        reduction: One of `REDUCTIONS`.
        camera: (height, width) in pixels of the raw frames that the model shall resize by itself.

    Raises:
        PadimEdgeError: No such preset or reduction, or not a size.
    """
    if name not in PRESETS:
        raise PadimEdgeError(f"there is no preset {name!r}; choose one of {', '.join(PRESETS)}")
    preset = PRESETS[name]
    if dims is not None:
        preset = replace(preset, dims=dims)
    if reduction is not None:
        if reduction not in REDUCTIONS:
            raise PadimEdgeError(f"there is no reduction {reduction!r}; choose one of {', '.join(REDUCTIONS)}")
        preset = replace(preset, reduction=reduction)
    if camera is not None:
        preset = replace(preset, preprocessing=replace(preset.preprocessing, camera=camera))
    if size is None:
        return preset
    sides = re.fullmatch(r"(\d+)(?:x(\d+))?", size)
    height, width = (int(sides[1]), int(sides[2] or sides[1])) if sides else (0, 0)
    if min(height, width) < 32 or max(height, width) > 4096:
        raise PadimEdgeError(f"--size is {size!r}, expected 32 to 4096 pixels a side, as in 256 or 256x512")
    return replace(preset, preprocessing=replace(preset.preprocessing, resize=(height, width), crop=None))


def parse_frame(text: str) -> tuple[int, int]:
    """(height, width) in pixels, from `1080x1920`.

    Raises:
        PadimEdgeError: Not a size.
    """
    sides = re.fullmatch(r"(\d+)x(\d+)", text)
    height, width = (int(sides[1]), int(sides[2])) if sides else (0, 0)
    if min(height, width) < 8 or max(height, width) > 16384:
        raise PadimEdgeError(f"--frame is {text!r}, expected height x width in pixels, 8 to 16384, as in 1080x1920")
    return height, width


def parse_size(text: str) -> int:
    """Bytes, from `20MB`, `1.5 GiB` or `500000`.

    Raises:
        PadimEdgeError: Not a size.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kKmMgG]?(?:i?[bB])?)\s*", text)
    unit = found[2].upper() if found else ""
    if found is None or unit not in _UNITS or float(found[1]) <= 0:
        raise PadimEdgeError(f"--budget is {text!r}, expected a size such as 20MB, 500kB or 1.5GB")
    return int(float(found[1]) * _UNITS[unit])
