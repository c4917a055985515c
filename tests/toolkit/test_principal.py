"""Principal components: those of all patches' vectors, streamed; and what ships with them is PaDiM, too."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import reference
from small_models import dataset, export_model, judged, small, trunk_of, weave

from padim_edge.network import all_channels
from padim_edge.principal import principal_components
from padim_edge_artifact import PadimEdgeError
from padim_edge_artifact.method import Method
from padim_edge_export import reduction
from padim_edge_runtime import Detector, image_files

GOOD = weave(14)
TRUNK = trunk_of("builtin")


def frames(images: list, method: Method) -> np.ndarray:
    return np.stack([image_files.prepare(each, method.preprocessing) for each in images])


def all_vectors(images: list, method: Method) -> np.ndarray:
    """`(N, C, h, w)` of the reference, nothing reduced and nothing pooled."""
    whole = np.eye(sum(TRUNK.description.channels))
    return reference.embedding(TRUNK, frames(images, method), whole, 1)


@pytest.mark.parametrize("name", ["paper", "edge", "accurate"])
def test_the_components_are_those_of_all_patches_at_once(name: str) -> None:
    method = small(name)
    recorded, stages = principal_components(all_channels(method), method, frames(GOOD, method))
    vectors = all_vectors(GOOD, method).transpose(0, 2, 3, 1).reshape(-1, sum(TRUNK.description.channels))
    covariance = np.cov(vectors, rowvar=False)
    expected, wanted = reduction.principal(covariance, TRUNK.description.channels, method.dims, method.shares)
    assert recorded == expected
    for found, each in zip(stages, wanted, strict=True):
        # Directions of nearly equal variance may turn into each other; what is kept in all must agree.
        kept = (np.trace(m @ _own(covariance, stages, found) @ m.T) for m in (found.projection, each.projection))
        assert next(kept) == pytest.approx(next(kept), rel=1e-4)


def _own(covariance: np.ndarray, stages: tuple, stage: reduction.StageReduction) -> np.ndarray:
    place = next(i for i, each in enumerate(stages) if each is stage)
    bounds = np.cumsum((0, *TRUNK.description.channels))
    return covariance[bounds[place] : bounds[place + 1], bounds[place] : bounds[place + 1]]


@pytest.mark.parametrize("name", ["paper", "edge", "accurate"])
def test_what_ships_agrees_with_the_reference(name: str, tmp_path: Path) -> None:
    method = dataclasses.replace(small(name), reduction="pca")
    _, stages = principal_components(all_channels(method), method, frames(GOOD, method))
    matrix = reference.reduction_matrix(stages, TRUNK.description.channels, joint=method.shares is None)

    def embed(images: list) -> np.ndarray:
        shape = frames(images, method)
        return reference.embedding(TRUNK, shape, matrix, method.pooling, pool_patches=method.pool_patches)

    expected = reference.distance(reference.fit(embed(GOOD), method.ridge), embed(judged()))
    model = export_model(dataset(GOOD), tmp_path / "m.onnx", method)
    found = Detector.load(model.path, "cpu")(frames(judged(), method))
    np.testing.assert_allclose(found.patch_distance, expected, rtol=1e-3)
    assert (model.metadata.method.reduction, model.metadata.reduction.channels) == ("pca", None)


def test_without_images_there_are_no_components() -> None:
    with pytest.raises(PadimEdgeError, match="no readable image to take principal components of"):
        principal_components(all_channels(small("edge")), small("edge"), [])
