"""The ablation benchmark: its rows, its verdicts, and a run of it on small images."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from benchmarks import ablation
from benchmarks.ablation import Figures
from padim_edge import sample
from padim_edge_export import backbones


def figures(name: str, pixel: float, *, class_name: str = "bottle", seed: int = 0) -> Figures:
    return Figures("reduction", name, class_name, seed, 0.9, pixel, 0.8, 10.0, 1.0)


def test_the_rows_are_those_of_the_paper() -> None:
    rows = ablation.variants((64, 128, 256), 3)
    by_group = {group: [row.name for row in rows if row.group == group] for group in ablation.GROUPS}
    assert by_group["layers"] == ["layer 1", "layer 2", "layer 3", "sum of maps", "joint 448"]
    assert {"random 100", "random 200", "PCA 100", "PCA 200", "semi-orthogonal 100", "joint 448"} == set(
        by_group["reduction"]
    )
    assert by_group["images"] == ["1", "5", "16", "50", "all"]
    assert [row.dims for row in rows if row.group == "layers"] == [64, 128, 256, 0, 448]
    assert len(by_group["ridge"]) >= 5


def test_the_order_is_judged_by_means_over_classes_and_seeds() -> None:
    found = [
        figures("joint 448", 0.970),
        figures("random 200", 0.971),
        figures("random 100", 0.960),
        figures("random 100", 0.978, seed=1),
        figures("PCA 100", 0.960),
        figures("PCA 100", 0.990, class_name="screw"),
    ]
    targets = ablation.order(found)
    assert [target.found for target in targets] == [-0.001, 0.002, -0.006]
    assert [target.reached for target in targets] == [True, True, False]


def test_the_table_has_means_and_spreads() -> None:
    found = [
        figures("random 100", pixel, class_name=name, seed=seed)
        for name, pixels in (("bottle", (0.9, 0.92)), ("screw", (0.8, 0.84)))
        for seed, pixel in enumerate(pixels)
    ]
    rows = {row[1]: row for row in ablation.table(found, "reduction")}
    assert rows.keys() == {"bottle", "screw", "mean"}
    assert rows["bottle"][3] == "0.9100 ± 0.0141"
    assert rows["mean"][3] == "0.8650 ± 0.0212"
    assert rows["mean"][5] == "2"
    assert ablation.table(found, "layers") == []


@pytest.mark.slow
def test_a_small_run_writes_its_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    save_file(backbones.BACKBONES["resnet18"].build().state_dict(), tmp_path / "w.safetensors")
    sample.write(sample.images("weave", size=80, train=24, test_good=3, per_defect=1), tmp_path)
    words = ["--data", tmp_path, "--class", "weave", "--weights", tmp_path / "w.safetensors", "--size", 64]
    words += ["--group", "layers,images", "--seeds", 1, "--output", tmp_path]
    monkeypatch.setattr(sys, "argv", ["ablation", *map(str, words)])
    ablation.main()
    content = json.loads((tmp_path / "ablation.json").read_text())
    names = [each["name"] for each in content["results"]]
    assert names == ["layer 1", "layer 2", "layer 3", "sum of maps", "joint 448", "1", "5", "16", "50", "all"]
    assert all(0 <= each["pixel_auroc"] <= 1 for each in content["results"])
    page = (tmp_path / "ablation.md").read_text()
    assert "Table I" in page
    assert str(tmp_path) not in page
