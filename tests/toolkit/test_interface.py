"""The Python interface, as a user types it."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from counted import count_exports
from safetensors.torch import load_file, save_file
from small_models import rounded_to_nearest, weave

import padim_edge
from padim_edge import network
from padim_edge_artifact import read_verified
from padim_edge_artifact.method import Precision
from padim_edge_export import embedding
from padim_edge_runtime import Detector

COUNT = 24
METHOD = padim_edge.preset("edge", backbone="builtin", dims=20, size=64, seed=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "good"
    path.mkdir()
    for i, image in enumerate(weave(COUNT)):
        image.save(path / f"{i:03}.png")
    return path


@pytest.fixture(scope="module")
def fitted(folder: Path) -> padim_edge.Fitted:
    return padim_edge.fit(folder, METHOD, progress=False)


def same_bytes(a: padim_edge.Fitted, b: padim_edge.Fitted) -> bool:
    return a.kept.statistics.digest() == b.kept.statistics.digest() and a.kept.same == b.kept.same


def test_a_folder_is_fitted_and_says_what_it_is(fitted: padim_edge.Fitted) -> None:
    assert (fitted.images, fitted.unreadable, fitted.method) == (COUNT, {}, METHOD)
    assert fitted.seconds > 0
    assert len(repr(fitted)) < 1000


def test_a_list_of_paths_and_a_generator_of_arrays_give_the_same_bits(fitted: padim_edge.Fitted, folder: Path) -> None:
    paths = sorted(folder.iterdir())
    assert same_bytes(padim_edge.fit(paths, METHOD, progress=False), fitted)
    assert same_bytes(padim_edge.fit(map(str, paths), METHOD, progress=False), fitted)
    assert same_bytes(padim_edge.fit((np.asarray(each) for each in weave(COUNT)), METHOD, progress=False), fitted)


def test_no_images_mean_a_class_of_the_built_in_sample_and_the_built_in_backbone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("padim_edge.fitted.fit_dataset", lambda dataset, method, **_: (dataset, method))
    dataset, method = padim_edge.fit(None, class_name="weave")  # type: ignore[misc]
    assert (dataset.class_name, len(dataset.good), method.backbone) == ("weave", 120, "builtin")
    with pytest.raises(padim_edge.PadimEdgeError, match="the built-in sample has no class 'x'"):
        padim_edge.fit(None, class_name="x")
    with pytest.raises(padim_edge.PadimEdgeError, match="class_name in Python"):
        padim_edge.fit(None)


def test_a_preset_is_named_or_made(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("padim_edge.fitted.fit_dataset", lambda _, method, **__: method)
    assert padim_edge.fit(folder) == padim_edge.preset("edge")
    assert padim_edge.fit(folder, preset="accurate") == padim_edge.preset("accurate")
    assert padim_edge.fit(folder, METHOD) == METHOD


def test_export_gives_a_model_that_judges(fitted: padim_edge.Fitted, folder: Path, tmp_path: Path) -> None:
    model = fitted.export(tmp_path / "good.onnx", false_alarm_rate=0.1, progress=False)
    assert model.path == tmp_path / "good.onnx"
    assert model.bytes == sum(path.stat().st_size for path in tmp_path.iterdir())
    assert model.threshold == model.metadata.threshold == read_verified(model.path).threshold
    assert model.metadata == read_verified(model.path)
    assert model.metadata.method == METHOD
    assert (model.metadata.class_name, model.metadata.false_alarm_rate) == ("good", 0.1)
    assert len(model.scores) == COUNT
    assert str(model).startswith(f"{model.path}: builtin, preset edge, fp32 for cpu, {COUNT} good images, threshold ")
    assert str(model) in repr(model)
    assert model.to_json().keys() == {
        "model",
        "bytes",
        "images",
        "independent",
        "drift",
        "suspects",
        "threshold",
        "seconds",
    }
    assert any(f"{COUNT} good images: usable" in sentence for sentence in model.warnings)
    inspection = Detector.load(model.path, "cpu").inspect(folder / "000.png")
    assert inspection.verdict == "good"


def test_a_path_may_be_text(fitted: padim_edge.Fitted, tmp_path: Path) -> None:
    assert fitted.export(str(tmp_path / "a.onnx"), progress=False).path == tmp_path / "a.onnx"
    fitted.save(str(tmp_path / "a.npz"))
    assert padim_edge.load_fitted(str(tmp_path / "a.npz"), [str(tmp_path / "a.png")]).images == COUNT


def test_another_precision_fits_again_and_is_that_of_a_fit_in_it(
    fitted: padim_edge.Fitted, folder: Path, tmp_path: Path
) -> None:
    """Bit for bit: the int8 model of a float32 fit, and that of an int8 fit."""
    with rounded_to_nearest():
        first = fitted.export(tmp_path / "fp32.onnx", progress=False)
        late = fitted.export(tmp_path / "late.onnx", precision="int8", progress=False)
        method = dataclasses.replace(METHOD, precision=Precision("int8"))
        early = padim_edge.fit(folder, method, progress=False).export(tmp_path / "early.onnx", progress=False)
    assert (tmp_path / "late.onnx").read_bytes() == (tmp_path / "early.onnx").read_bytes()
    assert late.metadata == early.metadata
    assert late.metadata.precision == Precision("int8")
    assert first.metadata.precision == fitted.method.precision == Precision()


@pytest.mark.parametrize("form", [Precision(rank=5), Precision(diagonal=True)], ids=str)
def test_another_form_of_the_gaussians_needs_no_other_fit(
    fitted: padim_edge.Fitted, form: Precision, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("padim_edge.fitted.fit_dataset", None)
    model = fitted.export(tmp_path / "m.onnx", precision=form, progress=False)
    assert model.metadata.precision == form
    assert model.metadata.statistics == fitted.kept.statistics.digest()


def test_fitted_statistics_come_back_from_their_file(fitted: padim_edge.Fitted, folder: Path, tmp_path: Path) -> None:
    fitted.save(tmp_path / "good.npz")
    found = padim_edge.load_fitted(tmp_path / "good.npz", folder)
    assert same_bytes(found, fitted)
    assert found.method == METHOD
    fitted.export(tmp_path / "a.onnx", progress=False)
    found.export(tmp_path / "b.onnx", progress=False)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    with pytest.raises(padim_edge.ArtifactError, match="does not exist"):
        padim_edge.load_fitted(tmp_path / "none.npz", folder)
    with pytest.raises(padim_edge.PadimEdgeError, match="there is no folder"):
        padim_edge.load_fitted(tmp_path / "good.npz", tmp_path / "none")


def test_images_that_cannot_be_read_are_left_out_and_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "torn.png").write_bytes((folder / "000.png").read_bytes()[:200])
    some = [*sorted(folder.iterdir())[:4], tmp_path / "torn.png"]
    found = padim_edge.fit(some, METHOD, progress=False)
    assert found.images == 4
    ((name, sentence),) = found.unreadable.items()
    assert "torn.png" in name
    assert "torn.png" in sentence
    assert found.export(tmp_path / "m.onnx", progress=False).unreadable == (sentence,)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda _: padim_edge.fit("nowhere"), "there is no folder nowhere"),
        (lambda _: padim_edge.fit([], METHOD), "there are no images"),
        (lambda _: padim_edge.fit(np.zeros((8, 8, 3), np.uint8), METHOD), "put a single image into a list"),
        (lambda _: padim_edge.fit(["a.png"], METHOD, progress=False), "0 readable good images"),
        (lambda folder: padim_edge.fit(folder, "best"), "there is no preset 'best'"),
        (lambda folder: padim_edge.fit(folder, METHOD, weights="none.pth"), "there is no weights file none.pth"),
        (lambda folder: padim_edge.fit(folder, METHOD, device="tpu", progress=False), "there is no device 'tpu'"),
    ],
)
def test_a_wrong_argument_is_one_sentence(call: object, sentence: str, folder: Path) -> None:
    with pytest.raises(padim_edge.PadimEdgeError, match=sentence) as caught:
        call(folder)  # type: ignore[operator]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"precision": "fp8"}, "there is no precision 'fp8'"),
        ({"precision": Precision(rank=20)}, "the rank is 20, expected 1 to 19"),
        ({"false_alarm_rate": 1.5}, "expected a share between 0 and 1"),
        ({"roi": "none.png"}, "none.png"),
    ],
)
def test_a_wrong_option_of_an_export_is_one_sentence_and_writes_nothing(
    fitted: padim_edge.Fitted, options: dict[str, object], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(padim_edge.PadimEdgeError, match=sentence):
        fitted.export(tmp_path / "m.onnx", progress=False, **options)  # type: ignore[arg-type]
    assert not any(tmp_path.iterdir())


def test_a_method_is_exported_by_torch_once(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Ridge, sigma, precision and camera do not reach torch."""
    calls = count_exports(monkeypatch)
    for method in (
        METHOD,
        dataclasses.replace(METHOD, ridge=0.5, sigma=1.0),
        dataclasses.replace(METHOD, precision=Precision("fp16")),
        padim_edge.preset("edge", backbone="builtin", dims=20, size=64, seed=3, frame="100x90"),
    ):
        fitted = padim_edge.fit(sorted(folder.iterdir())[:3], method, progress=False)
        fitted.export(tmp_path / "m.onnx", progress=False)
    assert len(calls) == 1


