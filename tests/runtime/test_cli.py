"""The command as a person or a script uses it: results on stdout, one sentence for each trouble on stderr."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import drawn_images
import golden as files
import pytest
from PIL import Image
from typer.testing import CliRunner

from padim_edge_artifact import read_metadata
from padim_edge_runtime.cli import app, program

KEYS = ["path", "score", "p_value", "threshold", "anomalous", "regions", "width", "height", "milliseconds"]
"""Keys of one object of `infer --json`, in this order; scripts in the field rely on them. More may follow."""

Run = Callable[..., tuple[str, str]]


@pytest.fixture
def run(device: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """(stdout, stderr) of `padim-edge ARGUMENTS`, which must end with `code` and without a traceback."""
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)

    def invoke(command: str, *arguments: object, code: int = 0) -> tuple[str, str]:
        on = ["--device", device] if command == "infer" and "--device" not in arguments else []
        result = CliRunner().invoke(app, [command, *map(str, arguments), *on])
        assert result.exit_code == code, result.output
        assert result.exception is None or isinstance(result.exception, SystemExit), result.output
        assert "Traceback" not in result.output, result.output
        return result.stdout, result.stderr

    return invoke


def refused(outcome: tuple[str, str]) -> str:
    """The one sentence on stderr; stdout is empty."""
    stdout, stderr = outcome
    assert stdout == ""
    (line,) = stderr.splitlines()
    assert line.startswith("padim-edge: ")
    assert len(line) < 700
    return line


def objects(stdout: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stdout.splitlines()]


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """Two good parts and a defective one, in a tree."""
    folder = tmp_path / "parts"
    (folder / "line 1").mkdir(parents=True)
    drawn_images.good(60, (90, 120)).save(folder / "a.png")
    drawn_images.good(61).save(folder / "line 1" / "b.JPG")
    drawn_images.defective(62, (100, 140))[0].save(folder / "line 1" / "c.bmp")
    return folder


def test_json_lines_have_the_promised_keys_and_types(run: Run, golden: Path, parts: Path) -> None:
    stdout, stderr = run("infer", golden, parts, "--json")
    found = objects(stdout)
    assert [Path(each["path"]) for each in found] == [parts / "a.png", parts / "line 1/b.JPG", parts / "line 1/c.bmp"]
    threshold = read_metadata(golden).threshold
    for each in found:
        assert list(each)[: len(KEYS)] == KEYS
        assert each["threshold"] == threshold
        assert each["anomalous"] == (each["score"] > threshold) == bool(each["regions"])
        assert 0 < each["p_value"] <= 1
        assert each["milliseconds"] > 0
        assert each["notes"] == []
    assert [each["anomalous"] for each in found] == [False, False, True]
    assert [each["verdict"] for each in found] == ["good", "good", "anomalous"]
    assert [(each["width"], each["height"]) for each in found] == [(120, 90), (96, 96), (140, 100)]
    (line,) = stderr.splitlines()
    assert "3 images: 1 anomalous" in line
    assert "2 good, 0 unreadable" in line


@pytest.mark.parametrize("model", [files.WHOLE, files.CROPPED], ids=["whole frame", "cropped"])
def test_regions_stand_where_the_defect_is_in_the_image_as_given(run: Run, model: Path, tmp_path: Path) -> None:
    image, (x, y, w, h) = drawn_images.defective(62, (200, 280))
    image.save(tmp_path / "c.png")
    (found,) = objects(run("infer", model, tmp_path / "c.png", "--json")[0])
    region = found["regions"][0]
    assert region.keys() >= {"box", "area", "peak", "score"}
    assert region["score"] == found["score"]
    left, top, width, height = region["box"]
    assert left < x + w
    assert top < y + h
    assert x < left + width
    assert y < top + height
    assert left >= 0
    assert top >= 0
    assert left + width <= 280
    assert top + height <= 200


def test_plain_lines_say_the_decision_first(run: Run, golden: Path, parts: Path) -> None:
    stdout, _ = run("infer", golden, parts)
    assert [line.split()[0] for line in stdout.splitlines()] == ["good", "good", "ANOMALOUS"]
    assert stdout.splitlines()[2].endswith("c.bmp")


def test_files_and_folders_may_be_mixed(run: Run, golden: Path, parts: Path) -> None:
    found = objects(run("infer", golden, parts / "a.png", parts / "line 1", parts / "a.png", "--json")[0])
    assert [Path(each["path"]).name for each in found] == ["a.png", "b.JPG", "c.bmp", "a.png"]
    assert found[0]["score"] == found[3]["score"]


def test_the_same_images_give_the_same_lines_but_for_the_time(run: Run, golden: Path, parts: Path) -> None:
    first, second = (objects(run("infer", golden, parts, "--json")[0]) for _ in range(2))
    assert [{**each, "milliseconds": 0} for each in first] == [{**each, "milliseconds": 0} for each in second]


def test_a_threshold_may_be_given(run: Run, golden: Path, parts: Path) -> None:
    for threshold, expected in ((0, True), (1e9, False)):
        found = objects(run("infer", golden, parts, "--json", "--threshold", threshold)[0])
        assert {each["anomalous"] for each in found} == {expected}
        assert {each["threshold"] for each in found} == {threshold}


@pytest.mark.parametrize("threshold", ["nan", "inf", "-inf", "-1"])
def test_a_threshold_that_is_no_distance_is_refused(run: Run, golden: Path, parts: Path, threshold: str) -> None:
    sentence = refused(run("infer", golden, parts, "--json", f"--threshold={threshold}", code=1))
    assert f"the threshold is {float(threshold)}, expected a distance of 0 or more" in sentence


def test_one_unreadable_image_does_not_stop_the_others(run: Run, golden: Path, parts: Path) -> None:
    """The bad one gets a line of its own, in its place, and the exit code tells."""
    (parts / "b broken.png").write_bytes((parts / "a.png").read_bytes()[:200])
    stdout, stderr = run("infer", golden, parts, "--json", code=1)
    found = objects(stdout)
    assert [Path(each["path"]).name for each in found] == ["a.png", "b broken.png", "b.JPG", "c.bmp"]
    assert list(found[1]) == ["path", "error", "verdict"]
    assert found[1]["verdict"] == "unreadable"
    assert "b broken.png cannot be decoded" in found[1]["error"]
    assert "1 unreadable" in stderr


def test_an_unreadable_image_is_told_on_stderr_in_plain_mode(run: Run, golden: Path, parts: Path) -> None:
    (parts / "empty.png").write_bytes(b"")
    stdout, stderr = run("infer", golden, parts, code=1)
    assert len(stdout.splitlines()) == 3
    assert "empty" not in stdout
    complaint, summary = stderr.splitlines()
    assert "empty.png is empty (0 bytes)" in complaint
    assert "4 images" in summary


def test_only_unreadable_images(run: Run, golden: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    stdout, stderr = run("infer", golden, tmp_path, "--csv", tmp_path / "t.csv", "--heatmaps", tmp_path / "h", code=1)
    assert stdout == ""
    assert "1 images: 0 anomalous, 0 not comparable, 0 good, 1 unreadable" in stderr.splitlines()[-1]
    assert list((tmp_path / "h").iterdir()) == []


def test_what_was_changed_in_an_image_is_told(run: Run, golden: Path, tmp_path: Path) -> None:
    drawn_images.good(1).convert("RGBA").save(tmp_path / "a.png")
    stdout, stderr = run("infer", golden, tmp_path / "a.png", "--json")
    assert objects(stdout)[0]["notes"] == ["transparency was dropped"]
    assert "a.png: transparency was dropped" in stderr


def test_the_table_holds_what_the_lines_hold(run: Run, golden: Path, parts: Path, tmp_path: Path) -> None:
    (parts / "z.png").write_bytes(b"")
    stdout, _ = run("infer", golden, parts, "--json", "--csv", tmp_path / "table.csv", code=1)
    with (tmp_path / "table.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row, line in zip(rows, objects(stdout), strict=True):
        assert row["path"] == line["path"]
        if "error" in line:
            assert row["error"] == line["error"]
            assert row["score"] == row["anomalous"] == row["regions"] == ""
            continue
        assert row["error"] == ""
        for key in ("score", "p_value", "threshold", "width", "height"):
            assert float(row[key]) == line[key]
        assert row["anomalous"] == str(line["anomalous"])
        assert int(row["regions"]) == len(line["regions"])


def test_a_table_is_replaced_whole_or_not_at_all(
    run: Run, golden: Path, parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> Iterator[None]:
        raise KeyboardInterrupt
        yield

    table = tmp_path / "table.csv"
    table.write_text("old")
    monkeypatch.setattr("padim_edge_runtime.pipeline.inspect_many", interrupted)
    assert "interrupted" in refused(run("infer", golden, parts, "--csv", table, code=1))
    assert table.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parts", "table.csv"]


@pytest.mark.parametrize("where", ["missing/table.csv", "parts/a.png/table.csv", ".", "/", ""])
def test_a_table_that_cannot_be_written_is_refused(run: Run, golden: Path, parts: Path, where: str) -> None:
    target = parts.parent / where if where.strip("./") else where
    refused(run("infer", golden, parts, "--csv", target, code=1))


def test_heatmaps_keep_the_tree_and_the_size(run: Run, golden: Path, parts: Path, tmp_path: Path) -> None:
    run("infer", golden, parts, "--heatmaps", tmp_path / "new" / "heat")
    found = {
        path.relative_to(tmp_path / "new/heat").as_posix(): size(path) for path in (tmp_path / "new").rglob("*.png")
    }
    assert found == {"a.png": (120, 90), "line 1/b.png": (96, 96), "line 1/c.png": (140, 100)}


def test_heatmaps_never_overwrite_each_other(run: Run, golden: Path, tmp_path: Path) -> None:
    """Not for the same name in two folders, nor for names that differ only in their ending, nor for the same twice."""
    one, two = tmp_path / "one" / "shift", tmp_path / "two" / "shift"
    names = (one / "a.png", one / "a.bmp", one / "a.tif", one / "a-2.png", two / "a.png")
    for i, path in enumerate(names):
        path.parent.mkdir(parents=True, exist_ok=True)
        drawn_images.good(i, (40 + i, 50)).save(path)
    run("infer", golden, one, two, two / "a.png", "--heatmaps", tmp_path / "heat")
    written = [path for path in (tmp_path / "heat").rglob("*") if path.is_file()]
    assert len(written) == 6
    heights = sorted(size(path)[1] for path in written)
    assert heights == [40, 41, 42, 43, 44, 44]


def test_heatmaps_do_not_change_what_is_said(run: Run, golden: Path, parts: Path, tmp_path: Path) -> None:
    plain = objects(run("infer", golden, parts, "--json")[0])
    drawn = objects(run("infer", golden, parts, "--json", "--heatmaps", tmp_path / "heat")[0])
    assert [{**each, "milliseconds": 0} for each in plain] == [{**each, "milliseconds": 0} for each in drawn]


def test_maps_keep_the_tree_and_the_size_and_stand_beside_heatmaps(
    run: Run, golden: Path, parts: Path, tmp_path: Path
) -> None:
    run("infer", golden, parts, "--maps", tmp_path / "out", "--heatmaps", tmp_path / "out")
    maps = {path.relative_to(tmp_path / "out").as_posix(): size(path) for path in (tmp_path / "out").rglob("*.tif")}
    assert maps == {"a.tif": (120, 90), "line 1/b.tif": (96, 96), "line 1/c.tif": (140, 100)}
    assert len(list((tmp_path / "out").rglob("*.png"))) == 3


def test_heatmaps_that_cannot_be_written_are_refused(run: Run, golden: Path, parts: Path) -> None:
    assert "cannot be made" in refused(run("infer", golden, parts, "--heatmaps", parts / "a.png", code=1))


@pytest.mark.parametrize(
    ("model", "image", "sentence"),
    [
        ("missing.onnx", "a.png", "missing.onnx does not exist"),
        ("a.png", "a.png", "a.png is not a whole ONNX file"),
        (".", "a.png", "is a folder"),
        ("a.png/model.onnx", "a.png", "is not a whole ONNX file (Not a directory)"),
        (None, "missing.png", "missing.png does not exist"),
        (None, "empty", "empty holds no images"),
    ],
)
def test_what_is_not_there_is_refused_in_one_sentence(
    run: Run, golden: Path, parts: Path, model: str | None, image: str, sentence: str
) -> None:
    (parts / "empty").mkdir()
    found = refused(run("infer", parts / model if model else golden, parts / image, code=1))
    assert sentence in found


def test_an_unknown_device_is_refused(run: Run, golden: Path, parts: Path) -> None:
    assert "there is no device 'tpu'" in refused(run("infer", golden, parts, "--device", "tpu", code=1))


def test_verbose_says_why_better_devices_were_passed_over(run: Run, golden: Path, parts: Path) -> None:
    _, quiet = run("infer", golden, parts, "--device", "auto")
    _, verbose = run("infer", golden, parts, "--device", "auto", "--verbose")
    ran_on = verbose.rsplit("; on ", 1)[1].split(",")[0]
    assert len(quiet.splitlines()) == 1
    placement = ran_on != "cpu"
    assert len(verbose.splitlines()) - 1 == ["tensorrt", "cuda", "cpu"].index(ran_on) + placement


@pytest.mark.parametrize(
    "arguments", [[], ["MODEL"], ["MODEL", "x.png", "--no-such"], ["MODEL", "x", "--threshold", "a"]]
)
def test_usage_errors_end_with_2(arguments: list[str], golden: Path) -> None:
    result = CliRunner().invoke(app, ["infer", *(str(golden) if a == "MODEL" else a for a in arguments)])
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


def test_inspect_prints_the_metadata(run: Run, golden_data: Path) -> None:
    metadata = read_metadata(golden_data)
    found = json.loads(run("inspect", golden_data, "--json")[0])
    assert found["class_name"] == metadata.class_name
    assert found["threshold"] == metadata.threshold
    assert found["digests"]["model"] == metadata.digests.model
    assert found["method"]["preprocessing"] == {
        "resize": [72, 80],
        "levels": None,
        "crop": [64, 48],
        "color": "rgb",
        "interpolation": "bilinear",
        "camera": None,
        "keep_aspect": False,
    }
    stdout, stderr = run("inspect", golden_data)
    for shown in ("disc", "toy stage1, stage2, stage3", "72x80", "64x48", "Apache-2.0", "golden_data.onnx.data"):
        assert shown in stdout
    assert "runs here on" in stdout
    assert stderr == ""


def test_inspect_refuses_another_format_version(run: Run, golden: Path, tmp_path: Path) -> None:
    future = files.rewrite(golden, tmp_path / "future.onnx", '{"format_version":7}')
    sentence = refused(run("inspect", future, code=1))
    assert "format version 7" in sentence
    assert "future.onnx" in sentence


@pytest.mark.parametrize("model", [files.WHOLE, files.CROPPED], ids=["one file", "data file"])
def test_verify_passes_for_a_whole_model(run: Run, model: Path, device: str) -> None:
    found = json.loads(run("verify", model, "--device", device, "--json")[0])
    assert found["model"] == str(model)
    assert found["devices"][device]["passed"] is True
    assert found["devices"][device]["difference"] <= found["devices"][device]["tolerance"]
    assert run("verify", model, "--device", device)[0].startswith("passed")


def test_verify_tries_every_device_and_says_which_are_not_here(run: Run, golden: Path) -> None:
    devices = json.loads(run("verify", golden, "--json")[0])["devices"]
    assert set(devices) == {"tensorrt", "cuda", "cpu"}
    assert devices["cpu"]["passed"] is True
    for outcome in devices.values():
        assert outcome["passed"] is True or (outcome["passed"] is None and outcome["reason"])


def test_verify_fails_for_a_damaged_model(run: Run, golden: Path, golden_data: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(files.flipped(golden.read_bytes(), 50_000, 4))
    assert "damaged.onnx is damaged" in refused(run("verify", damaged, code=1))
    alone = tmp_path / "golden_data.onnx"
    alone.write_bytes(golden_data.read_bytes())
    assert "golden_data.onnx.data is missing" in refused(run("verify", alone, "--json", code=1))


def test_verify_fails_where_the_machine_answers_differently(run: Run, golden: Path, tmp_path: Path) -> None:
    def change(metadata: dict[str, Any]) -> None:
        metadata["self_test"]["score"] *= 1.1

    other = files.rewrite(golden, tmp_path / "other.onnx", change)
    stdout, stderr = run("verify", other, "--device", "cpu", "--json", code=1)
    assert json.loads(stdout)["devices"]["cpu"]["passed"] is False
    assert len(stderr.splitlines()) == 1
    stdout, _ = run("verify", other, "--device", "cpu", code=1)
    assert stdout.startswith("FAILED")


def test_a_broken_toolkit_does_not_take_infer_down(
    run: Run, golden: Path, parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its commands are missing, and a line says so."""

    class Entry:
        value = "padim_edge.cli:register"

        def load(self) -> None:
            raise ImportError("libtorch.so is missing")

    told: list[str] = []
    monkeypatch.setattr(program, "entry_points", lambda **_: [Entry()])
    monkeypatch.setattr(program, "warn", told.append)
    program._add_commands_of_others()
    assert told == [
        "the commands of padim_edge.cli:register are missing (libtorch.so is missing); install padim-edge again"
    ]
    monkeypatch.undo()
    run("infer", golden, parts)
