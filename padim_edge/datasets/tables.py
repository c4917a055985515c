"""Data sets listed in a table: a CSV file with one line per image."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from padim_edge.datasets.items import GOOD, Dataset, Item, choose, item, name_of
from padim_edge.datasets.labels import is_good
from padim_edge.datasets.masks import contradictions
from padim_edge.datasets.selection import ALL, FOLDER, VIDEO, Selection
from padim_edge_artifact import PadimEdgeError

__all__ = ["Row", "assemble", "classes", "here", "load", "read"]

_GOOD_NUMBER = "0"
"""Number that labels good images, beside the words of `labels.is_good`."""
_COLUMNS = ("path", "label", "mask", "class", "split")
_REQUIRED = ("path", "label")
_SPLITS = ("train", "test")

_NO_SPLIT = (
    "the table has no column split, so all its good images are used to fit and none to test; add one to measure false "
    "alarms"
)


@dataclass(frozen=True)
class Row:
    """One image in the table."""

    place: str
    """Position for messages, such as `line 7 of list.csv`."""
    path: str
    """Path of the image, as written."""
    kind: str
    """`GOOD` or the kind of defect."""
    mask: str
    """Path of the mask, as written; empty for none."""
    class_name: str | None
    """Name of the class; `None` where the table has no such column."""
    split: str | None
    """`train` or `test`; `None` where the table has no such column."""
    group: str | None = None
    """Name of the group of images that show the same part; `None` where no column for it was named."""


def here(data: Path) -> bool:
    """Tell whether this is a table, by its ending."""
    return data.is_file() and data.suffix.lower() == ".csv"


def classes(data: Path) -> tuple[str, ...]:
    """Return the names of the classes, sorted; the file's name where there is no column for them."""
    return tuple(sorted({row.class_name or name_of(data) for row in read(data)}))


def load(data: Path, class_name: str | None, selection: Selection = ALL) -> Dataset:
    """Load one class. In a table without a column for classes, `class_name` renames the only one.

    Raises:
        PadimEdgeError: A line is wrong (the sentence names it), or there is no such class or column.
    """
    selection.refuse_every("single images")
    rows = read(data, {} if selection.group is None else {"group": selection.group})
    names = {row.class_name for row in rows if row.class_name is not None}
    if not names:
        return assemble(rows, data.parent, class_name or name_of(data))
    chosen = choose(data, names, class_name)
    return assemble((row for row in rows if row.class_name == chosen), data.parent, chosen)


def assemble(rows: Iterable[Row], base: Path, class_name: str) -> Dataset:
    """Return the data set of these rows. Their paths are relative to `base`.

    It may have no good images to fit on: a table of test images is enough for an evaluation.

    Raises:
        PadimEdgeError: A file does not exist or is listed twice, or a defective image is marked for fitting.
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
            raise PadimEdgeError(
                f"{row.place} names {row.path}, as {seen[path]} does; expected each image once, so delete one line"
            )
        seen[path] = row.place
        split_given = row.split is not None
        fitting = row.split == "train" if row.split is not None else row.kind == GOOD
        if fitting and row.kind != GOOD:
            raise PadimEdgeError(
                f"{row.place} has split train and label {row.kind!r}, expected only good images for fitting; "
                "set its split to test or its label to good"
            )
        entry = item(path, row.kind, mask, row.path.replace("\\", "/"))
        (good if fitting else test).append(replace(entry, group=row.group))
        if mask is not None and row.kind == GOOD:
            suspects.append((path, mask))
    notes = contradictions(suspects)
    if not split_given and test:
        notes = (*notes, _NO_SPLIT)
    return Dataset(class_name, tuple(good), tuple(test), notes)


def read(path: Path, names: Mapping[str, str] | None = None) -> list[Row]:
    """Read all rows of a table in UTF-8, with or without a byte order mark, separated by commas or semicolons.

    Args:
        path: The table.
        names: Maps `path`, `label`, `mask`, `class` or `split` to the name of that column in this table, where it
            differs; and `group` to the column that names groups, or to `folder` or `video` for none.

    Raises:
        PadimEdgeError: The file is no such table, it has no rows, or a line is wrong (the sentence names it).
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(_rows(path, file, names or {}))
    except UnicodeDecodeError as error:
        raise PadimEdgeError(
            f"{path} is not in UTF-8 ({error.reason}), expected that; save it as CSV in UTF-8"
        ) from None
    except OSError as error:
        raise PadimEdgeError(
            f"{path} cannot be read ({error.strerror}); expected a CSV file, so check its permissions"
        ) from None
    if not rows:
        raise PadimEdgeError(f"{path} lists no images; expected the line path,label,mask, so add one line per image")
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
            f"optionally class and split; there is no {' and no '.join(missing)}, so add it"
        )
    if (group := names.get("group")) is not None:
        if group.strip().lower() in columns:
            known["group"] = columns.index(group.strip().lower())
        elif group not in (FOLDER, VIDEO):
            raise PadimEdgeError(
                f"{path} has no column {group!r}, only {', '.join(columns)}; choose one of them with --group, or folder"
            )
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise PadimEdgeError(
                f"line {reader.line_num + 1} of {path} is no CSV ({error}), expected fields and separators; correct it"
            ) from None
        if any(field.strip() for field in fields):
            yield _row(f"line {reader.line_num + 1} of {path}", [field.strip() for field in fields], columns, known)


def _row(place: str, fields: list[str], columns: list[str], known: Mapping[str, int]) -> Row:
    if len(fields) != len(columns):
        raise PadimEdgeError(
            f"{place} has {len(fields)} fields, expected {len(columns)} as in line 1; put quotes around a field with a "
            "separator in it"
        )
    values = {column: fields[index] for column, index in known.items()}
    for column in ("path", "label", "class", "group"):
        if values.get(column) == "":
            named = columns[known[column]] if column == "group" else column
            raise PadimEdgeError(f"{place} has no {named}, expected one; fill it in or delete the line")
    split = values.get("split")
    if split is not None and split.lower() not in _SPLITS:
        raise PadimEdgeError(f"{place} has the split {split!r}, expected train or test; correct it")
    return Row(
        place=place,
        path=values["path"],
        kind=GOOD if is_good(values["label"]) or values["label"] == _GOOD_NUMBER else values["label"],
        mask=values.get("mask", ""),
        class_name=values.get("class"),
        split=split if split is None else split.lower(),
        group=values.get("group"),
    )


def _file(base: Path, text: str, place: str) -> Path:
    """Return the file that a table names, also in a table written on Windows."""
    for path in (base / text, base / text.replace("\\", "/")):
        if path.is_file():
            return path
    raise PadimEdgeError(
        f"{place} names {text}, which does not exist in {base}; expected a path relative to that folder, so correct it"
    )
