"""A model file in words: class, backbone, preprocessing, images, threshold, licence, and where it runs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from padim_edge_artifact import Metadata, Preprocessing
from padim_edge_artifact.bundle import is_bundle
from padim_edge_artifact.calibration import behind
from padim_edge_runtime.devices.here import Here
from padim_edge_runtime.pixel_values import range_words
from padim_edge_runtime.worth import good_images, worth

__all__ = ["describe", "to_json"]


def describe(model: Path, metadata: Metadata, here: Here) -> dict[str, str]:
    """Describe a model for people, one row per name.

    Args:
        model: The `.onnx` file, or a bundle.
        metadata: Metadata of the model.
        here: Device that it runs on here.
    """
    method, calibration, digests = metadata.method, metadata.calibration, metadata.digests
    (h, w), stages = metadata.grid, metadata.reduction.stage_dims
    per_stage = f" ({' + '.join(map(str, stages))} by stage)" if stages else ""
    bundled = is_bundle(model)
    stored = model.stat().st_size + (0 if bundled else digests.data_bytes)
    beside = ", with the other products of the bundle" if bundled else f", with {digests.data_file}"
    inspected = f"a region of interest, {100 * metadata.inspected.mean():.1f} % of the frame"
    update = f", an update of the model with digest {metadata.parent[:12]}" if metadata.parent else ""
    return {
        "class": metadata.class_name,
        "made by": f"{metadata.created_by}, format version {metadata.format_version}",
        "revision": f"{metadata.revision}{update}",
        "preset": f"{method.preset}, {metadata.precision}",
        "input": _input(metadata),
        "backbone": f"{method.backbone} {', '.join(method.layers)}",
        "weights": f"{metadata.backbone.weights}; sha256 {metadata.backbone.weights_digest[:12]}",
        "weights' licence": metadata.backbone.licence,
        "embedding": f"{_dimensions(metadata)}{per_stage}, seed {method.seed}; {method.pooling}x{method.pooling} "
        f"pooling; grid {h}x{w}",
        **_learned(metadata),
        "inspected": "the whole frame" if metadata.roi is None else inspected,
        "threshold": f"{metadata.threshold:.4f}, for a false-alarm rate of {metadata.false_alarm_rate:g}"
        + (" (extrapolated)" if metadata.extrapolated else ""),
        "calibrated on": behind(calibration, metadata.threshold_rule),
        "worth": worth(metadata),
        "size": f"{stored / 1e6:.1f} MB" + (beside if bundled or digests.data_file else ""),
        "runs here on": here.words,
    }


def _learned(metadata: Metadata) -> dict[str, str]:
    """Describe what was learned from the good images: Gaussians, or a memory."""
    method, bank = metadata.method, metadata.method.bank
    rest = f"{good_images(metadata)}; ridge {method.ridge:g}; map sigma {method.sigma:g} px"
    if method.beside is not None:
        memory = f"{metadata.prototypes} prototypes, one covariance for all patches; ridge {method.beside.ridge:g}"
        return {"Gaussians": rest, "memory": memory, **_weights(metadata)}
    if bank is None:
        return {"Gaussians": rest} | _weights(metadata)
    turned = ", flipped and turned as well" if bank.turned else ""
    metric = "one covariance for all patches" if bank.whitened else "Euclidean distances"
    weighed = f"; re-weighted by {bank.neighbours} prototypes" if bank.neighbours > 1 else ""
    return {"memory": f"{metadata.prototypes} prototypes, {metric}; {rest}{turned}{weighed}"} | _weights(metadata)


def _weights(metadata: Metadata) -> dict[str, str]:
    """Describe the weights of Gaussians and memory, and what they rest on."""
    return {} if metadata.combination is None else {"weights": str(metadata.combination)}


def _dimensions(metadata: Metadata) -> str:
    """Describe the dimensions of the embedding."""
    method, channels = metadata.method, sum(metadata.backbone.channels)
    if method.reduction == "random" and method.dims == channels:
        return f"all {channels} channels"
    return f"{method.dims} dimensions {method.reduction}"


def to_json(metadata: Metadata, here: Here) -> dict[str, Any]:
    """Return the object that `inspect --json` prints: the metadata, and where the model runs here."""
    return dataclasses.asdict(metadata) | {"runs_here": {"device": here.device, "refused": here.refused}}


def _input(metadata: Metadata) -> str:
    preprocessing, (height, width) = metadata.preprocessing, metadata.input_size
    rows, columns = preprocessing.resize
    cropped = f"centre crop {preprocessing.crop[0]}x{preprocessing.crop[1]}" if preprocessing.crop else ""
    where = "in the graph " if preprocessing.camera else ""
    pixels = f"uint8 {preprocessing.color.upper()} (N, {height}, {width}, 3)"
    return (
        f"{pixels}; resize {where}to {rows}x{columns} {preprocessing.interpolation}, "
        f"{cropped or 'nothing cropped'}{_levels(preprocessing)}"
    )


def _levels(preprocessing: Preprocessing) -> str:
    if preprocessing.levels is None:
        return ""
    return f"; values from {range_words(preprocessing.levels)} in images of more than 8 bits a channel"
