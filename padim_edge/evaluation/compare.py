"""Comparison of two models on the same images: scores, maps, metrics, size, time and memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from padim_edge.datasets import Source
from padim_edge.evaluation.cost_rows import cost_reasons, model_rows, resource_rows, timing_notes
from padim_edge.evaluation.differences import Differences, Spread, compare_detectors, deltas
from padim_edge.evaluation.evaluate import Evaluation, ModelFile, open_data, path_of
from padim_edge.evaluation.tables import LABELS, METRICS, Row, change, metric, notebook, text_table
from padim_edge_artifact import PadimEdgeError, read_metadata
from padim_edge_runtime.bench.footprint import Cost, costs
from padim_edge_runtime.detector import Detector
from padim_edge_runtime.progress import Feedback, feedback_of

__all__ = ["Comparison", "Timing", "compare", "compare_detectors", "compare_files", "deltas"]

_NAMED = 5
"""Number of images with differing decisions that the text names; `to_json` names all."""


@dataclass(frozen=True)
class Timing:
    """Options of the run that times both models."""

    device: str = "auto"
    """Device that runs both models: `auto`, `cpu`, `cuda` or `tensorrt`."""
    threads: int | None = None
    """CPU threads for one image; `None` leaves it to onnxruntime (one per core)."""
    rounds: int = 30
    """Number of timed calls of each model, 1 or more; the models take turns."""


@dataclass(frozen=True, repr=False)
class Comparison:
    """Cost of model B against model A, the reference. `print` shows a table, and so does a notebook."""

    differences: Differences
    """Differences of scores, maps, decisions and metrics on the same images."""
    costs: tuple[Cost, Cost]
    """Size, time and memory of A, and of B."""

    @property
    def a(self) -> Evaluation | None:
        """Evaluation of A; `None` without test images."""
        return self.differences.a

    @property
    def b(self) -> Evaluation | None:
        """Evaluation of B; `None` without test images."""
        return self.differences.b

    @property
    def metrics(self) -> dict[str, float | None]:
        """Each metric of B less that of A; `None` where one of them is undefined."""
        return deltas(self.differences)

    @property
    def reasons(self) -> dict[str, str]:
        """Reason for each undefined figure, in words."""
        return self.differences.reasons | cost_reasons(self.costs)

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences to know when reading the figures, without a full stop; mostly empty."""
        return (*self.differences.notes, *timing_notes(self.costs))

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences about images that were left out or count in part, without a full stop; mostly empty."""
        if self.a is not None:
            return self.a.warnings
        return tuple(f"left out: {sentence}" for sentence in self.differences.unreadable)

    def to_json(self) -> dict[str, Any]:
        """Return the object that `compare --json` prints. Differences are B less A; an undefined figure is `None`."""
        found = self.differences
        a, b = self.costs
        times = [each.latency.milliseconds for each in self.costs]
        return {
            "a": _side(a, found.a, found.alarms[0]),
            "b": _side(b, found.b, found.alarms[1]),
            "difference": {
                "images": found.images,
                "judged": "test" if found.test else "good",
                "unreadable": len(found.unreadable),
                "score": {**_spread_json(found.score), "rank_correlation": found.rank_correlation},
                "map": found.map and _spread_json(found.map),
                "decisions": {"differing": len(found.differing), "names": list(found.differing)},
                "metrics": self.metrics,
                "bytes": b.bytes - a.bytes,
                "milliseconds": {name: times[1][name] - times[0][name] for name in times[0]},
                "times_as_fast": {name: times[0][name] / times[1][name] for name in times[0]},
                "memory": {
                    "private_bytes": b.memory.private - a.memory.private,
                    "mapped_bytes": b.memory.mapped - a.memory.mapped,
                }
                if a.memory and b.memory
                else None,
                "reasons": self.reasons,
                "notes": list(self.notes),
            },
        }

    def __str__(self) -> str:
        table, spreads = self._tables()
        return "\n".join([*text_table(table), "", *text_table(spreads), "", *self._sentences()])

    def __repr__(self) -> str:
        found, (a, b) = self.differences, self.costs
        return (
            f"<Comparison of {b.model} against {a.model} on {found.images} images of {found.class_name}: "
            f"{len(found.differing)} decisions differ>"
        )

    def _repr_html_(self) -> str:
        """Show the tables in a notebook."""
        return notebook(f"{self.differences.class_name}: B against A", self._tables(), self._sentences())

    def _tables(self) -> tuple[list[Row], list[Row]]:
        """Write a table with a column for A, B and the difference, and one of the differences over the images."""
        table: list[Row] = [
            ("", "A", "B", "B against A"),
            *model_rows(self.costs),
            *_metric_rows(self.differences),
            *resource_rows(self.costs),
        ]
        spreads: list[Row] = [
            ("relative difference", "median", "largest"),
            ("scores", *_spread_cells(self.differences.score)),
            ("maps, to A's highest value", *_spread_cells(self.differences.map)),
        ]
        return table, spreads

    def _sentences(self) -> list[str]:
        """Write what does not fit into a table."""
        found = self.differences
        rank = "-" if found.rank_correlation is None else f"{found.rank_correlation:.5f}"
        decisions = f"{len(found.differing)} of {found.images} decisions differ, each model at its own threshold"
        if found.differing:
            more = ", ..." if len(found.differing) > _NAMED else ""
            decisions += f": {', '.join(found.differing[:_NAMED])}{more}"
        undefined: dict[str, list[str]] = {}
        for name, reason in self.reasons.items():
            undefined.setdefault(reason, []).append(LABELS.get(name, name.replace("_", " ")))
        return [
            f"{found.images} {'test' if found.test else 'good'} images; rank correlation of the scores {rank}",
            decisions,
            *(f"{', '.join(names)}: undefined, {reason}" for reason, names in undefined.items()),
            f"latency: one image from pixels to decision, {self.costs[0].latency.rounds} times, the models in turns",
            "memory: largest growth of a fresh process while it loads the model and judges images",
            *self.notes,
        ]


def compare(
    a: ModelFile,
    b: ModelFile,
    data: Source = None,
    *,
    class_name: str | None = None,
    device: str = "auto",
    progress: bool | Feedback = True,
) -> Comparison:
    """Measure what model B costs against model A: scores, maps, metrics, size, time and memory.

    Args:
        a: The reference, for example the model in fp32: an `.onnx` file or a `Model` as an export gives it.
        b: The model to measure against it, for example the one in int8.
        data: Images for both models, as for `evaluate`. Without test images the good ones are compared.
        class_name: Class of the images. By default the models' own.
        device: `auto`, `cpu`, `cuda` or `tensorrt`.
        progress: Whether to show progress bars on a terminal or in a notebook, or a `Feedback` of your own.

    Raises:
        ArtifactError: A model is missing, damaged or of another version.
        DeviceError: The device is not there, or fails.
        PadimEdgeError: The models are for different classes, there are no images, or an answer is not finite.
    """
    return compare_files((path_of(a), path_of(b)), data, class_name, Timing(device), feedback_of(progress))


def compare_files(
    models: tuple[Path, Path], data: Source, class_name: str | None, timing: Timing, feedback: Feedback
) -> Comparison:
    """Compare two model files as `compare` does, with all options of the run in one value."""
    classes = [read_metadata(model).class_name for model in models]
    if class_name is None and classes[0] != classes[1]:
        raise PadimEdgeError(
            f"{models[0]} is for {classes[0]!r} and {models[1]} for {classes[1]!r}, expected models of one class; "
            "choose two such, or say with --class whose images both are to judge"
        )
    dataset = open_data(data, class_name or classes[0], feedback)
    a, b = (Detector.load(each, timing.device, threads=timing.threads, tell=feedback.tell) for each in models)
    with feedback.report(f"comparing on {dataset.class_name}", len(dataset.test or dataset.good)) as advance:
        differences = compare_detectors(a, b, dataset, advance)
    with feedback.report("timing", timing.rounds) as advance:
        cost_a, cost_b = costs(models, (a, b), timing.rounds, threads=timing.threads, progress=advance)
    return Comparison(differences, (cost_a, cost_b))


def _metric_rows(found: Differences) -> list[Row]:
    """Write the metrics of both models; none without test images."""
    if found.a is None or found.b is None:
        return []
    a, b, difference = found.a.metrics, found.b.metrics, deltas(found)
    return [(LABELS[name], metric(name, a[name]), metric(name, b[name]), change(name, difference[name])) for name in a]


def _spread_cells(spread: Spread | None) -> tuple[str, str]:
    return ("-", "-") if spread is None else (_two_digits(spread.median), _two_digits(spread.maximum))


def _two_digits(share: float) -> str:
    """Write a share with two significant digits, since differences range over many powers of ten."""
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.2g} %"


def _spread_json(spread: Spread) -> dict[str, float]:
    return {"median": spread.median, "maximum": spread.maximum}


def _side(cost: Cost, evaluation: Evaluation | None, alarms: int) -> dict[str, Any]:
    metadata = cost.metadata
    return {
        "model": str(cost.model),
        "class_name": metadata.class_name,
        "preset": metadata.method.preset,
        "precision": metadata.precision.name,
        "prototypes": metadata.prototypes,
        "backbone": metadata.method.backbone,
        "input": list(metadata.size),
        "device": cost.device,
        "threshold": metadata.threshold,
        "alarms": alarms,
        "metrics": dict.fromkeys(METRICS) if evaluation is None else evaluation.metrics,
        "bytes": cost.bytes,
        "milliseconds": cost.latency.milliseconds,
        "rounds": cost.latency.rounds,
        "memory": cost.memory and {"private_bytes": cost.memory.private, "mapped_bytes": cost.memory.mapped},
    }
