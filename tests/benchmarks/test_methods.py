"""The rivals against naive float64 loops over the same features, and the promises that all of them make."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import naive_methods as naive
import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from safetensors.torch import load_file

from benchmarks import methods
from benchmarks.methods import coreset, features, patchcore, patchcore_graphs, spade, vae
from benchmarks.methods.parts import OneGraph
from benchmarks.networks import weights_for
from padim_edge_artifact import PadimEdgeError, names

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SIZE = (64, 96)
"""Not square, so that rows and columns cannot be exchanged unnoticed."""
GOOD = 7
NEAREST = 3
BLOCK_ROWS = 20

FLOAT32 = 1e-3
"""Relative to the largest value. The naive side computes in float64; |a|^2 + |b|^2 - 2 ab loses digits."""
ROUNDING = 1e-5
"""Relative to the largest value: the same sums in another order."""


def draw(seed: int, count: int) -> np.ndarray:
    """`(count, H, W, 3)` uint8: noise in coarse blocks, so that the coarse stages see something, too."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 200, (count, SIZE[0] // 16, SIZE[1] // 16, 3)).repeat(16, 1).repeat(16, 2)
    return (coarse + generator.integers(0, 56, (count, *SIZE, 3))).astype(np.uint8)


def close(found: Any, expected: Any, tolerance: float) -> None:
    expected = np.asarray(expected)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


GOOD_FRAMES, TEST_FRAMES = draw(0, GOOD), draw(1, 2)


@pytest.fixture(scope="module")
def network() -> features.Network:
    return features.load("builtin", None, ROOT)


@pytest.fixture(scope="module")
def fitted_spade(network: features.Network) -> spade.Spade:
    return spade.fit(iter(GOOD_FRAMES), network, SIZE, threads=1)


@pytest.fixture(scope="module")
def fitted_patchcore(network: features.Network) -> OneGraph:
    return patchcore.fit(
        iter(GOOD_FRAMES), network, SIZE, patchcore.Settings(share=0.1, block_rows=BLOCK_ROWS), threads=1
    )


@pytest.fixture(scope="module")
def fitted_vae() -> OneGraph:
    return vae.fit([], SIZE, threads=1)


@pytest.fixture(params=["spade", "patchcore", "vae"])
def fitted(request: pytest.FixtureRequest) -> methods.Fitted:
    found: methods.Fitted = request.getfixturevalue(f"fitted_{request.param}")
    return found


# Promises of all


def test_a_batch_is_judged_as_its_images_one_by_one(fitted: methods.Fitted) -> None:
    scores, maps = fitted(TEST_FRAMES)
    assert (scores.shape, scores.dtype) == ((2,), np.float32)
    assert (maps.shape, maps.dtype) == ((2, *SIZE), np.float32)
    singles = [fitted(frame[None]) for frame in TEST_FRAMES]
    close(scores, np.concatenate([score for score, _ in singles]), ROUNDING)
    close(maps, np.concatenate([each for _, each in singles]), ROUNDING)


def test_more_images_than_go_through_at_once_are_taken_in_turns(fitted_patchcore: OneGraph) -> None:
    scores, maps = fitted_patchcore(np.tile(TEST_FRAMES, (5, 1, 1, 1)))
    assert maps.shape == (10, *SIZE)
    close(scores, np.tile(fitted_patchcore(TEST_FRAMES)[0], 5), ROUNDING)


