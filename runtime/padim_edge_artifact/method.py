"""The method as one value: everything besides images and weights that decides what is fitted and what runs."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated, Any, TypeAlias

from padim_edge_artifact.errors import PadimEdgeError
from padim_edge_artifact.preprocessing import Preprocessing
from padim_edge_artifact.schema import MOST_DIMS, MOST_LAYERS, Number, Several, Text, Whole, check, shown

__all__ = ["PRECISIONS", "REDUCTIONS", "TARGETS", "UPSAMPLINGS", "Bank", "Method", "Precision"]

PRECISIONS = ("fp32", "fp16", "int8")
"""Number types of the backbone and of the distance's constants."""

TARGETS = ("cpu", "tensorrt")
"""Engines that an int8 graph can be written for: onnxruntime's CPU provider, or TensorRT."""

REDUCTIONS = ("random", "semi-orthogonal", "pca")
"""Ways from all channels to the embedding: a random choice of channels (PaDiM, sections III-A and V-A), a random
projection with orthonormal rows (arXiv 2105.14737, section 3.2), or the principal components of the good images'
features."""


UPSAMPLINGS = ("nearest", "bilinear")
"""Ways of a coarser layer's cells to the grid of the patches."""

_Dims: TypeAlias = Annotated[int, Whole(1, MOST_DIMS)]
_Prototypes: TypeAlias = Annotated[int, Whole(1, 2**31)]
_Share: TypeAlias = Annotated[float, Number(0, 1)]
_Word: TypeAlias = Annotated[str, Text(255)]
_Layer: TypeAlias = Annotated[int, Whole(0, MOST_LAYERS)]


def _choice(what: str, found: str, known: tuple[str, ...]) -> None:
    if found not in known:
        raise PadimEdgeError(f"there is no {what} {shown(found)}; choose one of {', '.join(known)}")


@dataclass(frozen=True)
class Precision:
    """Number types of a model, and how much of each Gaussian it keeps.

    Raises:
        PadimEdgeError: Unknown precision or target, or options that contradict each other.
    """

    name: _Word = "fp32"
    """One of `PRECISIONS`."""
    target: _Word = "cpu"
    """One of `TARGETS`; only int8 graphs differ between them."""
    rank: _Dims | None = None
    """Number of main directions that each Gaussian keeps; `None` keeps the exact Gaussian."""
    diagonal: bool = False
    """Whether each Gaussian keeps its variances only."""

    def __post_init__(self) -> None:
        _choice("precision", self.name, PRECISIONS)
        _choice("target", self.target, TARGETS)
        if self.rank is not None and self.rank < 1:
            raise PadimEdgeError(f"the rank is {self.rank}, expected 1 or more; leave it out for the exact Gaussian")
        if self.diagonal and self.rank is not None:
            raise PadimEdgeError("--rank and --diagonal exclude each other; a diagonal covariance has no rank to cut")
        check(self)

    def __str__(self) -> str:
        form = ", variances only" if self.diagonal else "" if self.rank is None else f", rank {self.rank}"
        return f"{self.name} for {self.target}{form}"

    @property
    def exact(self) -> bool:
        """Whether each Gaussian is kept exactly."""
        return self.rank is None and not self.diagonal

    @property
    def numbers(self) -> Precision:
        """The same number types and target with exact Gaussians: all that the embedding graph depends on."""
        return Precision(self.name, self.target)


@dataclass(frozen=True)
class Bank:
    """Options of a memory of prototypes, which takes the place of one Gaussian per patch.

    A patch's distance is that to the nearest prototype, wherever in the image the prototype comes from. So parts may
    lie freely.

    Raises:
        PadimEdgeError: A value is outside its range, or values contradict each other.
    """

    prototypes: _Prototypes | None = 4096
    """M, largest number of prototypes, 1 or more; `None` where `share` says it."""
    share: _Share | None = None
    """Share of the good images' patches that are prototypes, in (0, 1]; `None` where `prototypes` says it."""
    whitened: bool = True
    """Whether the distance is the Mahalanobis distance of one covariance for all patches; otherwise Euclidean, as in
    PatchCore (arXiv 2106.08265)."""
    neighbours: Annotated[int, Whole(1, 4096)] = 1
    """Number of prototypes that the scores are re-weighted by (PatchCore, eq. 7, b), 2 or more; 1 is none."""
    searched: _Share = 0.25
    """Share of an image's patches that are compared with all prototypes, in (0, 1]: those that are farthest from the
    most frequent ones. The others are compared with the most frequent ones only."""
    turned: bool = False
    """Whether each good image is also learned from flipped and turned."""
    frequent: _Prototypes = 768
    """Number of the most frequent prototypes, which all patches are compared with, 1 or more."""

    def __post_init__(self) -> None:
        if (self.prototypes is None) == (self.share is None):
            raise PadimEdgeError("the memory has a number and a share of prototypes, or neither; give one of them")
        if self.prototypes is not None and self.prototypes < 1:
            raise PadimEdgeError(f"the memory has {self.prototypes} prototypes, expected 1 or more, such as 4096")
        if self.share is not None and not 0 < self.share <= 1:
            raise PadimEdgeError(f"the memory has {self.share} of the patches, expected a share such as 0.1 or 10%")
        if not 0 < self.searched <= 1:
            raise PadimEdgeError(f"the memory searches {self.searched} of the patches, expected a share such as 0.25")
        if self.frequent < 1:
            raise PadimEdgeError(f"all patches are compared with {self.frequent} prototypes, expected 1 or more")
        if self.neighbours < 1:
            raise PadimEdgeError(f"the memory re-weights by {self.neighbours} prototypes, expected 1 (none) or more")
        check(self)


