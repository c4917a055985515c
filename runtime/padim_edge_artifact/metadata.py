"""What a model file says of itself: one JSON object under one key of the ONNX `metadata_props`."""

from __future__ import annotations

import dataclasses
import json
import sys
import types
import typing
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from padim_edge_artifact.calibration import Calibration
from padim_edge_artifact.errors import ArtifactError
from padim_edge_artifact.names import FORMAT_VERSION
from padim_edge_artifact.preprocessing import Preprocessing
from padim_edge_artifact.roi import from_runs
from padim_edge_model.comparable import Reference

__all__ = ["Backbone", "Digests", "Metadata", "Reduction", "SelfTest", "decode", "from_json", "to_json"]


@dataclass(frozen=True)
class Backbone:
    """The network whose features are modelled."""

    name: str
    layers: tuple[str, ...]
    """Names of the modules whose outputs are concatenated, finest first."""
    channels: tuple[int, ...]
    """Number of channels of each of them."""
    weights: str
    """Where the weights come from, in words."""
    weights_digest: str
    """SHA-256 of the weights used, as 64 hexadecimal digits."""
    licence: str


@dataclass(frozen=True)
class Reduction:
    """How the concatenated channels became D dimensions."""

    kind: str
    """`random` (a choice of channels), `semi-orthogonal` (a random projection) or `pca` (principal components)."""
    dims: int
    seed: int
    channels: tuple[int, ...] | None
    """The kept channels in ascending order, for `random`; `None` for a projection."""
    stage_dims: tuple[int, ...] | None
    """Dimensions that each stage was reduced to by itself; `None` where all stages were reduced together."""


@dataclass(frozen=True)
class Digests:
    """Checks against damage. The model digest is taken over the file with these 64 digits replaced by zeros."""

    model: str
    """SHA-256 of the `.onnx` file, 64 hexadecimal digits."""
    data: str | None
    """SHA-256 of the data file; `None` where all constants are in the `.onnx`."""
    data_file: str | None
    """Name of the data file, in the same folder."""
    data_bytes: int
    """Size of the data file; 0 where there is none."""


@dataclass(frozen=True)
class SelfTest:
    """What the model answered to `padim_edge_artifact.self_test.probe_image` on the machine that made it."""

    score: float
    map_samples: tuple[float, ...]
    """Values of the anomaly map at `padim_edge_artifact.self_test.sample_points`."""
    tolerance: float
    """Largest relative difference that the model's precision allows."""


