"""A model of a memory is its equations: onnxruntime against float64, for networks, layers, reductions, number types.

Prototypes are patches of good images, so the reference takes its own vectors of the very patches that were chosen.
Metric, distances, anomaly map and weight are its own as well.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
import small_models
from PIL import Image

from padim_edge.fitted import ExportOptions, Fitted, fit_dataset
from padim_edge.model import Model
from padim_edge.presets import preset
from padim_edge_artifact import Memory, Preprocessing, names
from padim_edge_artifact.method import Method, Precision
from padim_edge_export import backbones, reduction
from padim_edge_model.graph import joined, of_kept
from padim_edge_model.memory import metric_of, moments_of, nearest_of
from padim_edge_runtime import Detector, image_files
from padim_edge_runtime.devices.providers import open_session
from padim_edge_runtime.progress import SILENT

TOLERANCE = 1e-4
"""Relative, at every pixel of the map, and of patches that are not nearly prototypes."""

SURE = 1e-5
"""Smallest relative distance from the border between the farthest patches and the others; far more than rounding."""

NEAR = 5e-4
"""Absolute error of a distance, relative to the longest vector that it is a difference of; see tests/model."""

OWN = {"fp32": 2e-5, "fp16": 1e-3, "int8": 0.03}
"""Relative, mean over the patches, against the reference on the embedding that the graph gives, whatever its backbone
computes in: what the distance's own number types cost. 2e-6, 1.1e-4 and 1.6e-2 are the most seen. Scores may differ by
twice as much; 4.2e-2 is the most seen in int8."""

BACKBONE = {"fp16": 0.02, "int8": 0.2}
"""Relative, of scores, thresholds and mean over the map, against fp32, backbone included; 4.3e-3 and 8.9e-2 are the
most seen. Drawn weights are much worse here than trained ones."""

Grid = tuple[int, int]


@dataclasses.dataclass(frozen=True, eq=False)
class Expected:
    """Answers of the reference."""

    patches: reference.Searched
    """Distances of the judged images."""
    maps: np.ndarray
    """`(N, H, W)`, weighted where the method says so."""
    longest: float
    """Length of the longest whitened vector."""


def remembering(name: str, backbone: str = "builtin", *, prototypes: int | None = 1200, **changes: Any) -> Method:
    """A preset on 64 x 64 pixels and 20 dimensions, with this number of prototypes unless it has a share of its own."""
    method = dataclasses.replace(small_models.small(name, backbone), **changes)
    bank = method.bank
    assert bank is not None
    if bank.share is None:
        bank = dataclasses.replace(bank, prototypes=prototypes)
    return dataclasses.replace(method, bank=bank)


def frames_of(method: Method, images: list[Image.Image]) -> np.ndarray:
    return np.stack([image_files.prepare(each, method.preprocessing) for each in images])


def weights_of(method: Method) -> str:
    """Weights of the method's network: the built-in ones, or drawn ones."""
    if method.backbone == "builtin":
        return "auto"
    return small_models.weights_of(f"{method.backbone}:{','.join(method.layers)}")


def embedded(method: Method, frames: np.ndarray) -> np.ndarray:
    """The reference's embedding `(N, D, h, w)`."""
    trunk = backbones.load_trunk(method.backbone, weights_of(method), method.layers)
    channels = trunk.description.channels
    _, stages = reduction.draw(method.reduction, channels, method.dims, method.seed, method.shares)
    joint = method.reduction == "semi-orthogonal" and method.shares is None
    matrix = reference.reduction_matrix(stages, channels, joint=joint)
    return reference.on_one_grid(
        trunk,
        frames,
        matrix,
        method.pooling,
        grid_layer=method.grid_layer,
        bilinear=method.upsampling == "bilinear",
    )


