"""The record: one durable row per image, a chain that shows changes, images within a budget."""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from padim_edge_artifact import PadimEdgeError
from padim_edge_line.config import RecordConfig
from padim_edge_line.record import Filters, Record, images, tables
from padim_edge_line.record.checking import check
from padim_edge_line.record.retention import sweep
from padim_edge_line.record.store import Entry
from padim_edge_line.row import GENESIS, VERDICTS, Place, Row, chained, utc


def row(number: int, **changes: Any) -> Row:
    found = Row(
        seq=0,
        time=1_796_000_000_000_000 + number * 1_000_000,
        source="camera",
        name=f"frame {number}",
        part=None,
        product="bottle",
        model="ab" * 32,
        revision=1,
        verdict="good",
        score=1.5 + number,
        p_value=0.5,
        threshold=9.0,
        width=64,
        height=48,
        model_ms=1.25,
        latency_ms=3.5,
        key=number.to_bytes(16, "big"),
    )
    return replace(found, **changes)


@pytest.fixture
def record(tmp_path: Path) -> Any:
    made = Record(tmp_path / "line", RecordConfig())
    yield made
    made.close()


def added(record: Record, *rows: Row) -> list[Row]:
    return [future.result(10).row for future in [record.add(Entry(each)) for each in rows]]


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
rows = st.builds(
    row,
    st.integers(1, 10**6),
    name=texts,
    part=st.none() | texts,
    product=st.sampled_from(["a", "b"]),
    verdict=st.sampled_from(VERDICTS),
    score=st.none() | st.floats(0, 1e6, width=32),
    regions=st.lists(st.builds(Place, *[st.integers(0, 5000)] * 5, st.floats(0, 99)), max_size=3).map(tuple),
    warnings=st.lists(st.sampled_from(["unlike", "shift"]), unique=True).map(tuple),
    image=st.none() | st.just("png"),
    error=st.none() | texts.filter(bool),
)


@settings(deadline=None, max_examples=40)
@given(st.lists(rows, max_size=8, unique_by=lambda each: each.key))
def test_what_is_read_is_what_was_written_and_the_chain_holds(some: list[Row]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        record = Record(Path(folder), RecordConfig())
        try:
            written = added(record, *some)
            assert list(record.reader().rows()) == written
            assert [each.seq for each in written] == list(range(1, len(some) + 1))
            assert [replace(each, seq=0, chain=GENESIS) for each in written] == some
            assert check(record.reader()).broken == ()
        finally:
            record.close()


def test_an_image_has_one_row_however_often_it_comes(record: Record) -> None:
    first = record.add(Entry(row(1))).result(10)
    again = record.add(Entry(row(1, score=77.0))).result(10)
    elsewhere = record.add(Entry(row(1, source="other"))).result(10)
    assert first.new
    assert not again.new
    assert again.row == first.row
    assert elsewhere.row.seq == 2


def test_rows_of_many_threads_are_numbered_without_gaps(record: Record) -> None:
    threads = [
        threading.Thread(target=lambda k=k: added(record, *(row(100 * k + i) for i in range(50)))) for k in range(4)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert [each.seq for each in record.reader().rows()] == list(range(1, 201))
    assert not check(record.reader()).broken


def test_a_closed_record_goes_on_where_it_ended(tmp_path: Path) -> None:
    for number in range(3):
        record = Record(tmp_path, RecordConfig())
        added(record, row(number))
        record.close()
    record = Record(tmp_path, RecordConfig())
    assert check(record.reader()).rows == 3
    assert not check(record.reader()).broken
    record.close()


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("UPDATE images SET score = 1.0 WHERE seq = 3", "row 3 is not as it was written"),
        ("UPDATE images SET verdict = 1 WHERE seq = 2", "row 2 is not as it was written"),
        ("UPDATE images SET verdict = 99 WHERE seq = 2", "row 2 is no row"),
        ("DELETE FROM images WHERE seq = 2", "rows 2 to 2 are missing"),
        ("UPDATE names SET text = 'other' WHERE text = 'bottle'", "row 1 is not as it was written"),
        ("UPDATE marks SET mark = 'missed'", "mark 1 (row 4) is not as it was written"),
        ("DELETE FROM marks WHERE id = 1", "mark 2 (row 4) is not as it was written"),
    ],
)
def test_a_later_change_is_found(tmp_path: Path, change: str, found: str) -> None:
    record = Record(tmp_path, RecordConfig())
    added(record, *map(row, range(5)))
    record.mark(4, "right", "me").result(10)
    record.mark(4, "false alarm", "me").result(10)
    assert not check(record.reader()).broken
    record.close()
    connection = sqlite3.connect(tmp_path / tables.FILE)
    with connection:
        connection.execute(change)
    connection.close()
    record = Record(tmp_path, RecordConfig())
    assert found in check(record.reader()).broken[0]
    record.close()


