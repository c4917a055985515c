"""Metrics against their definitions, computed the slow way, and against the laws that they must obey."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import roc_auc_score

from padim_edge.evaluation.metrics import PRO_LIMIT, Curve, PixelMetrics, image_metrics, pixel_metrics

Map = tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_] | None]

EXACT = 1e-12
"""Sums of some hundred float64 numbers, in another order."""

SKLEARN = 1e-9
"""Rounding error of scikit-learn, which adds up rates where this project adds up counts."""


def regions_of(truth: npt.NDArray[np.bool_]) -> list[list[tuple[int, int]]]:
    """8-connected regions, by walking from pixel to pixel."""
    left = {(int(y), int(x)) for y, x in np.argwhere(truth)}
    regions = []
    while left:
        region, border = [], [left.pop()]
        while border:
            y, x = border.pop()
            region.append((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            border += near
        regions.append(region)
    return regions


def area_up_to(limit: float, x: list[float], y: list[float]) -> float:
    """Trapezoids below the polygon up to `x = limit`, the last one cut off there; divided by `limit`."""
    area = 0.0
    for x0, x1, y0, y1 in zip(x, x[1:], y, y[1:], strict=False):
        if x0 >= limit:
            break
        end = min(x1, limit)
        y_end = y0 + (y1 - y0) * (end - x0) / (x1 - x0) if x1 > x0 else y1
        area += (end - x0) * (y0 + y_end) / 2
    return area / limit


def slow(maps: list[Map], limit: float = PRO_LIMIT) -> tuple[float | None, float | None, int, npt.NDArray[np.float64]]:
    """(AUROC, PRO, regions, points of the curve) by judging the whole test set at each distinct value in turn."""
    normal: list[float] = []
    regions: list[list[float]] = []
    for values, truth in maps:
        if truth is None:
            continue
        normal += [float(value) for value in values[~truth] if not math.isnan(value)]
        for region in regions_of(truth):
            seen = [float(values[pixel]) for pixel in region if not math.isnan(values[pixel])]
            regions += [seen] if seen else []
    if not normal or not regions:
        return None, None, len(regions), np.zeros((3, 0))
    anomalous = [value for region in regions for value in region]
    fpr, tpr, pro = [0.0], [0.0], [0.0]
    for threshold in sorted({*normal, *anomalous}, reverse=True):
        fpr.append(sum(value >= threshold for value in normal) / len(normal))
        tpr.append(sum(value >= threshold for value in anomalous) / len(anomalous))
        overlaps = [sum(value >= threshold for value in region) / len(region) for region in regions]
        pro.append(sum(overlaps) / len(overlaps))
    return area_up_to(1, fpr, tpr), area_up_to(limit, fpr, pro), len(regions), np.array([fpr, tpr, pro])


@st.composite
def images(draw: st.DrawFn) -> Map:
    """A small image with many ties; masks so thin or so dense that regions touch at corners and at the border."""
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=7))
    value = st.sampled_from([*np.arange(draw(st.integers(1, 9)), dtype=np.float32), np.float32(np.nan)])
    values = draw(hnp.arrays(np.float32, shape, elements=value, fill=st.nothing()))
    truth = draw(st.none() | hnp.arrays(np.bool_, shape, elements=st.booleans()))
    return values, truth


def random_maps(seed: int, count: int = 6, size: int = 40, *, decimals: int = 1) -> list[Map]:
    generator = np.random.default_rng(seed)
    maps: list[Map] = []
    for i in range(count):
        truth = np.zeros((size, size), np.bool_)
        for _ in range(i % 3):
            y, x, height, width = generator.integers(1, size, 4)
            truth[y : y + height // 4 + 1, x : x + width // 4 + 1] = True
        values = (generator.normal(size=truth.shape) + 1.5 * truth).round(decimals).astype(np.float32)
        values[:, : i % 2] = np.nan
        maps.append((values, truth))
    return maps


def one(values: list[list[float]], truth: list[list[int]]) -> PixelMetrics:
    return pixel_metrics([(np.array(values, np.float32), np.array(truth, np.bool_))])


def points(curve: Curve | None) -> npt.NDArray[np.float64]:
    return np.zeros((3, 0)) if curve is None else np.stack([curve.fpr, curve.tpr, curve.pro])


@given(st.lists(images(), max_size=4), st.sampled_from([0.05, PRO_LIMIT, 1.0]))
def test_every_figure_is_what_all_thresholds_in_turn_give(maps: list[Map], limit: float) -> None:
    auroc, pro, regions, curve = slow(maps, limit)
    found = pixel_metrics(maps, limit=limit)
    assert found.regions == regions
    assert (found.auroc is None, found.pro is None, found.curve is None) == (auroc is None,) * 3
    if auroc is not None:
        assert found.auroc == pytest.approx(auroc, abs=EXACT)
        assert found.pro == pytest.approx(pro, abs=EXACT)
    for point in points(found.curve).T:
        assert np.abs(curve - point[:, None]).max(axis=0).min() < EXACT


@pytest.mark.parametrize("decimals", [0, 1, 6])
def test_larger_maps_with_many_and_with_few_ties(decimals: int) -> None:
    maps = random_maps(decimals, 4, 20, decimals=decimals)
    auroc, pro, regions, _ = slow(maps)
    found = pixel_metrics(maps)
    assert found.regions == regions > 1
    assert found.auroc == pytest.approx(auroc, abs=EXACT)
    assert found.pro == pytest.approx(pro, abs=EXACT)


@pytest.mark.parametrize("decimals", [0, 2, 6])
def test_auroc_is_that_of_scikit_learn(decimals: int) -> None:
    maps = random_maps(decimals, 20, 150, decimals=decimals)
    truth = np.concatenate([truth[~np.isnan(values)] for values, truth in maps if truth is not None])
    values = np.concatenate([values[~np.isnan(values)] for values, _ in maps])
    assert pixel_metrics(maps).auroc == pytest.approx(roc_auc_score(truth, values), abs=SKLEARN)


def test_a_perfect_map_reaches_one_and_its_negative_nothing() -> None:
    maps = [(truth.astype(np.float32), truth) for _, truth in random_maps(0) if truth is not None]
    best = pixel_metrics(maps)
    worst = pixel_metrics([(-values, truth) for values, truth in maps])
    assert (best.auroc, best.pro) == pytest.approx((1, 1), abs=EXACT)
    assert (worst.auroc, worst.pro) == (0, 0)
    assert best.auroc is not None
    assert best.auroc <= 1


def test_a_constant_map_is_a_single_diagonal_step() -> None:
    """From (0, 0) to (1, 1): half the square, and up to the limit 0.3 half of 0.3 x 0.3, divided by 0.3."""
    found = one([[2, 2], [2, 2]], [[1, 0], [0, 0]])
    assert found.auroc == 0.5
    assert found.pro == pytest.approx(PRO_LIMIT / 2, abs=EXACT)
    assert points(found.curve).tolist() == [[0, 1]] * 3


def test_the_area_is_cut_within_a_step() -> None:
    """Half of the normal pixels are level with the anomalous one: at 0.3 the step has reached 0.6."""
    assert one([[1, 1, 0]], [[1, 0, 0]]).pro == pytest.approx(0.6 / 2, abs=EXACT)


def test_only_the_order_of_the_values_counts() -> None:
    maps = random_maps(1)
    # Exact in float32: the values are tenths from -4 to 6, so nothing that differed becomes equal.
    changed = pixel_metrics([(np.exp(values), truth) for values, truth in maps])
    found = pixel_metrics(maps)
    assert (changed.auroc, changed.pro) == (found.auroc, found.pro)
    assert np.array_equal(points(changed.curve), points(found.curve))


def test_the_order_of_the_images_does_not_count() -> None:
    maps = random_maps(2)
    found, turned = pixel_metrics(maps), pixel_metrics(iter(maps[::-1]))
    assert (turned.auroc, turned.pro) == pytest.approx((found.auroc, found.pro), abs=EXACT)
    assert turned.regions == found.regions


def test_small_regions_weigh_as_much_as_large_ones() -> None:
    """The large region is found, the pixel beside it is not: most pixels, but half of the regions."""
    truth = np.zeros((20, 20), np.bool_)
    truth[:10, :10] = truth[19, 19] = True
    values = np.zeros(truth.shape, np.float32)
    values[:10, :10] = 1
    values[19, 19] = -1
    found = pixel_metrics([(values, truth)])
    assert found.auroc == pytest.approx(100 / 101, abs=EXACT)
    assert (found.pro, found.regions) == (pytest.approx(0.5, abs=EXACT), 2)


def test_regions_that_touch_at_a_corner_are_one() -> None:
    assert one([[1, 0, 0]] * 3, [[1, 0, 0], [0, 1, 0], [0, 0, 0]]).regions == 1
    assert one([[1, 0, 0]] * 3, [[1, 0, 1], [0, 0, 0], [1, 0, 1]]).regions == 4


def test_regions_of_different_images_are_different() -> None:
    values, truth = np.eye(2, dtype=np.float32), np.eye(2, dtype=np.bool_)
    assert pixel_metrics([(values, truth)] * 3).regions == 3


def test_normal_pixels_of_good_images_count() -> None:
    """Those of the anomalous image lie below the region, those of the good one above it."""
    anomalous = np.array([[1, 0]], np.float32), np.array([[True, False]])
    good = np.full((1, 3), 2, np.float32), np.zeros((1, 3), np.bool_)
    found = pixel_metrics([anomalous, good])
    assert pixel_metrics([anomalous]).auroc == 1
    assert (found.auroc, found.pro) == (0.25, 0)


def test_what_the_model_did_not_look_at_is_left_out() -> None:
    nan = math.nan
    # The part outside connects both ends, which remain one region, of two pixels.
    bridged = one([[3, nan, 1, 2]], [[1, 1, 1, 0]])
    assert (bridged.regions, bridged.auroc, bridged.pro) == (1, 0.5, 0.5)
    outside = one([[3, 1, 2, nan]], [[1, 0, 0, 1]])
    assert (outside.regions, outside.auroc, outside.pro) == (2 - 1, 1, 1)


def test_an_image_of_unknown_truth_is_left_out() -> None:
    maps = random_maps(3)
    more = pixel_metrics([*maps, (np.full((5, 5), 9, np.float32), None)])
    found = pixel_metrics(maps)
    assert (more.auroc, more.pro, more.regions) == (found.auroc, found.pro, found.regions)


@pytest.mark.parametrize(
    ("maps", "regions"),
    [
        ([], 0),
        ([(np.zeros((2, 2), np.float32), None)], 0),
        ([(np.zeros((2, 2), np.float32), np.zeros((2, 2), np.bool_))], 0),
        ([(np.zeros((1, 1), np.float32), np.ones((1, 1), np.bool_))], 1),
        ([(np.full((2, 2), np.nan, np.float32), np.eye(2, dtype=np.bool_))], 0),
    ],
    ids=["no image", "unknown", "good only", "anomalous only", "nothing judged"],
)
def test_figures_without_a_definition_are_none(maps: list[Map], regions: int) -> None:
    found = pixel_metrics(maps)
    assert (found.auroc, found.pro, found.curve, found.regions) == (None, None, None, regions)


@given(images())
def test_of_few_pixels_the_curve_has_all_corners(image: Map) -> None:
    found = pixel_metrics([image])
    if found.curve is not None:
        fpr, tpr, pro = points(found.curve).tolist()
        assert area_up_to(1, fpr, tpr) == pytest.approx(found.auroc, abs=EXACT)
        assert area_up_to(PRO_LIMIT, fpr, pro) == pytest.approx(found.pro, abs=EXACT)


@pytest.mark.parametrize("top", [2.0, float(np.finfo(np.float32).max), math.inf])
def test_the_curve_rises_before_it_goes_on(top: float) -> None:
    found = one([[top, 1, 0]], [[1, 0, 0]])
    assert points(found.curve).tolist() == [[0, 0, 0.5, 1], [0, 1, 1, 1], [0, 1, 1, 1]]
    below = one([[top, 1, 0]], [[0, 1, 0]])
    assert points(below.curve).tolist() == [[0, 0.5, 0.5, 1], [0, 0, 1, 1], [0, 0, 1, 1]]


def test_the_curve_is_short_rises_and_follows_the_true_one() -> None:
    maps = random_maps(4, 30, 100, decimals=6)
    found = pixel_metrics(maps)
    fpr, tpr, pro = curve = points(found.curve)
    assert 300 < len(fpr) <= 503
    assert (curve[:, 0].tolist(), curve[:, -1].tolist()) == ([0] * 3, [1] * 3)
    assert (np.diff(curve) >= 0).all()
    assert np.trapezoid(tpr, fpr) == pytest.approx(found.auroc, abs=1e-3)
    assert area_up_to(PRO_LIMIT, fpr.tolist(), pro.tolist()) == pytest.approx(found.pro, abs=2e-3)


scores_and_labels = st.lists(st.tuples(st.integers(0, 6).map(float), st.booleans()), min_size=1, max_size=30)


@given(scores_and_labels, st.integers(0, 6).map(float))
def test_image_metrics_are_what_their_definitions_say(pairs: list[tuple[float, bool]], threshold: float) -> None:
    scores, labels = np.array([score for score, _ in pairs]), np.array([label for _, label in pairs])
    found = image_metrics(labels, scores, threshold)
    good, anomalous = scores[~labels], scores[labels]
    for rate, events in (found.false_alarm, good > threshold), (found.miss, anomalous <= threshold):
        assert (rate is None) == (len(events) == 0)
        if rate is not None:
            assert (rate.count, rate.total, rate.value) == (events.sum(), len(events), pytest.approx(events.mean()))
            assert 0 <= rate.low <= rate.value <= rate.high <= 1
    if not len(good) or not len(anomalous):
        assert (found.auroc, found.ap, found.best_f1, found.best_f1_threshold) == (None,) * 4
        return

    def f1(threshold: float) -> float:
        hits, alarms = (anomalous > threshold).sum(), (scores > threshold).sum()
        return float(2 * hits / (alarms + len(anomalous)))

    assert found.best_f1_threshold is not None
    assert found.best_f1 == pytest.approx(max(f1(each) for each in (-1, *scores)), abs=EXACT)
    assert f1(found.best_f1_threshold) == pytest.approx(found.best_f1, abs=EXACT)
    assert found.auroc == pytest.approx(np.mean([(a > good) + (a == good) / 2 for a in anomalous]), abs=EXACT)
    steps = sorted(set(scores), reverse=True)
    recalls = [0.0, *((anomalous >= each).mean() for each in steps)]
    precisions = [labels[scores >= each].mean() for each in steps]
    assert found.ap == pytest.approx(np.dot(np.diff(recalls), precisions), abs=EXACT)


def test_intervals_are_those_of_clopper_and_pearson() -> None:
    """Their closed form for no event in n: from 0 to 1 - 0.025^(1/n)."""
    rate = image_metrics(np.zeros(20, np.bool_), np.zeros(20), 1.0).false_alarm
    assert rate is not None
    assert (rate.count, rate.total, rate.low) == (0, 20, 0)
    assert rate.high == pytest.approx(1 - 0.025 ** (1 / 20), abs=1e-9)