def chosen(fitted: Fitted, method: Method, vectors: np.ndarray) -> np.ndarray:
    """`(M, D)`: the reference's vectors of the patches that the model's prototypes are, the frequent ones first.

    Args:
        fitted: Fit of the model.
        method: Method of the fit.
        vectors: `(n, D)`: the reference's vectors of all patches of good images.
    """
    memory = fitted.kept.statistics
    assert isinstance(memory, Memory)
    form = nearest_of(memory, method)
    assert method.bank is not None
    metric = metric_of(moments_of(memory, range(len(memory.vectors))), method.ridge, whitened=method.bank.whitened)
    candidates = np.concatenate(memory.vectors)
    places = {point.tobytes(): i for i, point in enumerate(metric(candidates))}
    taken = candidates[[places[point.tobytes()] for point in form.prototypes]]
    found = []
    for vector in taken:
        away = np.square(vectors - vector).sum(axis=1)
        assert away.min() <= 1e-6 * np.square(vector).sum() + 1e-9, "a prototype is no patch of a good image"
        found.append(vectors[away.argmin()])
    return np.array(found)


def expect(
    fitted: Fitted, method: Method, good: np.ndarray, judged: np.ndarray, inside: np.ndarray | None = None
) -> Expected:
    """Answers for embeddings `(N, D, h, w)` of good and of judged images; `inside` is `(P,)`."""
    bank, d = method.bank, good.shape[1]
    assert bank is not None
    vectors = good.transpose(0, 2, 3, 1).reshape(-1, d)
    inverse = reference.shared_metric(good, method.ridge) if bank.whitened else np.eye(d)
    prototypes = chosen(fitted, method, vectors)
    away = reference.away_from(prototypes, inverse, judged)
    memory = fitted.kept.statistics
    assert isinstance(memory, Memory)
    count = judged.shape[2] * judged.shape[3] if inside is None else int(inside.sum())
    found = reference.search(away, nearest_of(memory, method).frequent, int(np.ceil(bank.searched * count)), inside)
    maps = reference.anomaly_map(found.distance.reshape(-1, *judged.shape[2:]), method.preprocessing.size, method.sigma)
    if bank.neighbours > 1:
        maps = maps * reference.patchcore_weight(away, prototypes, inverse, bank.neighbours)[:, None, None]
    both = np.concatenate([vectors, judged.transpose(0, 2, 3, 1).reshape(-1, d)]) - vectors.mean(axis=0)
    return Expected(found, maps, float(np.sqrt(np.einsum("ni,ij,nj->n", both, inverse, both).max())))


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """A fit, its model and the images around them."""

    method: Method
    fitted: Fitted
    model: Model
    good: np.ndarray
    """Frames of the good images."""
    judged: np.ndarray
    """Frames to judge."""


def case(method: Method, path: Path, images: list[Image.Image] | None = None, roi: Path | None = None) -> Case:
    images = small_models.weave(30) if images is None else images
    fitted = fit_dataset(small_models.dataset(images), method, weights=weights_of(method), feedback=SILENT)
    model = fitted.export_with(path, ExportOptions(roi=roi), SILENT)
    return Case(method, fitted, model, frames_of(method, images), frames_of(method, small_models.judged()))


def check(found: Case) -> None:
    """Compare a fp32 model with the reference; and a batch with its images to the last bit."""
    good, judged = (embedded(found.method, frames) for frames in (found.good, found.judged))
    expected = expect(found.fitted, found.method, good, judged)
    detector = Detector.load(found.model.path, "cpu")
    together = detector(found.judged)
    distances = together.patch_distance.reshape(len(judged), -1)
    assert expected.patches.margin.min() > SURE, "draw others: a patch might be among the farthest or not"
    wanted = expected.patches.distance
    np.testing.assert_allclose(distances, wanted, rtol=TOLERANCE, atol=NEAR * expected.longest)
    far = wanted > 0.1 * expected.longest
    assert far.any()
    np.testing.assert_allclose(distances[far], wanted[far], rtol=TOLERANCE)
    np.testing.assert_allclose(together.anomaly_map, expected.maps, rtol=TOLERANCE)
    np.testing.assert_allclose(together.score, expected.maps.max(axis=(1, 2)), rtol=TOLERANCE)
    for i, frame in enumerate(found.judged):
        single = detector(frame)
        assert (single.patch_distance[0] == together.patch_distance[i]).all()
        assert (single.anomaly_map[0] == together.anomaly_map[i]).all()
        assert single.score[0] == single.anomaly_map[0].max()


