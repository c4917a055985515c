"""A memory is called one wherever a model is described, beside Gaussians and alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import run
from small_models import dataset, export_model, judged, small, weave

from padim_edge.datasets import GOOD, Dataset, Item
from padim_edge.evaluation.compare import Timing, compare_files
from padim_edge.evaluation.cost_rows import model_rows
from padim_edge.evaluation.evaluate import evaluate
from padim_edge.model import Model
from padim_edge_runtime.image_files import Decoded
from padim_edge_runtime.progress import SILENT


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Model]:
    """Gaussians and a memory of the same images."""
    folder = tmp_path_factory.mktemp("models")
    good = dataset(weave(24))
    return (
        export_model(good, folder / "gaussians.onnx", small("edge")),
        export_model(good, folder / "memory.onnx", small("free")),
    )


def data() -> Dataset:
    """Labelled test images of the same part."""

    def item(number: int, kind: str) -> Item:
        image = judged()[number]
        return Item(f"{kind} {number}", kind, lambda: Decoded(image, ()), None)

    return Dataset("part", (), tuple(item(i, GOOD if i < 3 else "hole") for i in range(5)))


def test_an_export_counts_its_prototypes(models: tuple[Model, Model]) -> None:
    gaussians, memory = models
    count = memory.metadata.prototypes
    assert count is not None
    assert count > 100
    assert f", {count} prototypes, 24 good images, " in str(memory)
    assert memory.to_json()["prototypes"] == count
    assert "prototypes" not in str(gaussians)
    assert "prototypes" not in gaussians.to_json()
    assert not any("Gaussian" in sentence or "dimensions" in sentence for sentence in memory.warnings)


def test_inspect_describes_a_memory(models: tuple[Model, Model]) -> None:
    gaussians, memory = models
    out, _ = run("inspect", memory.path)
    assert f"{memory.metadata.prototypes} prototypes, one covariance for all patches" in out
    assert "Gaussian" not in out
    assert "Gaussians" in run("inspect", gaussians.path)[0]
    told = json.loads(run("inspect", memory.path, "--json")[0])
    assert told["prototypes"] == memory.metadata.prototypes
    assert told["method"]["bank"]["whitened"] is True


def test_a_comparison_counts_prototypes_where_there_are_some(models: tuple[Model, Model]) -> None:
    gaussians, memory = models
    count = memory.metadata.prototypes
    found = compare_files((gaussians.path, memory.path), data(), None, Timing("cpu", rounds=1), SILENT)
    (row,) = (line.split() for line in str(found).splitlines() if line.startswith("prototypes"))
    assert row == ["prototypes", "-", str(count)]
    told = found.to_json()
    assert (told["a"]["prototypes"], told["b"]["prototypes"]) == (None, count)
    assert found.differences.images == 5
    same = [row for row in model_rows((found.costs[1], found.costs[1])) if row[0] == "prototypes"]
    assert same == [("prototypes", str(count), str(count), "+0")]
    assert not any(row[0] == "prototypes" for row in model_rows((found.costs[0], found.costs[0])))


def test_a_report_counts_prototypes(models: tuple[Model, Model], tmp_path: Path) -> None:
    for model, name in zip(models, ("gaussians", "memory"), strict=True):
        evaluate(model.path, data(), device="cpu", progress=False).report(tmp_path / f"{name}.html")
    pages = [(tmp_path / f"{name}.html").read_text(encoding="utf-8") for name in ("gaussians", "memory")]
    assert "Prototypes" not in pages[0]
    assert "Prototypes" in pages[1]
    assert str(models[1].metadata.prototypes) in pages[1]