@dataclass(frozen=True)
class Metadata:
    """Everything that a runtime needs to know, and that a person wants to know, about one model."""

    class_name: str
    created_by: str
    """Name and version of the program that wrote the file."""
    preset: str
    preprocessing: Preprocessing
    backbone: Backbone
    reduction: Reduction
    pooling: int
    """Side of the mean pooling of the embedding; 1 is none."""
    ridge: float
    """Number added to the diagonal of every covariance (the paper's epsilon)."""
    sigma: float
    """Standard deviation of the map's Gaussian filter in pixels of the model's frame."""
    grid: tuple[int, int]
    """(h, w), rows and columns of patches."""
    images: int
    """Number of good images that the Gaussians were fitted on."""
    precision: str
    target: str
    threshold: float
    """An image is anomalous when its score is above this."""
    threshold_rule: str
    """How the threshold was found, in words."""
    false_alarm_rate: float
    """Share of good images that the threshold was set to raise alarms for, in (0, 1)."""
    extrapolated: bool
    """Whether that rate is below what the calibration scores resolve, so that a model of their tail was used."""
    calibration: Calibration
    """Scores of good images outside the fit: leave-one-out scores, or those of held-out images."""
    reference: Reference
    """What the good images looked like, to tell a moved camera or lamp from a defect."""
    roi: tuple[int, ...] | None
    """Region of interest in the model's frame, as run lengths (see `roi`); `None` where everything is inspected."""
    digests: Digests
    self_test: SelfTest
    pool_patches: bool = False
    """Whether the pooling is over patches of the finest grid; otherwise over each stage's own cells."""
    rank: int | None = None
    """Directions that each Gaussian keeps by themselves; `None` where it is exact."""
    diagonal: bool = False
    """Whether each Gaussian keeps its variances only."""
    revision: int = 1
    """Counts the updates: 1 is what was exported, 2 the first update of it."""
    parent: str | None = None
    """Digest of the model that this is an update of, as in its `digests.model`."""
    statistics: str | None = None
    """Digest of the statistics that it was made from; see `Statistics.digest`."""
    format_version: int = FORMAT_VERSION

    @property
    def numbers(self) -> str:
        """Precision, target and form of the Gaussians, for people."""
        form = ", variances only" if self.diagonal else "" if self.rank is None else f", rank {self.rank}"
        return f"{self.precision} for {self.target}{form}"

    @property
    def inspected(self) -> npt.NDArray[np.bool_]:
        """`(H, W)`, True where score and map count; all True without a region of interest."""
        return np.ones(self.size, np.bool_) if self.roi is None else from_runs(self.roi, self.size)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels of the frame that the model judges, and of its map."""
        return self.preprocessing.size

    @property
    def input_size(self) -> tuple[int, int]:
        """(H, W) of the graph's input in pixels; other than `size` where the graph resizes the camera's frames."""
        return self.preprocessing.input_size


def to_json(metadata: Metadata) -> str:
    """The metadata as one JSON object; the same metadata always gives the same text."""
    return json.dumps(dataclasses.asdict(metadata), allow_nan=False, separators=(",", ":"), sort_keys=True)


def from_json(text: str) -> Metadata:
    """Read what `to_json` wrote. Unknown keys are ignored, so that a format version can gain fields.

    Raises:
        ArtifactError: Not JSON, another format version, or a field is missing or of the wrong type.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"the metadata is not JSON ({error}); export the model again") from error
    version = data.get("format_version") if isinstance(data, dict) else None
    if version != FORMAT_VERSION:
        raise ArtifactError(
            f"the model has format version {version!r}, this padim-edge reads version {FORMAT_VERSION}; install the "
            "padim-edge that wrote it, or export it again with this one"
        )
    metadata = decode(Metadata, data, "metadata")
    assert isinstance(metadata, Metadata)
    return metadata


def decode(kind: Any, value: Any, where: str) -> Any:
    """`value`, as JSON gave it, as the annotated type `kind`; `where` names it in errors.

    Raises:
        ArtifactError: A field is missing or of the wrong type.
    """
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise ArtifactError(f"{where} is {value!r}, expected an object; export the model again")
        hints = typing.get_type_hints(kind)
        fields = {}
        for field in dataclasses.fields(kind):
            if field.name in value:
                fields[field.name] = decode(hints[field.name], value[field.name], f"{where}.{field.name}")
            elif field.default is dataclasses.MISSING:
                raise ArtifactError(f"{where} has no {field.name!r}; export the model again with this padim-edge")
        return kind(**fields)  # type: ignore[operator]  # a dataclass type is callable
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:
        return None if value is None else decode(next(a for a in arguments if a is not type(None)), value, where)
    if origin is tuple and isinstance(value, list):
        if arguments[-1] is Ellipsis:
            return tuple(decode(arguments[0], item, where) for item in value)
        if len(value) == len(arguments):
            return tuple(decode(each, item, where) for each, item in zip(arguments, value, strict=True))
    elif kind is float and type(value) in (int, float) and abs(value) <= sys.float_info.max:  # False for NaN
        return float(value)
    elif kind in (bool, int, str) and type(value) is kind:
        return value
    wanted = kind.__name__ if isinstance(kind, type) and origin is None else str(kind)
    raise ArtifactError(f"{where} is {value!r}, expected {wanted}; export the model again")
