"""Description of a model inside its file: one JSON object under one key of the ONNX `metadata_props`."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

import numpy as np
import numpy.typing as npt

from padim_edge_artifact.calibration import Calibration
from padim_edge_artifact.combination import Combination
from padim_edge_artifact.errors import ArtifactError
from padim_edge_artifact.evidence import CELLS
from padim_edge_artifact.method import Method, Precision
from padim_edge_artifact.names import FORMAT_VERSION
from padim_edge_artifact.preprocessing import Preprocessing
from padim_edge_artifact.reference import Reference
from padim_edge_artifact.regular_files import plain_name
from padim_edge_artifact.relations import MOST_FINGERPRINTS, check_relations
from padim_edge_artifact.roi import from_runs
from padim_edge_artifact.schema import (
    MOST_BYTES,
    MOST_DIMS,
    MOST_IMAGES,
    MOST_LAYERS,
    Count,
    Digest,
    Distance,
    Measured,
    Number,
    Positive,
    Rate,
    Several,
    Text,
    Whole,
    Words,
    check,
    decode,
    read_json,
    shown,
)

__all__ = [
    "MOST_PAST",
    "Backbone",
    "Digests",
    "Metadata",
    "PastThreshold",
    "Reduction",
    "SelfTest",
    "from_json",
    "to_json",
]

_MOST_RUNS = 4_000_000
"""Largest number of runs of a region of interest."""
MOST_PAST = 8
"""Largest number of earlier thresholds that a model keeps."""


@dataclass(frozen=True)
class Backbone:
    """Provenance of the backbone's weights; `Method` names the network and its layers."""

    channels: Annotated[tuple[Positive, ...], Several(1, MOST_LAYERS)]
    """Number of channels of each layer, in the order of `Method.layers`."""
    weights: Words
    """Source of the weights, in words."""
    weights_digest: Digest
    """SHA-256 of the weights, 64 hexadecimal digits."""
    licence: Words
    """Licence of the weights."""

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class Reduction:
    """Outcome of the reduction that `Method` asks for."""

    channels: Annotated[tuple[Count, ...], Several(1, MOST_DIMS)] | None
    """Kept channels in ascending order, for `random`; `None` for a projection."""
    stage_dims: Annotated[tuple[Count, ...], Several(1, MOST_LAYERS)] | None
    """Number of dimensions kept from each layer; `None` where all layers were reduced together."""

    def __post_init__(self) -> None:
        check(self)
        if self.channels is not None and not all(low < high for low, high in pairwise(self.channels)):
            raise ArtifactError("the kept channels are not in ascending order; export the model again")


@dataclass(frozen=True)
class Digests:
    """Checksums against damage. The model's digest is taken with its own 64 digits replaced by zeros."""

    model: Digest
    """SHA-256 of the `.onnx` file, 64 hexadecimal digits."""
    data: Digest | None
    """SHA-256 of the data file; `None` where all constants are in the `.onnx` file."""
    data_file: Annotated[str, Text(255)] | None
    """Name of the data file, in the same folder."""
    data_bytes: Count
    """Size of the data file in bytes; 0 without one."""

    def __post_init__(self) -> None:
        check(self)
        if self.data_file is not None and not plain_name(self.data_file):
            raise ArtifactError(
                f"the data file is called {self.data_file!r}, expected a name in the same folder; choose another name "
                "for the model"
            )
        if (self.data is None, self.data_file is None) != (not self.data_bytes, not self.data_bytes):
            raise ArtifactError("digest, name and size of the data file do not belong together; export the model again")


@dataclass(frozen=True)
class SelfTest:
    """Answer of the model to `padim_edge_artifact.self_test.probe_image` on the machine that made it."""

    score: Measured
    """Image score."""
    map_samples: Annotated[tuple[Measured, ...], Several(16, 16)]
    """Values of the anomaly map at `padim_edge_artifact.self_test.sample_points`."""
    tolerance: Annotated[float, Number(0, 1, inside=True)]
    """Largest relative difference that the model's precision allows."""