@pytest.mark.parametrize(
    ("name", "backbone"),
    [
        ("free", "builtin"),
        ("patchcore", "builtin"),
        ("free", "resnet18"),
        ("free", "mobilenet_v3_large"),
        *(
            pytest.param(name, backbone, marks=pytest.mark.slow)
            for name, backbone in (
                ("patchcore", "resnet18"),
                ("free", "efficientnet_b0"),
                ("patchcore", "efficientnet_b0"),
                ("free", "wide_resnet50_2"),
            )
        ),
    ],
)
def test_the_file_equals_the_reference(name: str, backbone: str, tmp_path: Path) -> None:
    """Networks with and without squeeze and excitation; layers 1 and 2, or PatchCore's 2 and 3."""
    check(case(remembering(name, backbone), tmp_path / "m.onnx"))


@pytest.mark.parametrize(
    ("backbone", "size", "changes"),
    [
        ("builtin:tap2", (64, 64), {}),
        ("builtin:layer1,tap1,layer2,tap3", (97, 131), {"grid_layer": 2}),  # grids that do not fit into each other
        ("builtin:tap1,tap2", (64, 96), {"dims": 8, "prototypes": 200}),
        ("builtin:tap1,tap2", (64, 64), {"reduction": "semi-orthogonal"}),
        ("builtin:tap1,tap2", (96, 64), {"reduction": "semi-orthogonal", "shares": (0.5, 0.5)}),
        pytest.param("resnet18:layer2", (64, 64), {}, marks=pytest.mark.slow),
        pytest.param("resnet18:layer1,layer2,layer3", (64, 64), {}, marks=pytest.mark.slow),
        pytest.param("resnet34:layer1,layer3", (100, 150), {}, marks=pytest.mark.slow),
        pytest.param("efficientnet_v2_s:features.2,features.3", (96, 96), {}, marks=pytest.mark.slow),
    ],
)
def test_other_layers_sizes_and_reductions_equal_the_reference(
    backbone: str, size: Grid, changes: dict[str, Any], tmp_path: Path
) -> None:
    method = remembering("free", backbone, preprocessing=Preprocessing(size), **changes)
    check(case(method, tmp_path / "m.onnx"))


def test_all_channels_on_pools_equal_the_reference(tmp_path: Path) -> None:
    """20 dimensions are pooled by products, but whole layers, which the preset has, by windows."""
    method = preset("free", backbone="builtin", size=64, prototypes=1200)
    found = case(method, tmp_path / "m.onnx")
    kinds = {node.op_type for node in of_kept(found.fitted.kept).model.graph.node}
    assert "AveragePool" in kinds
    check(found)


@pytest.mark.parametrize("count", [4, 30])
def test_fewer_patches_than_prototypes_are_all_remembered(count: int, tmp_path: Path) -> None:
    found = case(remembering("free", prototypes=100_000), tmp_path / "m.onnx", small_models.weave(count))
    patches = count * 8 * 8
    assert 0.9 * patches < (found.model.metadata.prototypes or 0) <= patches
    check(found)


def test_copies_of_patches_are_remembered_once(tmp_path: Path) -> None:
    """Each image twice, as a video without movement gives them."""
    images = [image for image in small_models.weave(12) for _ in range(2)]
    found = case(remembering("free", prototypes=100_000), tmp_path / "m.onnx", images)
    assert (found.model.metadata.prototypes or 0) <= 12 * 8 * 8
    check(found)


