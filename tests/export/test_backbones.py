"""Weights come from where the user says, fit, or are refused with the keys at fault."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import small_models
import torch
from commands import run
from safetensors.torch import save_file
from torchvision import models

from padim_edge_artifact import PadimEdgeError, read_verified
from padim_edge_export import backbones

PAGE = Path(__file__).parents[2] / "docs" / "presets.md"


@pytest.fixture(scope="module")
def resnet18() -> dict[str, torch.Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return backbones.BACKBONES["resnet18"].build().state_dict()


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network keeps the weights that it was built with; no file is read."""
    monkeypatch.setattr(backbones, "read_state", lambda _, row, __: (row.build().state_dict(), "drawn"))


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
    trunk = backbones.load_trunk("resnet18", str(path))
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
        backbones.load_trunk("resnet18", str(tmp_path / name)).description.weights_digest
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
        backbones.load_trunk("resnet18", str(path))
    for expected in ("layer1.0.bn1.bias missing", "classifier.weight unknown", "conv1.weight (64, 1, 7, 7) instead of"):
        assert expected in str(caught.value)


def test_weights_of_another_architecture_are_refused_in_one_sentence(tmp_path: Path) -> None:
    from torchvision.models import mobilenet_v3_small

    torch.save(mobilenet_v3_small(weights=None).state_dict(), path := tmp_path / "mobilenet.pth")
    with pytest.raises(PadimEdgeError, match=r"do not fit the backbone: bn1.bias, .* and \d+ more missing") as caught:
        backbones.load_trunk("resnet18", str(path))
    assert len(str(caught.value)) < 500


def test_weights_that_are_not_finite_are_refused(resnet18: dict[str, torch.Tensor], tmp_path: Path) -> None:
    state = {key: value.clone() for key, value in resnet18.items()}
    state["layer2.0.conv1.weight"][0, 0, 0, 0] = float("nan")
    save_file(state, path := tmp_path / "w.safetensors")
    with pytest.raises(PadimEdgeError, match=r"not finite in layer2\.0\.conv1\.weight"):
        backbones.load_trunk("resnet18", str(path))


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x04\x95" + bytes(50), bytes(8) + b"{}"])
def test_files_that_hold_no_weights_are_refused(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PadimEdgeError, match=r"not a readable weights file|do not fit"):
        backbones.load_trunk("resnet18", str(tmp_path / name))


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    """A .pth file is a pickle; only tensors may come out of it."""

    class Attack:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "attacked",))

    torch.save({"conv1.weight": Attack()}, path := tmp_path / "w.pth")
    with pytest.raises(PadimEdgeError, match="not a readable weights file"):
        backbones.load_trunk("resnet18", str(path))
    assert not (tmp_path / "attacked").exists()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PadimEdgeError, match=r"there is no weights file .*nothing\.pth"):
        backbones.load_trunk("resnet18", str(tmp_path / "nothing.pth"))


def test_an_unknown_backbone_is_refused_with_the_known_ones() -> None:
    for layers in (None, ("layer1",)):
        with pytest.raises(PadimEdgeError, match=f"{', '.join(backbones.BACKBONES)}, or any .* with --layers"):
            backbones.load_trunk("resnet19", layers=layers)