def test_what_was_saved_judges_the_same_and_weighs_the_same(fitted: methods.Fitted, tmp_path: Path) -> None:
    fitted.save(tmp_path / "a")
    loaded = methods.load(tmp_path / "a", threads=1)
    for found, expected in zip(loaded(TEST_FRAMES), fitted(TEST_FRAMES), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert loaded.bytes == fitted.bytes
    assert loaded.notes == fitted.notes
    on_disk = sum(file.stat().st_size for file in (tmp_path / "a").iterdir())
    assert 0 <= on_disk - fitted.bytes < 5000  # headers, and the JSON file
    loaded.save(tmp_path / "b")  # from files that are not in memory
    assert methods.load(tmp_path / "b").bytes == fitted.bytes


def test_judging_needs_no_torch(fitted_spade: spade.Spade, fitted_patchcore: OneGraph, tmp_path: Path) -> None:
    """A worker that measures memory must not measure the toolkit's."""
    fitted_spade.save(tmp_path / "spade")
    fitted_patchcore.save(tmp_path / "patchcore")
    program = f"""
import sys, numpy
from pathlib import Path
from benchmarks import methods
for name in ("spade", "patchcore"):
    methods.load(Path({str(tmp_path)!r}) / name)(numpy.zeros((1, {SIZE[0]}, {SIZE[1]}, 3), numpy.uint8))
assert not {{"torch", "onnx", "scipy"}} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def test_what_cannot_be_done_is_refused_in_a_sentence(network: features.Network, tmp_path: Path) -> None:
    with pytest.raises(PadimEdgeError, match="choose one of spade, patchcore-1"):
        methods.fit("padim", GOOD_FRAMES, network, SIZE)
    with pytest.raises(PadimEdgeError, match="choose one of resnet18"):
        features.load("resnet34", None, tmp_path)
    with pytest.raises(PadimEdgeError, match="multiples of 16"):
        methods.fit("spade", GOOD_FRAMES, network, (72, 64))
    with pytest.raises(PadimEdgeError, match="multiples of 32"):
        methods.fit("vae", GOOD_FRAMES, network, (80, 64))
    with pytest.raises(PadimEdgeError, match="holds no fitted method"):
        methods.load(tmp_path)


# Networks


def test_random_networks_are_settled_and_repeatable(tmp_path: Path) -> None:
    """Values far from 1 may become infinite or denormal, and denormal numbers take far longer."""
    state = torch.random.get_rng_state()
    first = features.load("resnet18", None, tmp_path, seed=3)
    stages = first.stages(first.layers)
    again = features.load("resnet18", None, tmp_path, seed=3).stages(first.layers)
    assert torch.equal(state, torch.random.get_rng_state())
    assert first.layers == ("layer1", "layer2", "layer3", "layer4")
    assert "random weights" in first.notes[0]
    assert not stages.training
    for one, other in zip(stages.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
    with torch.inference_mode():
        for each in stages(torch.randn(2, 3, 64, 64)).values():
            assert 0.1 < float(each.std()) < 10


def test_weights_may_end_after_layer3_but_not_before(tmp_path: Path) -> None:
    whole = load_file(weights_for("resnet18", None, tmp_path))
    trunk = {key: value for key, value in whole.items() if not key.startswith(("layer4", "fc"))}
    torch.save(trunk, tmp_path / "trunk.pth")
    torch.save({key: value for key, value in trunk.items() if "layer2" not in key}, tmp_path / "hole.pth")
    found = features.load("resnet18", tmp_path / "trunk.pth", tmp_path)
    assert found.layers == ("layer1", "layer2", "layer3")
    assert not found.notes
    own = found.stages(found.layers).get_parameter("layer3.0.conv1.weight")
    assert torch.equal(own, trunk["layer3.0.conv1.weight"])
    with pytest.raises(PadimEdgeError, match=r"layer2.* missing"):
        features.load("resnet18", tmp_path / "hole.pth", tmp_path)


@pytest.mark.parametrize(("outputs", "inputs"), [(28, 14), (224, 28), (7, 5), (5, 7), (6, 1)])
def test_bilinear_is_torchs(outputs: int, inputs: int) -> None:
    signal = np.random.default_rng(0).standard_normal(inputs)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(signal)[None, None], size=outputs, mode="linear", align_corners=False
    )
    np.testing.assert_allclose(features.bilinear(outputs, inputs) @ signal, expected[0, 0], atol=1e-12)


# SPADE


def test_spade_is_the_papers_equations(
    network: features.Network, fitted_spade: spade.Spade, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also that the minimum, taken stage by stage, is that over the concatenated vectors."""
    monkeypatch.setattr(spade, "NEAREST", NEAREST)
    good = naive.stages(network, GOOD_FRAMES, network.layers)
    images = naive.stages(network, TEST_FRAMES, network.layers)
    scores, maps = fitted_spade(TEST_FRAMES)
    for i, frame in enumerate(TEST_FRAMES):
        score, values = naive.spade(good, [stage[i] for stage in images], NEAREST)
        close(fitted_spade.compare(frame)[1], values, FLOAT32)
        close(maps[i], naive.smooth(values, SIZE), FLOAT32)
        close(scores[i], score, FLOAT32)


def test_spade_finds_what_it_has_seen(fitted_spade: spade.Spade) -> None:
    _, distances = fitted_spade.compare(GOOD_FRAMES[2])
    # The root of a rounding error of squared norms.
    assert distances.max() < 0.02 * fitted_spade.compare(TEST_FRAMES[0])[1].mean()


def test_spade_says_that_it_pools_layer3(fitted_spade: spade.Spade) -> None:
    assert "that of layer3" in fitted_spade.notes[-1]


def test_spades_blocks_change_nothing_and_bound_the_memory(fitted_spade: spade.Spade) -> None:
    positions = 16 * 24
    one_cell = 16 * positions * 4
    expected = fitted_spade(TEST_FRAMES[:1])[1]
    for cells in (1, 5):
        limit = cells * one_cell + 100
        assert limit < GOOD * positions**2 * 4 / 10  # all distances would take far more
        blocked = spade.Spade(fitted_spade.parts, 1, block_bytes=limit)
        recorder = Recorder(blocked._distances)
        blocked._distances = recorder
        close(blocked(TEST_FRAMES[:1])[1], expected, ROUNDING)
        assert max(recorder.sizes) == cells * one_cell <= limit
        assert sum(recorder.sizes) == GOOD * positions**2 * 4


class Recorder:
    """Stands in for a session and notes the bytes of the largest product of each run."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.sizes: list[int] = []

    def run(self, outputs: Any, feed: dict[str, np.ndarray]) -> Any:
        self.sizes.append(feed["fine"].shape[0] * feed["bank_fine"].shape[1] * 4)
        return self.session.run(outputs, feed)


# PatchCore


def bank_of(fitted: OneGraph) -> tuple[np.ndarray, list[int]]:
    """The bank in float64 as the graph holds it, `(M, D)`, and the heights of its blocks."""
    model = fitted.parts.models[fitted.parts.method]
    assert isinstance(model, bytes)
    stored = {each.name: numpy_helper.to_array(each) for each in onnx.load_from_string(model).graph.initializer}
    blocks = [stored[f"bank{i}"] for i in range(sum(name.startswith("bank") for name in stored))]
    vectors = len(stored["neighbours"])
    return np.concatenate(blocks)[:vectors, :-1].astype(np.float64) / -2, [len(block) for block in blocks]


def test_patchcore_is_the_papers_equations(network: features.Network, fitted_patchcore: OneGraph) -> None:
    layer2, layer3 = naive.stages(network, TEST_FRAMES, ("layer2", "layer3"))
    bank, _ = bank_of(fitted_patchcore)
    scores, maps = fitted_patchcore(TEST_FRAMES)
    values = fitted_patchcore._session.run([names.PATCH_DISTANCE], {names.IMAGE: TEST_FRAMES})[0]
    for i in range(len(TEST_FRAMES)):
        score, expected = naive.patchcore(bank, naive.patches(layer2[i], layer3[i]), patchcore.NEIGHBOURS)
        close(values[i].ravel(), expected, FLOAT32)
        close(scores[i], score, FLOAT32)
        close(maps[i], naive.smooth(expected.reshape(layer2.shape[2:]), SIZE), FLOAT32)


def test_patchcores_smoothed_score_is_the_papers_times_the_peak_of_the_map_over_the_largest_distance(
    network: features.Network, fitted_patchcore: OneGraph
) -> None:
    settings = patchcore.Settings(share=0.1, block_rows=BLOCK_ROWS, smoothed=True)
    smoothed = patchcore.fit(iter(GOOD_FRAMES), network, SIZE, settings, threads=1)
    values = fitted_patchcore._session.run([names.PATCH_DISTANCE], {names.IMAGE: TEST_FRAMES})[0]
    scores, maps = fitted_patchcore(TEST_FRAMES)
    expected = scores / values.max((1, 2)) * maps.max((1, 2))
    close(smoothed(TEST_FRAMES)[0], expected, ROUNDING)
    np.testing.assert_array_equal(smoothed(TEST_FRAMES)[1], maps)
    assert "smoothed" in smoothed.notes[-1]


def test_patchcores_bank_is_the_k_centre_selection_of_the_good_patches(
    network: features.Network, fitted_patchcore: OneGraph
) -> None:
    layer2, layer3 = naive.stages(network, GOOD_FRAMES, ("layer2", "layer3"))
    vectors = np.concatenate([naive.patches(*each) for each in zip(layer2, layer3, strict=True)]).astype(np.float32)
    bank, _ = bank_of(fitted_patchcore)
    assert len(bank) == len(vectors) // 10
    start = int(np.random.default_rng(0).integers(len(vectors)))
    chosen = naive.k_centre(vectors @ coreset.projection(vectors.shape[1], 0), 12, start)
    close(bank[:12], vectors[chosen], FLOAT32)


def test_patchcores_blocks_change_nothing_and_bound_the_memory(
    network: features.Network, fitted_patchcore: OneGraph
) -> None:
    bank, heights = bank_of(fitted_patchcore)
    assert len(bank) > 2 * BLOCK_ROWS
    assert max(heights) <= BLOCK_ROWS
    whole = patchcore.fit(GOOD_FRAMES, network, SIZE, patchcore.Settings(share=0.1), threads=1)
    assert len(bank_of(whole)[1]) == 1
    for found, expected in zip(fitted_patchcore(TEST_FRAMES), whole(TEST_FRAMES), strict=True):
        close(found, expected, ROUNDING)


@pytest.mark.parametrize(("channels", "dims"), [(1536, 1024), (384, 1024), (96, 50), (10, 3)])
def test_more_channels_than_wanted_are_averaged_as_torch_does(channels: int, dims: int) -> None:
    values = np.random.default_rng(0).standard_normal((4, channels))
    taps = patchcore_graphs._taps(channels, dims)
    if channels <= dims:
        assert not taps
        return
    found = sum(values[:, index] * weight for index, weight in taps)
    expected = torch.nn.functional.adaptive_avg_pool1d(torch.from_numpy(values), dims)
    np.testing.assert_allclose(found, expected, atol=1e-12)


# Coreset


def exact_points(count: int, dims: int) -> np.ndarray:
    """`(count, dims)` float32, multiples of 2^-9: their squared distances are exact in float32, in any order."""
    return (np.random.default_rng(5).integers(-400, 400, (count, dims)) / 512).astype(np.float32)


def test_neighbours_are_the_naive_ones_and_a_vector_is_its_own() -> None:
    bank = exact_points(300, 6)
    found = coreset.neighbours(bank, 9)
    squared = ((bank[:, None].astype(np.float64) - bank) ** 2).sum(2)
    np.testing.assert_array_equal(
        np.sort(np.take_along_axis(squared, found, 1), axis=1), np.sort(squared, axis=1)[:, :9]
    )
    assert all(i in row for i, row in enumerate(found))
    assert coreset.neighbours(bank[:4], 9).shape == (4, 4)


def test_neighbours_never_hold_a_matrix_larger_than_their_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    bank = exact_points(3000, 4)
    expected = coreset.neighbours(bank, 3)
    monkeypatch.setattr(coreset, "BLOCK_BYTES", limit := 200_000)
    tracemalloc.start()
    try:
        found = coreset.neighbours(bank, 3)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(np.sort(found), np.sort(expected))
    # A block, its indices (8 bytes for 4), and some vectors and indices a point; all distances would take 36 MB.
    assert peak < 4 * limit + 120 * len(bank)


# VAE


def test_vae_says_that_it_is_good_for_time_only(fitted_vae: OneGraph) -> None:
    assert fitted_vae.notes == ("untrained: time only",)


def test_vaes_map_is_the_smoothed_error_and_its_score_the_largest_of_it(fitted_vae: OneGraph) -> None:
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(0)
        network = vae._Vae().eval()
        image = torch.from_numpy(TEST_FRAMES)
        found = network.decoder(network.mean(network.encoder(network.normalise(image))))
        error = (found - image.permute(0, 3, 1, 2) / 255).abs().mean(1).double().numpy()
    scores, maps = fitted_vae(TEST_FRAMES)
    for i in range(len(TEST_FRAMES)):
        close(maps[i], naive.smooth(error[i], SIZE), FLOAT32)
    np.testing.assert_array_equal(scores, maps.max((1, 2)))


def test_vae_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vae, "_BATCH", 2)
    monkeypatch.setattr(vae, "_RATE", 1e-3)
    steps: list[int] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = vae._Vae().train()
        image = torch.from_numpy(GOOD_FRAMES[:2])
        before = network.loss(image).item()
        vae._train(network, GOOD_FRAMES[:2], SIZE, 10, steps.append)
        after = network.loss(image).item()
    assert after < 0.8 * before
    assert sum(steps) == 10
