"""`benchmarks.score_rules`, `benchmarks.patchcore_parity` and `benchmarks.free_ratios` on the drawn sample."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

import padim_edge
from benchmarks import free_ratios, patchcore_parity, score_rules
from benchmarks.choosing.scoring import LARGEST, SHIPPED, SIGMAS, Rules, aurocs, session_of, weight_of
from benchmarks.free_ratios import BARE, OURS, PATCHCORE, Timing
from benchmarks.images import frames
from benchmarks.methods import features, patchcore
from padim_edge import sample
from padim_edge.datasets import Dataset, from_folder
from padim_edge.presets import preset
from padim_edge_artifact import names
from padim_edge_model.fused import map_stage
from padim_edge_runtime import Detector

FREE = preset("free", backbone="builtin", size=64, prototypes=300)
PATCHES = preset("patchcore", backbone="builtin", size=64)
GRID = (8, 8)

FLOAT32 = 1e-4
"""Relative; the graph computes in float32, the rules in float64."""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("data")
    sample.write(sample.images("weave", size=64, train=16, test_good=6, per_defect=2), folder)
    return from_folder(folder, "weave")


def test_rules_are_what_their_names_say() -> None:
    distance = np.random.default_rng(0).random(GRID)
    found = Rules(FREE, GRID)(distance)
    values = sorted(distance.ravel().tolist(), reverse=True)
    assert found["plain maximum"] == values[0]
    for count in LARGEST:
        assert found[f"mean of the {count} largest patches"] == pytest.approx(sum(values[:count]) / count)
    maps = {sigma: map_stage((64, 64), GRID, sigma * 64 / 224)(distance) for sigma in SIGMAS}
    for sigma in SIGMAS:
        assert found[f"smoothed maximum, sigma {sigma}"] == pytest.approx(maps[sigma].max())
    pixels = sorted(maps[4].ravel().tolist(), reverse=True)
    top = math.ceil(64 * 64 / 100)
    assert found["mean of the top 1 % of the map"] == pytest.approx(sum(pixels[:top]) / top)


@pytest.mark.slow
@pytest.mark.parametrize("method", [FREE, PATCHES], ids=["free", "patchcore"])
def test_the_graph_is_the_one_that_ships_and_its_score_the_shipped_rule(
    method: Any, dataset: Dataset, tmp_path: Path
) -> None:
    fitted = padim_edge.fit(dataset, method, progress=False)
    session, rules = session_of(fitted), Rules(fitted.method, GRID)
    path = fitted.export(tmp_path / "m.onnx", progress=False).path
    detector = Detector.load(path, "cpu")
    for item in dataset.test[:3]:
        frame = np.asarray(item.read().image.convert("RGB"))
        score, distance = session.run([names.SCORE, names.PATCH_DISTANCE], {names.IMAGE: frame[None]})
        assert float(score[0]) == pytest.approx(float(detector(frame).score[0]), rel=FLOAT32)
        weight = weight_of(float(score[0]), rules(distance[0]))
        if method is FREE:
            assert weight == pytest.approx(1, rel=FLOAT32)
        else:
            assert 0 < weight < 1


@pytest.mark.slow
def test_every_rule_has_an_auroc_and_patchcore_its_re_weighted_ones(dataset: Dataset) -> None:
    free, other = (aurocs(dataset, method, "auto") for method in (FREE, PATCHES))
    assert len(free) == len(SIGMAS) + len(LARGEST) + 2
    assert other.keys() - free.keys() == {"re-weighted plain maximum", f"re-weighted {SHIPPED}"}
    assert all(value is not None and 0 <= value <= 1 for value in (*free.values(), *other.values()))
    assert free[SHIPPED] is not None
    assert free[SHIPPED] > 0.5


def _row(class_name: str, model: str, seed: int, value: float) -> dict[str, Any]:
    rules = {SHIPPED: value, f"re-weighted {SHIPPED}": value - 0.01} if model != "free" else {SHIPPED: value}
    return score_rules.row_of(score_rules.Run(class_name, model, seed), dict(rules), 1.0)


def test_the_table_has_means_over_seeds_and_promises_wait_for_all_of_them() -> None:
    rows = [_row("screw", "free", seed, 0.98 + 0.01 * (seed == 1)) for seed in range(3)]
    shown = score_rules.table([*rows, _row("screw", "patchcore-1", 0, 0.5), _row("bottle", "free", 0, 1.0)])
    assert "| screw | free, 3 seeds | patchcore-1, 1 seeds |" in shown
    assert f"| {SHIPPED} | 0.983 (0.980 to 0.990) | 0.500 |" in shown
    assert f"| re-weighted {SHIPPED} | - | 0.490 |" in shown
    assert f"| bottle | free, 1 seeds |\n| --- | --: |\n| {SHIPPED} | 1.000 |" in shown
    rows += [_row("screw", "patchcore-10", seed, 0.97) for seed in range(2)]
    assert score_rules.targets_of(rows) == []
    rows.append(_row("screw", "patchcore-10", 2, 0.97))
    assert [target.found for target in score_rules.targets_of(rows)] == pytest.approx([0.04 / 3, 0.07 / 3])


def test_names_of_models_are_presets_with_their_shares() -> None:
    methods = {name: score_rules.Run("screw", name, 0).method("builtin") for name in score_rules.MODELS}
    assert methods["free"] == preset("free", backbone="builtin")
    banks = [methods[name].bank for name in ("patchcore-10", "patchcore-1")]
    assert [bank.share for bank in banks if bank is not None] == [0.1, 0.01]


# Parity of PatchCore


def test_rank_correlation_is_spearmans() -> None:
    first, second = np.random.default_rng(0).random((2, 20))
    assert patchcore_parity.rank_correlation(first, second) == pytest.approx(stats.spearmanr(first, second)[0])
    assert patchcore_parity.rank_correlation(first, np.exp(first)) == pytest.approx(1)


@pytest.mark.slow
def test_the_preset_patchcore_has_the_distances_of_the_benchmarks_own(tmp_path: Path) -> None:
    """With all patches in the bank, chance has no say; beyond the border, one repeats features and the other has none.

    Four patches of a side are near enough to the border to see that.
    """
    sample.write(sample.images("weave", size=128, train=4, test_good=2, per_defect=1), tmp_path)
    dataset = from_folder(tmp_path, "weave")
    method = preset("patchcore", backbone="builtin", layers=patchcore_parity.LAYERS, size=128, prototypes="100%")
    ours, theirs = (
        judge(dataset, method, "auto")[:, 4:-4, 4:-4]
        for judge in (
            lambda *given: patchcore_parity.by_preset(*given).distances,
            lambda *given: patchcore_parity.by_benchmark(*given).distances,
        )
    )
    np.testing.assert_allclose(ours, theirs, rtol=FLOAT32)


@pytest.mark.slow
def test_patchcores_are_compared_with_a_yardstick(dataset: Dataset) -> None:
    """Ranks themselves say nothing at 64 pixels, where most patches see the border."""
    method = preset("patchcore", backbone="builtin", layers=patchcore_parity.LAYERS, size=64)
    found = patchcore_parity.compare(dataset, method, "auto")
    assert -1 <= min(found.rank_paper, found.rank_smoothed, found.rank_seed) < 1


@pytest.mark.slow
def test_the_smoothed_score_is_the_one_of_the_benchmarks_graph(dataset: Dataset, tmp_path: Path) -> None:
    method = preset("patchcore", backbone="builtin", layers=patchcore_parity.LAYERS, size=64)
    good, test = (frames(items, method.preprocessing) for items in (dataset.good, dataset.test))
    network = features.load("builtin", None, tmp_path)
    smoothed = patchcore.fit(good, network, (64, 64), patchcore.Settings(0.1, smoothed=True))
    found = patchcore_parity.by_benchmark(dataset, method, "auto").smoothed
    np.testing.assert_allclose(found, smoothed(test)[0], rtol=FLOAT32)


# Ratios of times


def test_ratios_are_of_medians() -> None:
    milliseconds = {name: [1.0, 2.0, 9.0] for name in (*OURS, BARE, PATCHCORE)} | {BARE: [4.0], PATCHCORE: [5.0]}
    timings = free_ratios.summarise(milliseconds, dict.fromkeys(milliseconds, 10))
    assert timings[0] == Timing("free fp32", 2.0, 1.2, 7.6, 10)
    assert [(target.found, target.reached) for target in free_ratios.targets_of(timings)] == [
        (0.5, True),
        (1.0, True),
        (0.4, False),
        (0.5, True),
        (1.0, True),
        (1e-5, True),
        (1e-5, True),
    ]