def test_the_chain_covers_every_field() -> None:
    """A row that differs in anything but its chain has another digest."""
    usual = chained(GENESIS, row(1)).chain
    others = {
        "seq": 5, "time": 1, "source": "x", "name": "x", "part": "x", "product": "x", "model": "x", "revision": 2,
        "verdict": "failed", "score": 2.25, "p_value": 0.25, "threshold": 8.0, "regions": (Place(1, 2, 3, 4, 5, 6.0),),
        "warnings": ("shift",), "width": 1, "height": 1, "model_ms": 0.5, "latency_ms": 0.5, "image": "png",
        "error": "x", "key": b"x",
    }  # fmt: skip
    assert {*others, "chain"} == set(Row.__dataclass_fields__)
    digests = {chained(GENESIS, row(1, **{key: value})).chain for key, value in others.items()}
    assert len(digests | {usual, chained(bytes(31) + b"1", row(1)).chain}) == len(others) + 2


def test_a_full_disk_delays_rows_and_loses_none(tmp_path: Path) -> None:
    told: list[str] = []
    record = Record(tmp_path, RecordConfig(), told=told.append)
    added(record, row(1))
    (pages,) = record.write(lambda connection: connection.execute("PRAGMA page_count").fetchone()).result(10)
    record.write(lambda connection: connection.execute(f"PRAGMA max_page_count = {pages}").fetchone()).result(10)
    late = [record.add(Entry(row(number, name="x" * 300))) for number in range(2, 200)]
    for _ in range(1000):
        if told:
            break
        threading.Event().wait(0.01)
    assert "cannot be written" in told[0]
    assert not any(each.done() for each in late)
    record._connection.execute("PRAGMA max_page_count = 1073741823")
    assert [each.result(20).row.seq for each in late] == list(range(2, 200))
    assert told[-1] == ""
    assert not check(record.reader()).broken
    record.close()


def test_what_cannot_be_written_stops_nothing_else(record: Record) -> None:
    broken = record.add(Entry(row(1, name="\ud800")))
    assert record.add(Entry(row(2))).result(10).row.seq == 1
    with pytest.raises(UnicodeEncodeError):
        broken.result(10)


def test_the_last_mark_counts_and_is_for_rows_only(record: Record) -> None:
    added(record, row(1), row(2))
    record.mark(1, "missed", "me").result(10)
    record.mark(1, "right", "you").result(10)
    reader = record.reader()
    assert reader.mark_of(1) is not None
    assert [(each.seq, each.mark, each.who) for each in reader.marks()] == [(1, "right", "you")]
    assert reader.mark_of(2) is None
    with pytest.raises(PadimEdgeError, match="no row 3"):
        record.mark(3, "right", "me").result(10)
    with pytest.raises(PadimEdgeError, match="expected right, false alarm, missed"):
        record.mark(1, "perhaps", "me")


def test_filters_choose_rows(record: Record) -> None:
    added(
        record,
        row(1),
        row(2, verdict="anomalous", part="P7"),
        row(3, product="screw", verdict="anomalous"),
        row(4, source="folder"),
    )
    record.mark(3, "false alarm", "me").result(10)

    def found(**filters: Any) -> list[int]:
        return [each.seq for each in record.reader().rows(filters=Filters(**filters))]

    assert found() == [1, 2, 3, 4]
    assert found(product="screw") == [3]
    assert found(verdicts=("anomalous",)) == [2, 3]
    assert found(verdicts=("anomalous", "good"), product="bottle") == [1, 2, 4]
    assert found(part="P7") == [2]
    assert found(source="folder") == [4]
    assert found(marked=True) == [3]
    assert found(marked=False) == [1, 2, 4]
    assert found(marked="right") == []
    assert found(since=row(2).time, until=row(4).time) == [2, 3]
    newest = record.reader().rows(newest_first=True, limit=2, before=4)
    assert [each.seq for each in newest] == [3, 2]
    assert record.reader().counts() == {"bottle": {"good": 2, "anomalous": 1}, "screw": {"anomalous": 1}}
    assert record.reader().counts(row(3).time) == {"bottle": {"good": 1}, "screw": {"anomalous": 1}}
    assert record.reader().known("camera", [row(1).key, row(9).key]) == {row(1).key}
    assert record.reader().known("nobody", [row(1).key]) == set()


