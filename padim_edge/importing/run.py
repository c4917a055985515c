"""The import itself: read, build, set the threshold, compare, write; nothing is written unless both agree."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from padim_edge.datasets import Item
from padim_edge.importing import graph as graphs
from padim_edge.importing.calibrating import Threshold, from_anomalib, from_good
from padim_edge.importing.checkpoint import read_checkpoint
from padim_edge.importing.graph import Built
from padim_edge.importing.onnx_model import read_onnx
from padim_edge.importing.parity import TOLERANCE, Certificate, Judged, Reference
from padim_edge.importing.source import Padim
from padim_edge.model import check_output
from padim_edge_artifact import ImageError, Metadata, PadimEdgeError, names, self_test
from padim_edge_artifact.files import replacing, require_folder
from padim_edge_artifact.metadata import Digests, SelfTest
from padim_edge_learn.assemble import TOLERANCES
from padim_edge_model import onnx_file
from padim_edge_model.calibration import check_rate
from padim_edge_runtime import image_files
from padim_edge_runtime.devices.providers import open_session
from padim_edge_runtime.progress import Feedback, feedback_of

__all__ = ["Choice", "Imported", "import_anomalib"]

_TESTED = "the self-test's drawn image"
"""Name of the image that is compared where none is given."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Options of an import."""

    class_name: str = "imported"
    """Name of the part."""
    good: Sequence[Item] = ()
    """Good images that set the threshold; none keeps that of anomalib."""
    compared: Sequence[Item] = ()
    """Images that are compared in the certificate; none takes the good ones, or the self-test's image."""
    false_alarm_rate: float = 0.01
    """Share of good images that may raise an alarm, in (0, 1); without effect on anomalib's threshold."""
    device: str = "cpu"
    """Device that judges the images."""


