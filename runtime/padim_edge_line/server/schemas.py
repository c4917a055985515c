"""Schemas of what the HTTP interface takes and gives."""

from __future__ import annotations

from typing import Any

from padim_edge_line.health import FAILING, STARTING, WORKING
from padim_edge_line.record import MARKS
from padim_edge_line.row import VERDICTS

__all__ = ["OPTIONAL_TEXT", "TEXT", "all_of_them", "reference"]

_PRINTABLE = "^[ -~\u00a1-\u00ac\u00ae-\u1fff]+$"
TEXT: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": 200, "pattern": _PRINTABLE}
"""Schema of a short text."""
OPTIONAL_TEXT: dict[str, Any] = {**TEXT, "type": ["string", "null"]}
"""Schema of a short text that may be left out."""

_NUMBER = {"type": "number"}
_NUMBER_OR_NULL = {"type": ["number", "null"]}
_WHOLE = {"type": "integer", "minimum": 0}
_STRING = {"type": "string"}
_STRING_OR_NULL = {"type": ["string", "null"]}
_TIME = {"type": "string", "format": "date-time"}


def reference(name: str) -> dict[str, str]:
    """Refer to a schema."""
    return {"$ref": f"#/components/schemas/{name}"}


def all_of_them() -> dict[str, Any]:
    """Return all schemas by name."""
    return {
        "Anything": {"type": "object"},
        "Error": _object(error=_STRING),
        "Live": _object(live={"const": True}),
        "Ready": _object(ready={"type": "boolean"}, failing=_list(reference("Part"))),
        "Part": _object(
            kind=_STRING,
            name=_STRING,
            state={"enum": [STARTING, WORKING, FAILING]},
            sentence=_STRING,
            since=_TIME,
            counts={"type": "object", "additionalProperties": _NUMBER},
        ),
        "Region": _object(x=_WHOLE, y=_WHOLE, width=_WHOLE, height=_WHOLE, area=_WHOLE, score=_NUMBER),
        "Mark": _object(mark={"enum": list(MARKS)}, who=_STRING, time=_TIME),
        "Marked": _object(seq=_WHOLE, mark={"enum": list(MARKS)}, who=_STRING),
        "Chosen": _object(product=_STRING),
        "Row": _row(),
        "Rows": _object(rows=_list(reference("Row"))),
        "Product": _product(),
        "State": _state(),
    }


def _row() -> dict[str, Any]:
    found = _object(
        seq=_WHOLE,
        time=_TIME,
        source=_STRING,
        name=_STRING,
        part=_STRING_OR_NULL,
        product=_STRING,
        model=_STRING,
        revision=_WHOLE,
        verdict={"enum": list(VERDICTS)},
        score=_NUMBER_OR_NULL,
        p_value=_NUMBER_OR_NULL,
        threshold=_NUMBER_OR_NULL,
        regions=_list(reference("Region")),
        warnings=_list(_STRING),
        width=_WHOLE,
        height=_WHOLE,
        model_ms=_NUMBER,
        latency_ms=_NUMBER,
        image=_STRING_OR_NULL,
        error=_STRING_OR_NULL,
        key=_STRING,
        chain=_STRING,
    )
    found["properties"]["mark"] = {"oneOf": [{"type": "null"}, reference("Mark")]}
    return found


def _product() -> dict[str, Any]:
    return _object(
        name=_STRING,
        loaded={"type": "boolean"},
        model=_STRING_OR_NULL,
        revision={"type": ["integer", "null"]},
        last={"oneOf": [{"type": "null"}, reference("Row")]},
        today={"type": "object", "additionalProperties": _WHOLE},
        minute=_WHOLE,
        trend=_list({"type": "array", "description": "Number, time in ms since 1970, score, threshold, verdict."}),
    )


def _state() -> dict[str, Any]:
    return _object(
        name=_STRING,
        time=_TIME,
        since=_TIME,
        ready={"type": "boolean"},
        active=_STRING,
        products=_list(reference("Product")),
        alarms=_list(reference("Row")),
        parts=_list(reference("Part")),
        triggers=_list(_STRING),
        latency=_object(p50=_NUMBER_OR_NULL, p95=_NUMBER_OR_NULL, p99=_NUMBER_OR_NULL, images=_WHOLE),
        last=_WHOLE,
        rights=_object(change={"type": "boolean"}, post={"type": "boolean"}),
    )


def _object(**fields: Any) -> dict[str, Any]:
    return {"type": "object", "properties": fields, "required": list(fields)}


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}
