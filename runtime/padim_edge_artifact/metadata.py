"""Description of a model inside its file: one JSON object under one key of the ONNX `metadata_props`."""

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
from padim_edge_artifact.combination import Combination
from padim_edge_artifact.errors import ArtifactError, PadimEdgeError
from padim_edge_artifact.method import Method, Precision
from padim_edge_artifact.names import FORMAT_VERSION
from padim_edge_artifact.preprocessing import Preprocessing
from padim_edge_artifact.reference import Reference
from padim_edge_artifact.roi import from_runs

__all__ = [
    "Backbone",
    "Digests",
    "Metadata",
    "PastThreshold",
    "Reduction",
    "SelfTest",
    "decode",
    "from_json",
    "to_json",
]


@dataclass(frozen=True)
class Backbone:
    """Provenance of the backbone's weights; `Method` names the network and its layers."""

    channels: tuple[int, ...]
    """Number of channels of each layer, in the order of `Method.layers`."""
    weights: str
    """Source of the weights, in words."""
    weights_digest: str
    """SHA-256 of the weights, 64 hexadecimal digits."""
    licence: str
    """Licence of the weights."""


@dataclass(frozen=True)
class Reduction:
    """Outcome of the reduction that `Method` asks for."""

    channels: tuple[int, ...] | None
    """Kept channels in ascending order, for `random`; `None` for a projection."""
    stage_dims: tuple[int, ...] | None
    """Number of dimensions kept from each layer; `None` where all layers were reduced together."""


@dataclass(frozen=True)
class Digests:
    """Checksums against damage. The model's digest is taken with its own 64 digits replaced by zeros."""

    model: str
    """SHA-256 of the `.onnx` file, 64 hexadecimal digits."""
    data: str | None
    """SHA-256 of the data file; `None` where all constants are in the `.onnx` file."""
    data_file: str | None
    """Name of the data file, in the same folder."""
    data_bytes: int
    """Size of the data file in bytes; 0 without one."""


@dataclass(frozen=True)
class SelfTest:
    """Answer of the model to `padim_edge_artifact.self_test.probe_image` on the machine that made it."""

    score: float
    """Image score."""
    map_samples: tuple[float, ...]
    """Values of the anomaly map at `padim_edge_artifact.self_test.sample_points`."""
    tolerance: float
    """Largest relative difference that the model's precision allows."""


@dataclass(frozen=True)
class PastThreshold:
    """A threshold that the model had before, so that it can be had back.

    No field has the name of one in `Metadata`: small programs look for those in the text, without reading JSON.
    """

    score: float
    """Score above which an image was anomalous."""
    rule: str
    """`Metadata.threshold_rule` of that time."""
    rate: float
    """Share of good images that it let raise alarms, in (0, 1)."""
    until: str
    """Date of its replacement, `YYYY-MM-DD`."""
    reason: str
    """Reason of its replacement, in words."""
    evidence: Calibration
    """Scores that it was set with."""


@dataclass(frozen=True)
class Metadata:
    """Everything that a runtime needs to know, and that a person wants to know, about one model."""

    class_name: str
    """Name of the part, such as `bottle`."""
    created_by: str
    """Name and version of the program that wrote the file."""
    method: Method
    """Options that the model was made with."""
    backbone: Backbone
    """Provenance of the backbone's weights."""
    reduction: Reduction
    """Kept channels or dimensions."""
    grid: tuple[int, int]
    """(h, w), rows and columns of patches."""
    images: int
    """Number of good images that the model was fitted on."""
    threshold: float
    """Score above which an image is anomalous."""
    threshold_rule: str
    """Source of the threshold, in words."""
    false_alarm_rate: float
    """Share of good images that the threshold lets raise alarms, in (0, 1)."""
    extrapolated: bool
    """Whether that rate is below what the calibration scores resolve, so that the threshold is their highest."""
    calibration: Calibration
    """Scores of good images outside the fit: leave-one-out scores, or those of held-out images."""
    reference: Reference
    """Look of the good images, to tell a moved camera or lamp from a defect."""
    roi: tuple[int, ...] | None
    """Region of interest in the model's frame, as run lengths (see `roi`); `None` where everything is inspected."""
    digests: Digests
    """Checksums of the file and its data file."""
    self_test: SelfTest
    """Expected answer to the self-test image."""
    revision: int = 1
    """Number of this revision: 1 is an export, 2 its first update."""
    parent: str | None = None
    """`digests.model` of the model that this one is an update of; `None` for an export."""
    statistics: str | None = None
    """Digest of the statistics that the model was made from; see `Statistics.digest`."""
    independent: int | None = None
    """Number of independent images among those that were fitted on: repeats count once. `None` where it is unknown."""
    fingerprints: str = ""
    """Base64 of the fingerprints of fitted images, all or an even selection; see `padim_edge_model.repeats`."""
    drift: float = 1.0
    """Factor by which scores rise when an image's neighbours in time are left out as well, 1 or more."""
    history: tuple[PastThreshold, ...] = ()
    """Thresholds that the model had before, the oldest first."""
    prototypes: int | None = None
    """M, number of prototypes of a memory; `None` for Gaussians."""
    combination: Combination | None = None
    """Weights of Gaussians and memory, and how they were chosen; `None` for a method with one kind of distance."""
    format_version: int = FORMAT_VERSION
    """Version of the file format."""

    @property
    def preprocessing(self) -> Preprocessing:
        """Way of an image into the model's frame."""
        return self.method.preprocessing

    @property
    def precision(self) -> Precision:
        """Number types, target and form of the Gaussians."""
        return self.method.precision

    @property
    def inspected(self) -> npt.NDArray[np.bool_]:
        """`(H, W)`, True where score and map count; all True without a region of interest."""
        return np.ones(self.size, np.bool_) if self.roi is None else from_runs(self.roi, self.size)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the model's frame and of its anomaly map, in pixels."""
        return self.preprocessing.size

    @property
    def input_size(self) -> tuple[int, int]:
        """(H, W) of the graph's input in pixels; differs from `size` where the graph resizes camera frames itself."""
        return self.preprocessing.input_size


def to_json(metadata: Metadata) -> str:
    """Write the metadata as one JSON object; the same metadata always gives the same text."""
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
    """Turn a value out of JSON into the annotated type `kind`; `where` names it in errors.

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
        try:
            return kind(**fields)  # type: ignore[operator]  # a dataclass type is callable
        except PadimEdgeError as error:
            raise ArtifactError(f"{where} cannot be used: {error}") from error
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
