"""Weights come from where the user says, fit, or are refused with the keys at fault."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from padim_edge_artifact import PadimEdgeError
from padim_edge_export import backbones


@pytest.fixture(scope="module")
def resnet18() -> dict[str, torch.Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return backbones.BACKBONES["resnet18"].build().state_dict()


def trunk_only(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {k: v for k, v in state.items() if not k.startswith(("layer4", "fc"))}


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("whole", [True, False])
def test_a_file_may_hold_the_whole_network_or_only_the_layers_used(
    resnet18: dict[str, torch.Tensor], suffix: str, whole: bool, tmp_path: Path
) -> None:
    path = tmp_path / f"weights{suffix}"
    state = resnet18 if whole else trunk_only(resnet18)
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    trunk = backbones.load("resnet18", str(path))
    assert trunk.description.channels == (64, 128, 256)
    assert trunk.description.weights == f"file weights{suffix}"
    assert str(tmp_path) not in str(trunk.description)
    loaded = trunk.module.state_dict()
    assert all(torch.equal(loaded[key], resnet18[key]) for key in loaded if "num_batches" not in key)


def test_the_digest_depends_on_the_values_and_not_on_the_file(
    resnet18: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    save_file(resnet18, tmp_path / "a.safetensors")
    torch.save({"state_dict": trunk_only(resnet18)}, tmp_path / "b.pth")
    changed = {**resnet18, "conv1.weight": resnet18["conv1.weight"] + 1e-3}
    save_file(changed, tmp_path / "c.safetensors")
    a, b, c = (
        backbones.load("resnet18", str(tmp_path / name)).description.weights_digest
        for name in ("a.safetensors", "b.pth", "c.safetensors")
    )
    assert a == b != c


def test_missing_extra_and_misshapen_keys_are_named(resnet18: dict[str, torch.Tensor], tmp_path: Path) -> None:
    state = trunk_only(resnet18)
    del state["layer1.0.bn1.bias"]
    state["classifier.weight"] = torch.zeros(1)
    state["conv1.weight"] = torch.zeros(64, 1, 7, 7)
    save_file(state, path := tmp_path / "w.safetensors")
    with pytest.raises(PadimEdgeError) as caught:
        backbones.load("resnet18", str(path))
    for expected in ("layer1.0.bn1.bias missing", "classifier.weight unknown", "conv1.weight (64, 1, 7, 7) instead of"):
        assert expected in str(caught.value)


def test_weights_of_another_architecture_are_refused_in_one_sentence(tmp_path: Path) -> None:
    from torchvision.models import mobilenet_v3_small

    torch.save(mobilenet_v3_small(weights=None).state_dict(), path := tmp_path / "mobilenet.pth")
    with pytest.raises(PadimEdgeError, match=r"do not fit the backbone: bn1.bias, .* and \d+ more missing") as caught:
        backbones.load("resnet18", str(path))
    assert len(str(caught.value)) < 500


def test_weights_that_are_not_finite_are_refused(resnet18: dict[str, torch.Tensor], tmp_path: Path) -> None:
    state = {key: value.clone() for key, value in resnet18.items()}
    state["layer2.0.conv1.weight"][0, 0, 0, 0] = float("nan")
    save_file(state, path := tmp_path / "w.safetensors")
    with pytest.raises(PadimEdgeError, match=r"not finite in layer2\.0\.conv1\.weight"):
        backbones.load("resnet18", str(path))


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x04\x95" + bytes(50), bytes(8) + b"{}"])
def test_files_that_hold_no_weights_are_refused(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PadimEdgeError, match=r"not a readable weights file|do not fit"):
        backbones.load("resnet18", str(tmp_path / name))


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    """A .pth file is a pickle; only tensors may come out of it."""

    class Attack:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "attacked",))

    torch.save({"conv1.weight": Attack()}, path := tmp_path / "w.pth")
    with pytest.raises(PadimEdgeError, match="not a readable weights file"):
        backbones.load("resnet18", str(path))
    assert not (tmp_path / "attacked").exists()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PadimEdgeError, match=r"there is no weights file .*nothing\.pth"):
        backbones.load("resnet18", str(tmp_path / "nothing.pth"))


def test_an_unknown_backbone_is_refused_with_the_known_ones() -> None:
    with pytest.raises(PadimEdgeError, match=", ".join(backbones.BACKBONES)):
        backbones.load("resnet19")


def test_auto_without_cache_and_network_names_the_ways_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def no_network(*_: object, **__: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr("torch.hub.download_url_to_file", no_network)
    with pytest.raises(PadimEdgeError) as caught:
        backbones.load("resnet18")
    for way in ("--weights FILE", "TORCH_HOME", "--backbone builtin"):
        assert way in str(caught.value)


def test_auto_takes_torchvisions_cache(
    resnet18: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (cache := tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(resnet18, cache / "resnet18-f37072fd.pth")
    trunk = backbones.load("resnet18")
    assert "IMAGENET1K_V1" in trunk.description.weights
    assert trunk.description.licence.startswith("BSD-3")


def test_the_builtin_weights_say_where_they_come_from() -> None:
    from safetensors import safe_open

    assert backbones.BUILTIN_WEIGHTS.stat().st_size <= 4e6
    with safe_open(backbones.BUILTIN_WEIGHTS, "pt") as file:
        about = file.metadata()
    assert about["licence"] == "Apache-2.0"
    assert "ResNet-18" in about["teacher"]
    assert "no photograph" in about["pictures"]
    plan = json.loads(about["plan"])
    assert plan["seed"] == 0
    trunk = backbones.load("builtin")
    assert trunk.description.channels == (64, 128, 256)
    assert trunk.description.licence == "Apache-2.0"


def test_loading_leaves_torchs_generator_alone() -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    backbones.load("builtin")
    assert torch.equal(torch.get_rng_state(), before)
