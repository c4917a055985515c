"""Results of many images: lines, a table, one sentence; and none of them keeps what it has told."""

from __future__ import annotations

import csv
import dataclasses
import io
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import commands
import drawn_images
import pytest

from padim_edge_artifact import PadimEdgeError
from padim_edge_model.comparable import WARNINGS
from padim_edge_runtime import Detector, Inspection, Unreadable, pipeline
from padim_edge_runtime.profile import STAGES, Profile
from padim_edge_runtime.results import COLUMNS, Table, Tally, failing, line, remarks

TIMES = Profile(3, 1.5, "cpu", 2, 2, 1.0, dict.fromkeys(STAGES, 0.0), dict.fromkeys(STAGES, 0.0))


@pytest.fixture(scope="module")
def good(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Inspection:
    path = tmp_path_factory.mktemp("part") / "a.png"
    drawn_images.good(60).save(path)
    return Detector.load(golden, "cpu").inspect(path)


@pytest.fixture
def bad(good: Inspection) -> Inspection:
    return dataclasses.replace(good, score=99.0, p_value=1e-9, anomalous=True, path=Path("b.png"))


def test_a_line_says_the_verdict_first(good: Inspection, bad: Inspection) -> None:
    assert line(good).startswith("good            score ")
    assert line(good).endswith(f"  p {good.p_value:.3f}  {good.path}")
    assert line(bad) == "ANOMALOUS       score    99.00  p <.001  b.png"


@pytest.mark.parametrize("anomalous", [False, True])
def test_one_verdict_stands_in_every_output(good: Inspection, anomalous: bool) -> None:
    """Text, JSON, table, Python and the sum say the same, whatever the score says."""
    moved = dataclasses.replace(good, anomalous=anomalous, shift=(12, -3), warnings=("shift", "turned"))
    assert moved.verdict == "not comparable"
    assert "not comparable" in repr(moved)
    assert line(moved).startswith("NOT COMPARABLE  score ")
    assert (moved.to_json()["verdict"], moved.to_json()["anomalous"]) == ("not comparable", anomalous)
    file = io.StringIO(newline="")
    Table(file).add(moved)
    (row,) = csv.DictReader(io.StringIO(file.getvalue()))
    assert (row["verdict"], row["shift"], row["warnings"]) == ("not comparable", "12 -3", "shift turned")
    tally = Tally()
    tally.add(moved)
    assert f"1 images: 0 anomalous above {good.threshold:.2f}, 1 not comparable, 0 good" in tally.sentence(TIMES)


def test_every_reason_has_a_sentence(good: Inspection) -> None:
    told = remarks(dataclasses.replace(good, warnings=WARNINGS, shift=(12, -3)))
    assert len(set(told)) == len(WARNINGS)
    assert sum("moved by 12, -3 pixels" in sentence for sentence in told) == 1
    assert all("{" not in sentence for sentence in told)


def test_exit_codes_name_the_gravest_verdict_that_was_asked_for(good: Inspection, bad: Inspection) -> None:
    moved = dataclasses.replace(bad, warnings=("shift",))
    both = failing(["anomalous,not-comparable"])
    assert both == failing(["not comparable", "anomalous"]) == {"anomalous", "not comparable"}
    cases = (
        ((good,), both, 0),
        ((good, bad), both, 3),
        ((good, moved), both, 4),
        ((bad, moved), both, 4),
        ((bad, moved), failing(["anomalous"]), 3),
        ((good, moved), failing(["anomalous"]), 0),
        ((bad, moved), failing(()), 0),
        ((bad, moved, Unreadable(None, "it is empty")), both, 1),
    )
    for results, fail_on, expected in cases:
        tally = Tally()
        for each in results:
            tally.add(each)
        assert tally.exit_code(fail_on) == expected
    for word in ("good", "", "anomalous,", "moved"):
        with pytest.raises(PadimEdgeError, match="expected anomalous, not-comparable, or both"):
            failing([word])


def test_remarks_name_the_image_and_what_to_check(bad: Inspection) -> None:
    assert remarks(bad) == ()
    told = remarks(dataclasses.replace(bad, notes=("transparency was dropped",), warnings=("shift", "exposure")))
    assert [each.partition(": ")[0] for each in told] == ["b.png"] * 3
    assert "transparency was dropped" in told[0]
    assert "check the camera" in told[1]
    assert "check the light" in told[2]


def test_a_table_has_a_row_for_each_result(good: Inspection, bad: Inspection) -> None:
    file = io.StringIO(newline="")
    table = Table(file)
    for each in (good, Unreadable(Path("c.png"), "it is empty"), bad):
        table.add(each)
    rows = list(csv.DictReader(io.StringIO(file.getvalue())))
    assert [tuple(row) for row in rows] == [COLUMNS] * 3
    assert [row["path"] for row in rows] == [str(good.path), "c.png", "b.png"]
    assert [row["error"] for row in rows] == ["", "it is empty", ""]
    assert [row["anomalous"] for row in rows] == ["False", "", "True"]
    assert rows[1]["regions"] == ""


def test_a_tally_counts_and_takes_the_median(good: Inspection, bad: Inspection) -> None:
    tally = Tally()
    assert tally.sentence(TIMES) == (
        "0 images: 0 anomalous, 0 not comparable, 0 good, 0 unreadable; on cpu, 2.0 images/s"
    )
    for milliseconds in (1.0, 2.0, 9.0):
        tally.add(dataclasses.replace(good, milliseconds=milliseconds))
    tally.add(dataclasses.replace(bad, milliseconds=3.0))
    tally.add(Unreadable(None, "it is empty"))
    assert (tally.images, tally.unreadable) == (5, 1)
    assert tally.sentence(TIMES) == (
        f"5 images: 1 anomalous above {good.threshold:.2f}, 0 not comparable, 3 good, 1 unreadable; on cpu, "
        "2.0 images/s, 2.5 ms each in the model"
    )


def test_infer_keeps_no_inspection_that_it_has_told(
    golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each holds a map, so that a folder of many images would fill the memory."""
    for i in range(12):
        drawn_images.good(i).save(tmp_path / f"{i}.png")
    inspect_many, told, most = pipeline.inspect_many, [], 0

    def watched(*arguments: Any, **keywords: Any) -> Iterator[Inspection | Unreadable]:
        nonlocal most
        for each in inspect_many(*arguments, **keywords):
            told.append(weakref.ref(each))
            yield each
            most = max(most, sum(reference() is not None for reference in told))

    monkeypatch.setattr(pipeline, "inspect_many", watched)
    commands.run("infer", golden, tmp_path, "--device", "cpu", "--csv", tmp_path / "table.csv")
    assert len(told) == 12
    assert most <= 2