@dataclass(frozen=True)
class Method:
    """One way to find anomalies, complete and checked: PaDiM's Gaussians, or a memory in the same metric.

    `padim_edge.preset` makes one from a preset and options. Statistics and models keep it as it is.

    Raises:
        PadimEdgeError: A value is outside its range, or values contradict each other.
    """

    preset: _Word
    """Name of the preset that it began with."""
    preprocessing: Preprocessing
    """Way of an image into the model's frame."""
    backbone: _Word
    """Name of the pretrained network."""
    layers: Annotated[tuple[_Word, ...], Several(1, MOST_LAYERS)]
    """Modules of the network whose outputs are the features, finest first."""
    reduction: _Word
    """One of `REDUCTIONS`."""
    dims: _Dims
    """D, number of embedding dimensions, 1 or more."""
    seed: Annotated[int, Whole()]
    """Random seed of the reduction, 0 or more; without effect on `pca`."""
    shares: Annotated[tuple[Annotated[float, Number()], ...], Several(1, MOST_LAYERS)] | None
    """Share of the dimensions for each layer, positive; `None` draws from all layers together."""
    pooling: Annotated[int, Whole(1, 999)]
    """Side of the mean pooling of the embedding in cells, odd; 1 is none."""
    pool_patches: bool
    """Whether the pooling is over patches of the finest grid; otherwise over each layer's own cells."""
    ridge: Annotated[float, Number()]
    """Number added to the diagonal of every covariance, positive (epsilon in PaDiM, section III-B)."""
    sigma: Annotated[float, Number(0, 4096)]
    """Standard deviation of the anomaly map's Gaussian filter in pixels of the model's frame, 0 or more."""
    precision: Precision = Precision()
    """Number types of the model, and how much of each Gaussian it keeps."""
    bank: Bank | None = None
    """Options of the memory of prototypes; `None` for one Gaussian per patch."""
    grid_layer: _Layer = 0
    """Number of the layer, finest first from 0, whose cells are the patches; finer layers are averaged over these."""
    upsampling: _Word = "nearest"
    """One of `UPSAMPLINGS`."""
    beside: Method | None = None
    """Method of a memory beside the Gaussians, on the same network and frame; `None` for one kind of distance."""

    def __post_init__(self) -> None:
        _choice("reduction", self.reduction, REDUCTIONS)
        _choice("upsampling", self.upsampling, UPSAMPLINGS)
        if self.bank is not None and not self.precision.exact:
            raise PadimEdgeError("a memory has no Gaussians to cut; leave --rank and --diagonal out")
        if self.bank is not None and self.bank.neighbours > 1 and self.precision.name == "int8":
            raise PadimEdgeError(
                "PatchCore's re-weighting is not offered in int8; choose --precision fp32 or fp16, or --preset free"
            )
        wrong = {
            "layers": not self.layers or not all(self.layers),
            "dims": self.dims < 1,
            "seed": self.seed < 0,
            "shares": self.shares is not None
            and (len(self.shares) != len(self.layers) or not all(0 < each < math.inf for each in self.shares)),
            "pooling": self.pooling < 1 or self.pooling % 2 == 0,
            "ridge": not 0 < self.ridge < math.inf,
            "sigma": not 0 <= self.sigma < math.inf,
            "grid_layer": not 0 <= self.grid_layer < len(self.layers),
        }
        for name, refused in wrong.items():
            if refused:
                raise PadimEdgeError(
                    f"{name} is {shown(getattr(self, name))}, expected {_EXPECTED[name]}; choose another one"
                )
        check(self)
        if self.beside is not None:
            self._check_beside(self.beside)

    def _check_beside(self, memory: Method) -> None:
        if self.bank is not None or memory.bank is None or memory.beside is not None:
            raise PadimEdgeError("two kinds of distance are Gaussians and a memory beside them; choose --preset auto")
        if memory.bank.neighbours > 1:
            raise PadimEdgeError("a memory beside Gaussians has no re-weighting; choose --preset auto")
        shared = ("preprocessing", "backbone", "sigma", "seed")
        for name in shared:
            if getattr(self, name) != getattr(memory, name):
                raise PadimEdgeError(f"the memory and the Gaussians have another {name} each, expected the same")
        if not set(memory.layers) <= set(self.layers):
            raise PadimEdgeError(
                f"the memory reads the layers {shown(memory.layers)}, expected some of {shown(self.layers)}"
            )

    @property
    def heads(self) -> tuple[Method, ...]:
        """The method of each kind of distance: the Gaussians, and the memory beside them where there is one."""
        if self.beside is None:
            return (self,)
        numbers = self.precision.numbers
        return replace(self, beside=None), replace(self.beside, precision=numbers)

    def changed(self, **fields: Any) -> Method:
        """Return the method with other values of fields that all kinds of distance share, such as `preprocessing`."""
        memory = None if self.beside is None else replace(self.beside, **fields)
        return replace(self, **fields, beside=memory)


_EXPECTED = {
    "layers": "the names of one or more modules",
    "dims": "1 or more dimensions",
    "seed": "0 or more",
    "shares": "one positive number per layer",
    "pooling": "an odd number of cells, 1 or more",
    "ridge": "a positive number such as 0.003",
    "sigma": "0 or more pixels",
    "grid_layer": "the number of one of the layers, from 0",
}