def test_auto_without_cache_and_network_names_the_ways_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def no_network(*_: object, **__: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr("torch.hub.download_url_to_file", no_network)
    with pytest.raises(PadimEdgeError) as caught:
        backbones.load_trunk("resnet18")
    for way in ("--weights FILE", "TORCH_HOME", "--backbone builtin"):
        assert way in str(caught.value)


def test_auto_takes_torchvisions_cache(
    resnet18: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (cache := tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(resnet18, cache / "resnet18-f37072fd.pth")
    trunk = backbones.load_trunk("resnet18")
    assert "IMAGENET1K_V1" in trunk.description.weights
    assert trunk.description.licence.startswith("BSD-3")


def test_the_builtin_weights_say_where_they_come_from() -> None:
    from safetensors import safe_open

    assert backbones.BUILTIN_WEIGHTS.stat().st_size <= 4e6
    with safe_open(backbones.BUILTIN_WEIGHTS, "pt") as file:
        about = file.metadata()
    assert about["licence"] == "Apache-2.0"
    assert "ResNet-18" in about["teacher"]
    assert "no photograph" in about["pictures"]  # the file is older than the word `images`, which `card.py` writes
    plan = json.loads(about["plan"])
    assert plan["seed"] == 0
    trunk = backbones.load_trunk("builtin")
    assert trunk.description.channels == (64, 128, 256)
    assert trunk.description.licence == "Apache-2.0"


def test_loading_leaves_torchs_generator_alone() -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    backbones.load_trunk("builtin")
    assert torch.equal(torch.get_rng_state(), before)


STRIDES = {
    "resnet18": (4, 8, 16),
    "resnet50": (4, 8, 16),
    "wide_resnet50_2": (4, 8, 16),
    "efficientnet_b5": (4, 16, 16),
    "efficientnet_b0": (4, 8, 16),
    "mobilenet_v3_large": (4, 8, 16),
    "builtin": (4, 8, 16),
}


@pytest.mark.usefixtures("drawn")
@pytest.mark.parametrize("name", backbones.BACKBONES)
def test_the_rows_say_what_their_networks_give(name: str) -> None:
    row, trunk = backbones.BACKBONES[name], backbones.load_trunk(name)
    assert trunk.layers == row.layers
    with torch.inference_mode():
        features = trunk.module(torch.zeros(1, 3, 64, 96))
    assert tuple(features) == row.layers
    assert tuple(each.shape[1] for each in features.values()) == trunk.description.channels
    for each, stride in zip(features.values(), STRIDES[name], strict=True):
        assert each.shape[2:] == (64 // stride, 96 // stride)
    channels, strides = sum(trunk.description.channels), ", ".join(map(str, STRIDES[name]))
    assert backbones.default_dims(name) == row.dims <= channels
    told = f"| `{name}` | `{','.join(row.layers)}` | {strides} | {channels} | {row.dims} |"
    assert told in PAGE.read_text()
    if row.torchvision_weights is not None:
        entry = models.get_weight(row.torchvision_weights)
        assert entry in models.get_model_weights(name)
        assert (tuple(entry.transforms().mean), tuple(entry.transforms().std)) == (row.mean, row.std)


def test_efficientnet_b5s_layers_are_the_papers() -> None:
    """Blocks 7, 20 and 26 "of levels 2, 4 and 5": 7 and 26 are the last ones of levels 2 and 5, 20 the first of 5."""
    with torch.device("meta"):
        network = models.efficientnet_b5(weights=None)
    blocks = [f"features.{level}.{i}" for level in range(1, 8) for i in range(len(network.features[level]))]
    assert [blocks[i] for i in (7, 20, 26)] == ["features.2.4", "features.5.0", "features.5.6"]
    lasts = {level: blocks.index(f"features.{level}.{len(network.features[level]) - 1}") for level in (2, 4, 5)}
    assert lasts == {2: 7, 4: 19, 5: 26}
    assert backbones.BACKBONES["efficientnet_b5"].layers == tuple(f"features.{level}" for level in lasts)


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("resnet18", ("layer1.0.bn2", "layer1", "layer2.0.relu")),  # what follows changes the first in place
        ("mobilenet_v3_large", ("features.3", "features.4.block.1", "features.12")),
        ("builtin", ("layer1.0.conv1", "layer1", "tap1", "tap3")),
    ],
)
def test_a_cut_network_gives_what_the_whole_one_gives_at_these_layers(
    name: str, layers: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = backbones.BACKBONES[name].build().eval()
    monkeypatch.setattr(backbones, "read_state", lambda *_: (network.state_dict(), "drawn"))
    seen: dict[str, torch.Tensor] = {}

    def look(layer: str, output: torch.Tensor) -> None:
        seen.setdefault(layer, output.clone())  # the first time: ResNet's ReLU has two places, `relu` and `relu_1`

    for layer in layers:
        network.get_submodule(layer).register_forward_hook(lambda _, __, output, layer=layer: look(layer, output))
    x = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        network(x)
        found = backbones.load_trunk(name, layers=layers).module(x)
    assert tuple(found) == layers
    for layer in layers:
        torch.testing.assert_close(found[layer], seen[layer])


@pytest.mark.usefixtures("drawn")
def test_layers_come_finest_first_and_equal_ones_as_they_were_named() -> None:
    assert backbones.load_trunk("builtin", layers=("tap3", "tap1")).layers == ("tap1", "tap3")
    named = ("features.5", "features.2", "features.4")
    assert backbones.load_trunk("efficientnet_b0", layers=named).layers == (
        "features.2",
        "features.5",
        "features.4",
    )


@pytest.mark.parametrize(
    ("name", "layers", "sentence"),
    [
        ("resnet18", ("layer5",), "resnet18 has no layer 'layer5'.* such as layer4, layer3, layer2"),
        ("resnet18", ("stage",), "resnet18 has no layer 'stage'.* such as layer1, layer2, layer3"),
        ("resnet18", ("",), "resnet18 has no layer ''.* such as layer1, layer2, layer3"),
        ("efficientnet_b0", ("features.55",), "such as features.5"),
        ("resnet18", ("layer1", "layer2", "layer1"), "layers layer1 and layer1 of resnet18 are the same"),
        ("resnet18", ("layer1.1", "layer1"), r"layers layer1\.1 and layer1 of resnet18 are the same"),
        ("resnet18", (), "no layer of resnet18 is named; give --layers such as layer1,layer2,layer3"),
        ("resnet18", ("layer1", "fc"), r"fc of resnet18 gives \(1, 1000\) .*expected \(images, channels, height"),
        ("resnet18", ("avgpool",), r"avgpool of resnet18 gives \(1, 512, 1, 1\) for an image of 96 x 96"),
        ("swin_t", ("features.1",), r"features\.1 of swin_t gives \(1, 24, 24, 96\) .* and \(1, 40, 40, 96\) for"),
        ("vit_b_32", ("encoder.layers.encoder_layer_1",), "vit_b_32 cannot take an image of 96 x 96 pixels; choose"),
        pytest.param("maxvit_t", ("blocks.0",), "maxvit_t cannot take an image of 96 x 96", marks=pytest.mark.slow),
    ],
)
def test_layers_that_do_not_exist_or_give_no_maps_are_refused_in_one_sentence(
    name: str, layers: tuple[str, ...], sentence: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(PadimEdgeError, match=sentence) as caught:
        backbones.load_trunk(name, layers=layers)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("drawn")
@pytest.mark.parametrize(
    ("name", "layers"),
    [
        pytest.param("resnet34", "layer1,layer2,layer3", marks=pytest.mark.slow),
        ("mobilenet_v2", "features.3,features.6,features.13"),
        ("densenet121", "features.denseblock1,features.denseblock2,features.denseblock3"),
        ("regnet_y_400mf", "trunk_output.block1,trunk_output.block2,trunk_output.block3"),
        pytest.param("convnext_tiny", "features.1,features.3,features.5", marks=pytest.mark.slow),
        ("inception_v3", "Conv2d_4a_3x3,Mixed_5d,Mixed_6e"),
        pytest.param("shufflenet_v2_x0_5", "maxpool,stage2,stage3", marks=pytest.mark.slow),
    ],
)
def test_another_network_of_torchvision_needs_layers_and_is_told_which_ones(name: str, layers: str) -> None:
    with pytest.raises(PadimEdgeError, match=f"such as --layers {layers} ") as caught:
        backbones.load_trunk(name)
    assert "\n" not in str(caught.value)
    trunk = backbones.load_trunk(name, layers=layers.split(","))
    assert ",".join(trunk.layers) == layers
    assert trunk.description.licence.startswith("BSD-3")
    assert backbones.default_dims(name) == 100


def test_a_network_for_one_size_of_images_has_no_layers_to_offer() -> None:
    with pytest.raises(PadimEdgeError, match=r"say which layers to use with --layers$"):
        backbones.load_trunk("vit_b_32")


def test_weights_bring_their_own_normalisation_and_licence() -> None:
    """Torchvision states 0.5 for this network. For a file, nothing is known."""
    half, usual = (0.5, 0.5, 0.5), (0.485, 0.456, 0.406)
    assert backbones.row_of("efficientnet_v2_l", ("features.2",), "auto").mean == half
    assert backbones.row_of("efficientnet_v2_l", ("features.2",), "auto").std == half
    assert backbones.row_of("efficientnet_v2_l", ("features.2",), "w.pth").mean == usual
    assert backbones.row_of("resnet34", ("layer1",), "auto").mean == usual
    assert "SWAG" in backbones.row_of("regnet_y_128gf", ("stem",), "auto").licence
    assert (
        backbones.row_of("mobilenet_v2", ("stem",), "auto").torchvision_weights == "MobileNet_V2_Weights.IMAGENET1K_V1"
    )


def test_a_network_that_normalises_by_itself_does_so() -> None:
    """GoogLeNet's weights want pixels in [-1, 1]; torchvision's builder sets that only together with the weights."""
    with torch.device("meta"):
        assert backbones.row_of("googlenet", ("conv1",), "w.pth").build().transform_input
        assert backbones.row_of("inception_v3", ("Mixed_5d",), "w.pth").build().transform_input


def test_densenets_old_names_are_known(tmp_path: Path) -> None:
    state = models.densenet121(weights=None).state_dict()
    old = {re.sub(r"(denselayer\d+\.(?:norm|conv))(?=[12]\.)", r"\1.", key): value for key, value in state.items()}
    assert old.keys() != state.keys()
    save_file(old, path := tmp_path / "densenet121.safetensors")
    trunk = backbones.load_trunk("densenet121", str(path), ("features.denseblock1",))
    loaded = trunk.module.state_dict()
    assert all(torch.equal(loaded[key], state[key]) for key in loaded if "num_batches" not in key)


def test_the_command_takes_layers(tmp_path: Path) -> None:
    model, images = tmp_path / "m.onnx", tmp_path / "good"
    images.mkdir()
    for i, image in enumerate(small_models.weave(4)):
        image.save(images / f"{i}.png")
    how = ("--data", images, "--size", "97x131", "--output", model)
    run("export", "--fast", "--backbone", "builtin", "--layers", "layer1, layer1.0.conv1", *how)
    about = read_verified(model)
    assert about.method.layers == ("layer1", "layer1.0.conv1")
    total = sum(about.backbone.channels)
    assert about.method.dims == total < 100, "no more than there are, unless asked for"
    assert about.reduction.stage_dims == about.backbone.channels
    assert about.grid == (25, 33)
    for layers, sentence in (("layer9", "builtin has no layer 'layer9'"), (",", "no layer of builtin is named")):
        assert sentence in run("export", "--fast", "--backbone", "builtin", "--layers", layers, *how, code=1)[1]
    more = ("--backbone", "builtin", "--layers", "layer1,layer1.0.conv1", "--dims", total + 1)
    assert f"--dims is {total + 1}, expected 1 to {total}" in run("export", *more, *how, code=1)[1]
    assert "such as --layers layer1,layer2,layer3" in run("export", "--backbone", "resnet34", *how, code=1)[1]


def test_the_commands_help_names_every_row() -> None:
    told = run("export", "--help")[0].replace("\n", "")
    for name in backbones.BACKBONES:
        assert name in re.sub(r"[\s│|]", "", told)
