"""Training of the built-in backbone on a few tiny images: it learns, can be resumed, and writes its weights."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import small_models
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from padim_edge_export import backbones
from padim_edge_export.builtin import BuiltinBackbone, fold

sys.path.append(str(Path(__file__).parents[2]))

from tools.builtin import card, train, untrained

PLAN = train.Plan(steps=6, batch=4, size=32, rate=2e-3, seed=3, stem=8, widths=(8, 8, 16), blocks=(1, 1, 2))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a ResNet-18 with random weights."""
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    save_file(
        {key: value.contiguous() for key, value in small_models.trunk_of("resnet18").module.state_dict().items()}, path
    )
    return path


def test_folding_changes_nothing() -> None:
    torch.manual_seed(0)
    network = BuiltinBackbone(8, (8, 8, 16), (1, 2, 1), normalised=True)
    network.train()(torch.randn(4, 3, 32, 32))  # so that the statistics are not 0 and 1
    plain = fold(network.eval())
    x = torch.randn(2, 3, 48, 64)
    with torch.inference_mode():
        for found, expected in zip(plain(x), network(x), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in plain.modules())


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    whole = train.train(PLAN, teacher, tmp_path / "whole", "cpu")
    monkeypatch.setattr(train, "CHECKPOINT", 3)
    seen = 0

    class StoppedError(Exception):
        pass

    def stopping(*arguments: object) -> list[torch.Tensor]:
        nonlocal seen
        seen += 1
        if seen == 5:
            raise StoppedError
        return losses(*arguments)

    losses = train._losses
    with monkeypatch.context() as patch:
        patch.setattr(train, "_losses", stopping)
        with pytest.raises(StoppedError):
            train.train(PLAN, teacher, tmp_path / "parts", "cpu")
    again = train.train(PLAN, teacher, tmp_path / "parts", "cpu")
    for key, value in whole.state_dict().items():
        torch.testing.assert_close(again.state_dict()[key], value, rtol=1e-3, atol=1e-3)
    with pytest.raises(SystemExit, match="another plan"):
        train.train(dataclasses.replace(PLAN, seed=4), teacher, tmp_path / "parts", "cpu")


@pytest.mark.slow
def test_it_learns_what_the_teacher_sees(teacher: Path, tmp_path: Path) -> None:
    plan = dataclasses.replace(PLAN, steps=60, batch=8)
    train.train(plan, teacher, tmp_path, "cpu")
    history = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["history"]
    assert history[0][0] == 0
    assert sum(history[-1][1:]) < 0.9 * sum(history[0][1:])


def test_the_taps_give_the_teachers_own_units() -> None:
    torch.manual_seed(0)
    network = BuiltinBackbone(8, (8, 8, 16), (1, 1, 1)).eval()
    x = torch.randn(2, 3, 32, 32)
    targets = [
        train.Target(torch.randn(count, 1, 1), torch.rand(count, 1, 1) + 0.5, torch.zeros(count, count, 1, 1))
        for count in BuiltinBackbone.TEACHER
    ]
    with torch.inference_mode():
        before = [each.clone() for each in network(x)]
        train._in_teachers_units(network, targets)
        for unit, found, target in zip(before, network(x), targets, strict=True):
            torch.testing.assert_close((found - target.mean) * target.scale, unit, rtol=1e-4, atol=1e-4)


def test_the_file_is_a_backbone_and_says_how_it_was_made(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = BuiltinBackbone()
    path = tmp_path / "builtin.safetensors"
    card.write(network, path, dataclasses.asdict(PLAN))
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    with safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["plan"])["steps"] == PLAN.steps
    trunk = backbones.load_trunk("builtin", str(path))
    with torch.inference_mode():
        found = trunk.module(torch.ones(1, 3, 64, 64))
        for each, expected in zip(found.values(), network(torch.ones(1, 3, 64, 64)), strict=True):
            torch.testing.assert_close(each, expected, rtol=0.02, atol=0.02)


def test_the_untrained_weights_have_features_of_unit_size(tmp_path: Path) -> None:
    untrained.main(tmp_path / "untrained.safetensors")
    module = backbones.load_trunk("builtin", str(tmp_path / "untrained.safetensors")).module
    images = untrained.noise_images(4, 64)
    with torch.inference_mode():
        for feature in module(images).values():
            assert 0.3 < float(feature.std()) < 3
    assert np.isfinite(float(feature.std()))