def test_weights_that_were_written_anew_are_read_again(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    weights = load_file(Path(embedding.__file__).with_name("builtin.safetensors"))
    save_file(weights, path)
    first = network.exported(METHOD, str(path))
    assert network.exported(METHOD, str(path)) is first
    save_file({name: 2 * value if value.is_floating_point() else value for name, value in weights.items()}, path)
    os.utime(path, ns=(1, 1))
    again = network.exported(METHOD, str(path))
    assert again.description.weights_digest != first.description.weights_digest


def test_every_name_is_there_and_is_documented() -> None:
    assert dir(padim_edge) == sorted(padim_edge.__all__)
    for name in padim_edge.__all__:
        assert getattr(padim_edge, name) is not None
        if name != "__version__":
            assert getattr(padim_edge, name).__doc__, name
    assert set(padim_edge._HOMES) < set(padim_edge.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'train'"):
        padim_edge.train  # noqa: B018


def test_importing_it_imports_neither_torch_nor_numpy() -> None:
    heavy = ("torch", "numpy", "onnx", "onnxruntime", "PIL", "rich", "typer", "scipy", "sklearn", "matplotlib")
    code = f"import sys, padim_edge; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))


@pytest.mark.usefixtures("notebook")
def test_a_notebook_shows_progress_in_lines(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    padim_edge.fit(folder, METHOD).export(tmp_path / "m.onnx")
    out, err = capsys.readouterr()
    assert out == ""
    lines = [line.split("\r")[-1] for line in err.split("\n")]
    assert f"fitting {COUNT}/{COUNT}" in lines
    assert f"calibrating {COUNT}/{COUNT}" in lines


@pytest.mark.usefixtures("notebook")
def test_progress_may_be_none_or_ones_own(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fitted = padim_edge.fit(folder, METHOD, progress=False)
    fitted.export(tmp_path / "m.onnx", progress=False)
    assert capsys.readouterr() == ("", "")
    told: list[str] = []
    stages: list[str] = []

    @contextmanager
    def report(stage: str, _: int | None) -> Iterator[Callable[[int], object]]:
        stages.append(stage)
        yield lambda _: None

    own = padim_edge.Feedback(report, told.append)
    padim_edge.fit(folder, METHOD, progress=own).export(tmp_path / "m.onnx", progress=own)
    assert capsys.readouterr() == ("", "")
    assert stages == [
        "exporting the backbone",
        "preparing fp32",
        "fitting",
        "whitening",
        "calibrating",
        "leaving out neighbours",
    ]
    assert [sentence[:12] for sentence in told] == ["needs about "]