@dataclass(frozen=True)
class PastThreshold:
    """A threshold that the model had before, so that it can be had back.

    No field has the name of one in `Metadata`: small programs look for those in the text, without reading JSON.
    """

    score: Distance
    """Score above which an image was anomalous."""
    rule: Words
    """`Metadata.threshold_rule` of that time."""
    rate: Rate
    """Share of good images that it let raise alarms, in (0, 1)."""
    until: Annotated[str, Text(10, r"\d{4}-\d\d-\d\d", "a date, YYYY-MM-DD,")]
    """Date of its replacement, `YYYY-MM-DD`."""
    reason: Words
    """Reason of its replacement, in words."""
    evidence: Calibration
    """Scores that it was set with."""

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class Metadata:
    """Everything that a runtime needs to know, and that a person wants to know, about one model."""

    class_name: Annotated[str, Text(1024)]
    """Name of the part, such as `bottle`."""
    created_by: Words
    """Name and version of the program that wrote the file."""
    method: Method
    """Options that the model was made with."""
    backbone: Backbone
    """Provenance of the backbone's weights."""
    reduction: Reduction
    """Kept channels or dimensions."""
    grid: tuple[Positive, Positive]
    """(h, w), rows and columns of patches."""
    images: Annotated[int, Whole(1, MOST_IMAGES)]
    """Number of good images that the model was fitted on."""
    threshold: Distance
    """Score above which an image is anomalous."""
    threshold_rule: Words
    """Source of the threshold, in words."""
    false_alarm_rate: Rate
    """Share of good images that the threshold lets raise alarms, in (0, 1)."""
    extrapolated: bool
    """Whether that rate is below what the calibration scores resolve, so that the threshold is their highest."""
    calibration: Calibration
    """Scores of good images outside the fit: leave-one-out scores, or those of held-out images."""
    reference: Reference
    """Look of the good images, to tell a moved camera or lamp from a defect."""
    roi: Annotated[tuple[Count, ...], Several(1, _MOST_RUNS)] | None
    """Region of interest in the model's frame, as run lengths (see `roi`); `None` where everything is inspected."""
    digests: Digests
    """Checksums of the file and its data file."""
    self_test: SelfTest
    """Expected answer to the self-test image."""
    revision: Positive = 1
    """Number of this revision: 1 is an export, 2 its first update."""
    parent: Digest | None = None
    """`digests.model` of the model that this one is an update of; `None` for an export."""
    statistics: Digest | None = None
    """Digest of the statistics that the model was made from; see `Statistics.digest`."""
    independent: Positive | None = None
    """Number of independent images among those that were fitted on: repeats count once. `None` where it is unknown."""
    fingerprints: Annotated[str, Text(4 * MOST_FINGERPRINTS * 2 * CELLS // 3 + 1024)] = ""
    """Base64 of the fingerprints of fitted images, all or an even selection; see `padim_edge_model.repeats`."""
    drift: Annotated[float, Number(1, 1e6)] = 1.0
    """Factor by which scores rise when an image's neighbours in time are left out as well, 1 or more."""
    history: Annotated[tuple[PastThreshold, ...], Several(0, MOST_PAST)] = ()
    """Thresholds that the model had before, the oldest first."""
    prototypes: Annotated[int, Whole(1, 2**31)] | None = None
    """M, number of prototypes of a memory; `None` for Gaussians."""
    combination: Combination | None = None
    """Weights of Gaussians and memory, and how they were chosen; `None` for a method with one kind of distance."""
    format_version: int = FORMAT_VERSION
    """Version of the file format."""

    def __post_init__(self) -> None:
        check(self)
        check_relations(self)

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
    """Write the metadata as one JSON object; the same metadata always gives the same text.

    Raises:
        ArtifactError: They are longer than a reader takes.
    """
    text = json.dumps(dataclasses.asdict(metadata), allow_nan=False, separators=(",", ":"), sort_keys=True)
    if len(text) > MOST_BYTES:
        raise ArtifactError(
            f"the metadata would have {len(text)} characters, expected at most {MOST_BYTES}; draw a plainer region of "
            "interest"
        )
    return text


def from_json(text: str) -> Metadata:
    """Read what `to_json` wrote. Unknown keys are ignored, so that a format version can gain fields.

    Raises:
        ArtifactError: Not JSON, another format version, or a field is missing, of the wrong type or out of its range.
    """
    data = read_json(text, "the metadata")
    version = data.get("format_version") if isinstance(data, dict) else None
    if type(version) is not int or version != FORMAT_VERSION:
        raise ArtifactError(
            f"the model has format version {shown(version)}, this padim-edge reads version {FORMAT_VERSION}; install "
            "the padim-edge that wrote it, or export it again with this one"
        )
    metadata = decode(Metadata, data, "metadata")
    assert isinstance(metadata, Metadata)
    return metadata