@dataclass(frozen=True, kw_only=True)
class Imported:
    """Outcome of an import."""

    path: Path
    """Model file."""
    certificate_path: Path
    """File of the certificate."""
    bytes: int
    """Size of the model and its data file together."""
    metadata: Metadata
    """Metadata of the model."""
    certificate: Certificate
    """Agreement with anomalib."""
    unreadable: tuple[str, ...]
    """One sentence for each image that could not be read."""

    def __str__(self) -> str:
        return (
            f"{self.path}: {self.bytes / 1e6:.1f} MB, threshold {self.metadata.threshold:.4f} "
            f"({self.metadata.threshold_rule})\n{self.certificate}\ncertificate: {self.certificate_path}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the object that `import --json` prints."""
        told = {key: value for key, value in self.certificate.to_json().items() if key != "images"}
        return {
            "model": str(self.path),
            "bytes": self.bytes,
            "threshold": self.metadata.threshold,
            "threshold_rule": self.metadata.threshold_rule,
            "certificate": str(self.certificate_path),
            "compared": len(self.certificate.images),
            "parity": told,
            "unreadable": self.unreadable,
        }


def import_anomalib(
    path: Path, output: Path, choice: Choice | None = None, *, progress: bool | Feedback = True
) -> Imported:
    """Turn a PaDiM of anomalib 2.x into a model, and write a certificate of what both answer beside it.

    Args:
        path: Lightning checkpoint, or ONNX model that anomalib exported.
        output: The `.onnx` file; the certificate is `<output>.parity.json`.
        choice: Options.
        progress: Whether to show progress bars on a terminal or in a notebook, or a `Feedback` of your own.

    Raises:
        PadimEdgeError: The file cannot be read without running its code, something in it cannot be carried over, there
            is no threshold, or the model's scores differ from anomalib's.
    """
    choice, feedback = choice or Choice(), feedback_of(progress)
    check_output(output)
    check_rate(choice.false_alarm_rate)
    beside = output.with_name(f"{output.stem}.parity.json")
    require_folder(beside)
    if path.resolve() == output.resolve():
        raise PadimEdgeError(f"{output} is the file to import; name another file with --output")
    with feedback.report(f"reading {path.name}", None):
        source = read_onnx(path) if path.suffix == ".onnx" else read_checkpoint(path)
    if not choice.good:  # before the long work
        _require_decision(source)
    with feedback.report("building", None):
        built = graphs.build(source, choice.class_name)
        fused = graphs.fused(built, source.size)
    with onnx_file.staged(fused, output) as stage:
        session = open_session(stage.path, choice.device).session
        if choice.good:
            found = from_good(built, tuple(choice.good), session, choice.false_alarm_rate, choice.device, feedback)
        else:
            found = from_anomalib(source, built)
        metadata = stage.finish(_metadata(built, found, session))
        compared, unreadable = _compared(source, metadata, session, choice, feedback)
        certificate = _certificate(source, built, found, metadata, compared)
        if not certificate.passed:
            raise PadimEdgeError(
                f"the model answers otherwise than {source.name} ({certificate}), expected a difference of at most "
                f"{TOLERANCE:.0e} and equal labels; nothing was written, so keep anomalib for this model and report it"
            )
        with replacing(beside) as unfinished:
            unfinished.write_text(json.dumps(certificate.to_json(), indent=1) + "\n", encoding="utf-8")
        del session
    for note in certificate.notes:
        feedback.tell(note)
    size = output.stat().st_size + metadata.digests.data_bytes
    return Imported(
        path=output,
        certificate_path=beside,
        bytes=size,
        metadata=metadata,
        certificate=certificate,
        unreadable=tuple(dict.fromkeys((*found.unreadable, *unreadable))),
    )


def _require_decision(source: Padim) -> None:
    if source.decision is None:
        raise PadimEdgeError(
            f"{source.name} holds no threshold that can be carried over ({source.undecided}); give good images with "
            "--good DIR to set one from"
        )


def _metadata(built: Built, found: Threshold, session: Any) -> Metadata:
    recipe = built.kept.recipe
    preprocessing = recipe.method.preprocessing
    feed = {names.IMAGE: self_test.probe_image(preprocessing.input_size)[None]}
    outputs = session.run([names.SCORE, names.ANOMALY_MAP], feed)
    samples = outputs[1][0][self_test.sample_points(preprocessing.size)]
    return Metadata(
        class_name=recipe.class_name,
        created_by=recipe.created_by,
        method=recipe.method,
        backbone=recipe.backbone,
        reduction=recipe.reduction,
        grid=built.embedding.grid,
        images=found.images,
        threshold=found.threshold,
        threshold_rule=found.rule,
        false_alarm_rate=found.rate,
        extrapolated=found.rate < found.calibration.resolution,
        calibration=found.calibration,
        reference=found.reference,
        roi=None,
        digests=Digests("", None, None, 0),
        self_test=SelfTest(float(outputs[0][0]), tuple(float(value) for value in samples), TOLERANCES["fp32"]),
        independent=found.independent,
        fingerprints=found.fingerprints,
    )


def _compared(
    source: Padim, metadata: Metadata, session: Any, choice: Choice, feedback: Feedback
) -> tuple[tuple[Judged, ...], list[str]]:
    """Judge the images with both; return them, and one sentence for each that could not be read."""
    decision, reference = source.decision, Reference(source)

    def there(score: float) -> bool:
        return score > metadata.threshold if decision is None else decision.anomalous(score)

    def here(score: float) -> bool:
        return score > (metadata.threshold if decision is None else decision.raw)

    def one(name: str, pixels: npt.NDArray[np.uint8]) -> Judged:
        frame = image_files.prepare(pixels, metadata.preprocessing)
        score = float(session.run([names.SCORE], {names.IMAGE: frame[None]})[0][0])
        same, own = reference.of_frame(frame), reference.of_image(pixels)
        return Judged(
            name=name,
            score=score,
            same_frame=same,
            own_resize=own,
            anomalous=here(score),
            anomalous_there=there(same),
            anomalous_own_resize=there(own),
        )

    items = tuple(choice.compared or choice.good)
    found, unreadable = [], []
    with feedback.report("comparing", len(items) or 1) as advance:
        for item in items:
            try:
                found.append(one(item.key or item.name, np.asarray(item.read().image.convert("RGB"))))
            except ImageError as error:
                unreadable.append(str(error))
            advance(1)
        if not found:
            found.append(one(_TESTED, self_test.probe_image(metadata.size)))
    return tuple(found), unreadable


def _certificate(
    source: Padim, built: Built, found: Threshold, metadata: Metadata, compared: tuple[Judged, ...]
) -> Certificate:
    notes = list(source.notes)
    if not source.frame.antialias:
        notes.append(
            "anomalib resizes without antialiasing here, and this model with it; images of its frame's size agree"
        )
    if built.lifted:
        notes.append(f"{built.lifted} inverse covariances were not positive definite and were lifted to it")
    own = source.decision is not None
    return Certificate(
        source=source.name,
        source_digest=source.digest,
        reference="the ONNX model itself, run by onnxruntime"
        if source.run is not None
        else "anomalib's steps in PyTorch, with the numbers of the checkpoint",
        model_digest=metadata.digests.model,
        threshold=source.decision.raw if source.decision is not None else metadata.threshold,
        threshold_of="anomalib, without normalisation" if own else "this model",
        images=compared,
        notes=(*notes, *found.notes),
    )
