"""`python -m benchmarks.decisions` and `python -m benchmarks.repeats`: fits on subsets are those of an export."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import decisions, repeats, report
from benchmarks.deciding.copies import deep, flickered, jpeg, noisy, write_deep
from benchmarks.deciding.materials import Measured, Row
from benchmarks.deciding.subsets import Embedded, Subset, embed
from benchmarks.deciding.table import TABLE
from padim_edge.datasets import from_images
from padim_edge.fitted import fit
from padim_edge.presets import preset
from padim_edge.sample import draw_good
from padim_edge_model.repeats import groups_of
from padim_edge_runtime import image_files

METHOD = preset("edge", backbone="builtin", size=64)
COUNT = 12

CLOSE = 1e-4
"""The model computes in float32, the subset's distances come from the form."""


@pytest.fixture(scope="module")
def embedded() -> Embedded:
    return embed(from_images([draw_good("bottle", number) for number in range(COUNT)]), METHOD, "auto")


@pytest.mark.parametrize(
    "numbers", [tuple(range(COUNT)), (0, 3, 4, 5, 7, 9, 10), (0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 7)]
)
def test_a_subset_has_the_scores_and_the_threshold_of_an_export(
    embedded: Embedded, numbers: tuple[int, ...], tmp_path: Path
) -> None:
    """Also where images come twice, so that groups are left out."""
    fitted = fit([draw_good("bottle", number) for number in numbers], METHOD, progress=False)
    model = fitted.export(tmp_path / "m.onnx", false_alarm_rate=0.1, progress=False)
    subset = Subset(embedded, numbers)
    assert subset.held.scores == pytest.approx(np.array(model.scores), rel=CLOSE)
    assert subset.threshold(0.1) == pytest.approx(model.threshold, rel=CLOSE)
    assert len(np.unique(groups_of(subset.kept.evidence))) == model.metadata.independent == len(set(numbers))
    assert subset.kept.evidence.fingerprints.tolist() == model.kept.evidence.fingerprints.tolist()


def test_plain_scores_keep_repeats_in_the_fit(embedded: Embedded) -> None:
    twice = Subset(embedded, np.repeat(np.arange(COUNT), 2))
    assert (twice.plain < 0.9 * twice.held.alone).all()


def test_all_rows_have_a_name_and_words() -> None:
    assert tuple(TABLE) == decisions.ROWS
    assert len({row.words for row in TABLE.values()}) == len(TABLE)


def _row(value: float) -> Row:
    return Row("a row", lambda _: Measured([{"value": value}], [report.Target("a row", 1, value, at_most=True)]))


def test_a_row_that_is_measured_again_replaces_the_old_one_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "decisions.json"
    for names, value in (("repeats,halves", 0.5), ("halves", 2.0)):
        monkeypatch.setattr("benchmarks.deciding.table.TABLE", {name: _row(value) for name in decisions.ROWS})
        monkeypatch.setattr(sys, "argv", ["", "--rows", names, "--shared", str(tmp_path), "--json", str(path)])
        decisions.main()
    written = json.loads(path.read_text())
    assert [(row["row"], row["figures"]) for row in written["results"]] == [
        ("repeats", [{"value": 0.5}]),
        ("halves", [{"value": 2.0}]),
    ]
    assert [row["command"] for row in written["results"]] == [
        "python -m benchmarks.decisions --rows repeats,halves",
        "python -m benchmarks.decisions --rows halves",
    ]
    assert [target["reached"] for target in written["targets"]] == [True, False]
    assert "not reached  a row: 2.000, wanted at most 1.000" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "sentence"),
    [(["--rows", "twise"], "there is no row 'twise'"), (["--shared", "nowhere"], "there is no folder nowhere")],
)
def test_wrong_options_are_refused(
    options: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["", *options])
    with pytest.raises(SystemExit):
        decisions.main()
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("shape", [(40, 30), (40, 30, 3)])
def test_deep_files_are_read_as_they_were_written(shape: tuple[int, ...], tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    values = deep(pixels, 12, 0)
    assert values.max() > 4000
    write_deep(tmp_path / "a.png", values)
    found = np.asarray(image_files.read(tmp_path / "a.png", levels=(0, 4095)).image.convert("RGB"))
    expected = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_changed_copies_differ_as_much_as_they_should() -> None:
    pixels = draw_good("bottle", 0)
    noise = noisy(pixels, 5, 0).astype(int) - pixels
    inside = (pixels > 30) & (pixels < 225)
    assert noise[inside].std() == pytest.approx(5, rel=0.05)
    assert flickered(pixels, 1.02).mean() == pytest.approx(1.02 * pixels.mean(), rel=0.01)
    assert 0 < np.abs(jpeg(pixels, 80).astype(int) - pixels).mean() < 5


def test_repeats_are_nearer_than_different_images() -> None:
    items = from_images([draw_good("bottle", number) for number in range(6)]).good
    rows = {row.pairs: row for row in repeats.measure("bottle", items, METHOD.preprocessing)}
    assert rows["nearest different image"].within == 0
    assert all(row.within == 1 for name, row in rows.items() if name in ("same bytes", "noise of sigma 2"))
    assert rows["same bytes"].largest == 0 < rows["noise of sigma 2"].smallest