def test_nothing_outside_the_region_counts(tmp_path: Path) -> None:
    mask = np.zeros((80, 80), np.uint8)
    mask[:, :45] = 255
    Image.fromarray(mask).save(tmp_path / "roi.png")
    found = case(remembering("free"), tmp_path / "m.onnx", roi=tmp_path / "roi.png")
    inspected = found.model.metadata.inspected
    inside = inspected.reshape(8, 8, 8, 8).any(axis=(1, 3)).ravel().astype(float)
    assert 0 < inside.sum() < 64
    good, judged = (embedded(found.method, frames) for frames in (found.good, found.judged))
    expected = expect(found.fitted, found.method, good, judged, inside)
    assert expected.patches.margin[:, inside == 1].min() > SURE
    told = Detector.load(found.model.path, "cpu")(found.judged)
    np.testing.assert_allclose(
        told.patch_distance.reshape(len(judged), -1),
        expected.patches.distance,
        rtol=TOLERANCE,
        atol=NEAR * expected.longest,
    )
    assert (told.anomaly_map[:, ~inspected] == 0).all()
    assert (told.score == told.anomaly_map.max(axis=(1, 2))).all()


PRECISIONS = [Precision(), Precision("fp16"), Precision("int8"), Precision("int8", "tensorrt")]


@pytest.mark.parametrize("precision", PRECISIONS, ids=str)
@pytest.mark.parametrize(
    ("name", "backbone", "reduction"),
    [
        ("free", "builtin", "random"),
        ("free", "builtin", "pca"),
        ("patchcore", "builtin", "random"),
        pytest.param("free", "resnet18", "random", marks=pytest.mark.slow),
        pytest.param("free", "mobilenet_v3_large", "random", marks=pytest.mark.slow),
    ],
)
def test_each_number_type_is_near_the_reference_on_its_own_embedding(
    name: str, backbone: str, reduction: str, precision: Precision, tmp_path: Path
) -> None:
    """Whatever the backbone computes in, and wherever its principal components come from."""
    method = remembering(name, backbone, reduction=reduction)
    bank = method.bank
    assert bank is not None
    neighbours = 1 if precision.name == "int8" else bank.neighbours  # int8 has no re-weighting
    method = dataclasses.replace(method, precision=precision, bank=dataclasses.replace(bank, neighbours=neighbours))
    with small_models.rounded_to_nearest():
        found = case(method, tmp_path / "m.onnx")
    session = open_session(joined(of_kept(found.fitted.kept)).SerializeToString(), "cpu").session

    def embed(frames: np.ndarray) -> np.ndarray:
        return np.asarray(session.run([names.EMBEDDING], {names.IMAGE: frames})[0], np.float64)

    expected = expect(found.fitted, found.method, embed(found.good), embed(found.judged))
    told = Detector.load(found.model.path, "cpu")(found.judged)
    distances = told.patch_distance.reshape(expected.patches.distance.shape)
    off = np.abs(distances - expected.patches.distance)
    other = np.abs(distances - expected.patches.other)
    off = np.where(expected.patches.margin < OWN[precision.name], np.minimum(off, other), off)
    assert off.mean() < OWN[precision.name] * expected.patches.distance.mean()
    np.testing.assert_allclose(told.score, expected.maps.max(axis=(1, 2)), rtol=2 * OWN[precision.name])


@pytest.mark.parametrize("precision", PRECISIONS[1:], ids=str)
@pytest.mark.parametrize("backbone", ["builtin", pytest.param("resnet18", marks=pytest.mark.slow)])
def test_fewer_bits_move_scores_little_backbone_included(backbone: str, precision: Precision, tmp_path: Path) -> None:
    exact = case(remembering("free", backbone), tmp_path / "exact.onnx")
    found = case(remembering("free", backbone, precision=precision), tmp_path / "m.onnx")
    a, b = (Detector.load(each.model.path, "cpu")(found.judged) for each in (exact, found))
    np.testing.assert_allclose(b.score, a.score, rtol=BACKBONE[precision.name])
    assert np.abs(b.anomaly_map / a.anomaly_map - 1).mean() < BACKBONE[precision.name]
    assert found.model.threshold == pytest.approx(exact.model.threshold, rel=BACKBONE[precision.name])
