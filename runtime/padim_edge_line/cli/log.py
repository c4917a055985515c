"""The command `log`."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from padim_edge_artifact.errors import PadimEdgeError
from padim_edge_line.cli.options import folder_of
from padim_edge_runtime.cli.options import INPUT, OUTPUT, warn
from padim_edge_runtime.terminal_text import visible

if TYPE_CHECKING:
    from padim_edge_line.record import Reader
    from padim_edge_line.row import Row

__all__ = ["log"]

_COLUMNS = (
    "seq", "time", "source", "name", "part", "product", "model", "revision", "verdict", "score", "p_value",
    "threshold", "regions", "warnings", "width", "height", "model_ms", "latency_ms", "image", "error", "mark", "chain",
)  # fmt: skip


def log(
    line: Annotated[Path, typer.Argument(metavar="LINE", help="The line's file (line.toml) or its folder.")],
    product: Annotated[str | None, typer.Option(help="Only this product.", rich_help_panel=INPUT)] = None,
    verdict: Annotated[
        list[str] | None,
        typer.Option(help="Only this verdict; may be given several times.", rich_help_panel=INPUT),
    ] = None,
    source: Annotated[str | None, typer.Option(help="Only this source.", rich_help_panel=INPUT)] = None,
    part: Annotated[str | None, typer.Option(help="Only this part.", rich_help_panel=INPUT)] = None,
    mark: Annotated[
        str | None, typer.Option(help="Only rows with this mark: right, false alarm or missed.", rich_help_panel=INPUT)
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Only from this time on, as in 2026-11-30T08:00.", rich_help_panel=INPUT),
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only before this time.", rich_help_panel=INPUT)
    ] = None,
    last: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Only the last N of them.", rich_help_panel=INPUT)
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per row.", rich_help_panel=OUTPUT)
    ] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print a table.", rich_help_panel=OUTPUT)] = False,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Only check whether rows or marks were changed later.", rich_help_panel=OUTPUT),
    ] = False,
) -> None:
    """Print the record of a line: one row per image. The line may run meanwhile."""
    from padim_edge_line.record import MARKS, Filters, Reader
    from padim_edge_line.row import VERDICTS

    if as_json and as_csv:
        raise PadimEdgeError("--json and --csv exclude each other; choose one")
    words = tuple(each.strip().replace("-", " ") for text in verdict or () for each in text.split(","))
    for word in words:
        if word not in VERDICTS:
            raise PadimEdgeError(f"--verdict has {word!r}, expected {', '.join(VERDICTS)}")
    if mark is not None and (mark := mark.replace("-", " ")) not in MARKS:
        raise PadimEdgeError(f"--mark is {mark!r}, expected {', '.join(MARKS)}")
    filters = Filters(
        product=product,
        verdicts=words,
        source=source,
        part=part,
        since=_time("--since", since),
        until=_time("--until", until),
        marked=mark,
    )
    reader = Reader(folder_of(line))
    try:
        if verify:
            _verify(reader)
            return
        rows: Iterable[Row] = reader.rows(filters=filters)
        if last is not None:
            rows = reversed(list(reader.rows(filters=filters, limit=last, newest_first=True)))
        if as_csv:
            _table(reader, rows)
            return
        for row in rows:
            marked = reader.mark_of(row.seq)
            if as_json:
                typer.echo(json.dumps({**row.to_json(), "mark": None if marked is None else marked.mark}))
            else:
                typer.echo(_sentence(row, "" if marked is None else marked.mark))
    finally:
        reader.close()


def _verify(reader: Reader) -> None:
    from padim_edge_line.record.checking import check

    found = check(reader)
    for sentence in found.broken:
        warn(sentence)
    typer.echo(
        f"{found.rows} rows and {found.marks} marks: {'CHANGED' if found.broken else 'as they were written'}; the last "
        f"digest is {found.head}"
    )
    raise typer.Exit(int(bool(found.broken)))


def _sentence(row: Row, mark: str) -> str:
    from padim_edge_line.row import utc

    shown = row.verdict if row.verdict == "good" else row.verdict.upper()
    score = f"score {row.score:8.2f} / {row.threshold:.2f}" if row.score is not None else (row.error or "")
    part = f"  part {row.part}" if row.part is not None else ""
    marked = f"  [{mark}]" if mark else ""
    return visible(f"{row.seq:>7}  {utc(row.time)}  {row.product}  {shown:<14}  {score}  {row.name}{part}{marked}")


def _table(reader: Reader, rows: Iterable[Row]) -> None:
    from padim_edge_runtime.results import cell

    writer = csv.DictWriter(sys.stdout, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        found = row.to_json()
        marked = reader.mark_of(row.seq)
        found |= {
            "regions": len(row.regions),
            "warnings": " ".join(row.warnings),
            "mark": "" if marked is None else marked.mark,
        }
        writer.writerow({key: cell("" if found.get(key) is None else found[key]) for key in _COLUMNS})


def _time(option: str, text: str | None) -> int | None:
    """Read a time of the local clock, or of the zone that it names, in microseconds since 1970."""
    if text is None:
        return None
    try:
        return round(1e6 * datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone().timestamp())
    except (ValueError, OverflowError, OSError) as error:
        raise PadimEdgeError(f"{option} is {text!r}, expected a time such as 2026-11-30 or 2026-11-30T08:00") from error
