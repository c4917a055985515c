"""Data sets listed in a table: a CSV file with a line for each image."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from padim_edge.datasets.items import GOOD, Dataset, Item, choose, contradictions, item, name_of
from padim_edge_artifact import PadimEdgeError

__all__ = ["Row", "assemble", "classes", "here", "load", "read"]

_GOOD_LABELS = frozenset(("good", "normal", "ok", "0"))
_COLUMNS = ("path", "label", "mask", "class", "split")
_REQUIRED = ("path", "label")
_SPLITS = ("train", "test")

_NO_SPLIT = (
    "the table has no column split, so all its good images are for fitting and the test has none; false alarms "
    "cannot be told from it"
)


@dataclass(frozen=True)
class Row:
    """One image."""

    place: str
    """`line 7 of list.csv`, for messages."""
    path: str
    """Of the image, as written."""
    kind: str
    """`GOOD` or the kind of defect."""
    mask: str
    """Path of the mask, as written; empty for none."""
    class_name: str | None
    """`None` where the table has no column for it."""
    split: str | None
    """`train` or `test`; `None` where the table has no column for it."""


def here(data: Path) -> bool:
    """Whether this is a table."""
    return data.is_file() and data.suffix.lower() == ".csv"


def classes(data: Path) -> tuple[str, ...]:
    """Its classes, sorted; the file's name where it has no column for them."""
    return tuple(sorted({row.class_name or name_of(data) for row in read(data)}))


def load(data: Path, class_name: str | None) -> Dataset:
    """The data set of one class. Without a column for classes, `class_name` only gives it a name.

    Raises:
        PadimEdgeError: Something is wrong with a line, which is named, or there is no such class.
    """
    rows = read(data)
    names = {row.class_name for row in rows if row.class_name is not None}
    if not names:
        return assemble(rows, data.parent, class_name or name_of(data))
    chosen = choose(data, names, class_name)
    return assemble((row for row in rows if row.class_name == chosen), data.parent, chosen)


def assemble(rows: Iterable[Row], base: Path, class_name: str) -> Dataset:
    """The data set of these rows, whose paths are relative to `base`.

    It may have no good images: a table of test images is enough to evaluate with.

    Raises:
        PadimEdgeError: A file does not exist, is listed twice, or is for fitting and has a defect.
    """
    good: list[Item] = []
    test: list[Item] = []
    suspects: list[tuple[Path, Path]] = []
    seen: dict[Path, str] = {}
    split_given = True
    for row in rows:
        path = _file(base, row.path, row.place)
        mask = _file(base, row.mask, row.place) if row.mask else None
        if path in seen:
            raise PadimEdgeError(f"{row.place} names {row.path}, as {seen[path]} does; expected each image once")
        seen[path] = row.place
        split_given = row.split is not None
        fitting = row.split == "train" if row.split is not None else row.kind == GOOD
        if fitting and row.kind != GOOD:
            raise PadimEdgeError(
                f"{row.place} has split train and label {row.kind!r}, expected good images only for fitting; "
                "set its split to test or its label to good"
            )
        (good if fitting else test).append(item(path, row.kind, mask, row.path.replace("\\", "/")))
        if mask is not None and row.kind == GOOD:
            suspects.append((path, mask))
    notes = contradictions(suspects)
    if not split_given and test:
        notes = (*notes, _NO_SPLIT)
    return Dataset(class_name, tuple(good), tuple(test), notes)


def read(path: Path, names: Mapping[str, str] | None = None) -> list[Row]:
    """All rows of a table in UTF-8, with or without a byte order mark, separated by commas or semicolons.

    Args:
        path: The table.
        names: What its columns are called where not `path`, `label`, `mask`, `class` and `split`.

    Raises:
        PadimEdgeError: It is not such a table or has no rows, or a line of it is wrong; the line is named.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(_rows(path, file, names or {}))
    except UnicodeDecodeError as error:
        raise PadimEdgeError(f"{path} is not in UTF-8 ({error.reason}); save it as CSV in UTF-8") from None
    except OSError as error:
        raise PadimEdgeError(f"{path} cannot be read ({error.strerror}); expected a CSV file") from None
    if not rows:
        raise PadimEdgeError(f"{path} lists no images; expected a line path,label,mask and then one for each image")
    return rows


def _rows(path: Path, lines: Iterable[str], names: Mapping[str, str]) -> Iterator[Row]:
    text = iter(lines)
    header = next(text, "")
    delimiter = ";" if header.count(";") > header.count(",") else ","
    columns = [name.strip().lower() for name in next(csv.reader([header], delimiter=delimiter), [])]
    known = {ours: columns.index(theirs) for ours in _COLUMNS if (theirs := names.get(ours, ours)) in columns}
    missing = [names.get(column, column) for column in _REQUIRED if column not in known]
    if missing:
        raise PadimEdgeError(
            f"line 1 of {path} has the columns {', '.join(columns) or 'none'}, expected path, label and mask, and "
            f"perhaps class and split; there is no {' and no '.join(missing)}"
        )
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise PadimEdgeError(f"line {reader.line_num + 1} of {path} is no CSV ({error}); correct it") from None
        if any(field.strip() for field in fields):
            yield _row(f"line {reader.line_num + 1} of {path}", [field.strip() for field in fields], columns, known)


def _row(place: str, fields: list[str], columns: list[str], known: Mapping[str, int]) -> Row:
    if len(fields) != len(columns):
        raise PadimEdgeError(
            f"{place} has {len(fields)} fields, expected {len(columns)} as in line 1; quote what holds a separator"
        )
    values = {column: fields[index] for column, index in known.items()}
    for column in ("path", "label", "class"):
        if values.get(column) == "":
            raise PadimEdgeError(f"{place} has no {column}, expected one; fill it in or delete the line")
    split = values.get("split")
    if split is not None and split.lower() not in _SPLITS:
        raise PadimEdgeError(f"{place} has the split {split!r}, expected train or test; correct it")
    return Row(
        place=place,
        path=values["path"],
        kind=GOOD if values["label"].lower() in _GOOD_LABELS else values["label"],
        mask=values.get("mask", ""),
        class_name=values.get("class"),
        split=split if split is None else split.lower(),
    )


def _file(base: Path, text: str, place: str) -> Path:
    """The file that a table names, also where it was written on Windows."""
    for path in (base / text, base / text.replace("\\", "/")):
        if path.is_file():
            return path
    raise PadimEdgeError(f"{place} names {text}, which does not exist in {base}; expected a path relative to that")