def test_pages_of_rows_join(record: Record) -> None:
    added(record, *map(row, range(1201)))
    assert [each.seq for each in record.reader().rows()] == list(range(1, 1202))
    assert [each.seq for each in record.reader().rows(newest_first=True)] == list(range(1201, 0, -1))
    assert [each.seq for each in record.reader().rows(after=600, limit=550)] == list(range(601, 1151))


def test_a_new_sink_begins_at_the_end_and_goes_on_where_it_was(tmp_path: Path) -> None:
    record = Record(tmp_path, RecordConfig())
    added(record, row(1), row(2))
    assert record.position("mqtt") == 2
    added(record, row(3))
    assert record.position("mqtt") == 2
    record.acknowledge("mqtt", 3)
    record.acknowledge("mqtt", 1)  # never back
    assert record.position("mqtt") == 3
    record.close()
    record = Record(tmp_path, RecordConfig())
    added(record, row(4))
    assert record.position("mqtt") == 3
    record.close()


def keep(record: Record, number: int, size: int) -> Row:
    one = row(number, image="png")
    images.save(images.place(record.folder, one.time, one.key, "png"), bytes(size))
    return record.add(Entry(one, size)).result(10).row


def test_the_oldest_images_go_first_and_marked_ones_last(tmp_path: Path) -> None:
    record = Record(tmp_path, RecordConfig(images_mb=1))
    for number in range(1, 4):
        keep(record, number, 300_000)
    record.mark(1, "false alarm", "me").result(10)
    keep(record, 4, 300_000)
    record.write(lambda _: None).result(10)  # the tidying up is behind the one before
    reader = record.reader()
    assert [seq for seq in range(1, 5) if reader.image(seq)] == [1, 3, 4]
    assert reader.kept() == (3, 900_000)
    assert not check(reader).broken, "the row of an image that is gone stays as it was"
    record.close()


def test_old_rows_go_and_the_chain_still_holds(tmp_path: Path) -> None:
    record = Record(tmp_path, RecordConfig(rows=10))
    added(record, *map(row, range(1, 30)))
    for _ in range(250):
        record.write(lambda _: None).result(10)
    left = [each.seq for each in record.reader().rows()]
    assert left == list(range(20, 30))
    assert not check(record.reader()).broken
    assert check(record.reader()).rows == 10
    record.close()


def test_rows_that_a_sink_has_not_told_stay(tmp_path: Path) -> None:
    record = Record(tmp_path, RecordConfig(rows=10))
    added(record, *map(row, range(1, 6)))
    record.position("mqtt")
    added(record, *map(row, range(6, 30)))
    for _ in range(250):
        record.write(lambda _: None).result(10)
    assert next(record.reader().rows()).seq == 6
    record.close()


def test_files_without_a_row_are_swept_up(tmp_path: Path) -> None:
    record = Record(tmp_path, RecordConfig())
    good = keep(record, 1, 10)
    lost = images.place(tmp_path, good.time, b"z" * 16, "png")
    images.save(lost, b"x")
    unfinished = lost.with_name(f"{b'y'.hex() * 16}.png.part")
    unfinished.write_bytes(b"x")
    other = lost.with_name("notes.txt")
    other.write_text("mine")
    assert sweep(tmp_path, record.reader(), 2**62) == 2
    assert not lost.exists()
    assert not unfinished.exists()
    assert other.exists()
    assert record.reader().image(1) is not None
    record.close()


def test_a_record_of_another_version_is_refused(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / tables.FILE)
    connection.execute("PRAGMA user_version = 9")
    connection.execute("CREATE TABLE images (seq)")
    connection.close()
    with pytest.raises(PadimEdgeError, match="is of version 9, this padim-edge writes version 1"):
        Record(tmp_path, RecordConfig())


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / tables.FILE).write_text("no database at all" * 100)
    with pytest.raises(PadimEdgeError, match=r"cannot be opened \(file is not a database\)"):
        Record(tmp_path, RecordConfig())


def test_times_are_written_in_utc() -> None:
    assert utc(1_796_081_721_200_425) == "2026-11-30T23:35:21.200Z"
