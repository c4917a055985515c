"""Description of the HTTP interface in OpenAPI 3.1."""

from __future__ import annotations

from typing import Any

from padim_edge_line.record import MARKS
from padim_edge_line.row import VERDICTS
from padim_edge_line.server import kserve_openapi, schemas
from padim_edge_line.server.schemas import reference

__all__ = ["description"]

_SEQ = {
    "name": "seq",
    "in": "path",
    "required": True,
    "description": "Number of the row.",
    "schema": {"type": "integer", "minimum": 1, "maximum": 10**15 - 1},
}
_TOKEN: list[dict[str, list[str]]] = [{"token": []}, {"session": []}]
_OPEN: list[dict[str, list[str]]] = [{}, *_TOKEN]
_IMAGE: dict[str, Any] = {"image/*": {"schema": {}}, "application/octet-stream": {"schema": {}}}
_BYTES = {"type": "string", "format": "binary", "minLength": 1}


def description() -> dict[str, Any]:
    """Return the description of all routes but those of the page's own files."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "padim-edge line",
            "version": "1",
            "description": "Images in, one verdict on record for each. Every error is an object with one sentence. "
            "Reading and posting images need the token unless the line listens on a loopback address; "
            "changes always need it.",
        },
        "paths": {**_probes(), **_reading(), **_changing(), **kserve_openapi.paths()},
        "components": {
            "schemas": {**schemas.all_of_them(), **kserve_openapi.schemas()},
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": "padim_edge_8765"},
            },
        },
    }


def _probes() -> dict[str, Any]:
    metrics = {"text/plain": {"schema": {"type": "string"}}, "application/openmetrics-text": {"schema": {}}}
    return {
        "/live": {"get": _operation("live", "Whether the service runs", {"200": _json("Live")}, security=[])},
        "/ready": {
            "get": _operation(
                "ready", "Whether images can be judged", {"200": _json("Ready"), "503": _json("Ready")}, security=[]
            )
        },
        "/metrics": {"get": _operation("metrics", "Metrics for Prometheus", {"200": _content(metrics)})},
        "/openapi.json": {"get": _operation("openapi", "This description", {"200": _json("Anything")})},
    }


def _reading() -> dict[str, Any]:
    rows = [
        _query("product", "Only rows of this product.", {"type": "string"}),
        _query(
            "verdict",
            f"Only rows with one of these verdicts, with commas between them: {', '.join(VERDICTS)}.",
            {"type": "array", "items": {"enum": list(VERDICTS)}, "minItems": 1, "maxItems": 8},
            explode=False,
        ),
        _query("before", "Only rows in front of this one.", {**_SEQ["schema"]}),  # type: ignore[dict-item]
        _query("limit", "Most rows.", {"type": "integer", "minimum": 1, "maximum": 500, "default": 50}),
    ]
    key = _query("key", "Any text; a browser keeps images with another one apart.", {"type": "string"})
    seq = _query("seq", "Row whose picture it must be.", {"type": "integer", "minimum": 1, "maximum": 10**15 - 1})
    name = {"name": "name", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    last = {"name": "Last-Event-ID", "in": "header", "schema": {"type": "string", "pattern": "^[0-9]{1,15}$"}}
    stream = {"200": _content({"text/event-stream": {"schema": {"type": "string"}}}), "503": _json("Error")}
    kept = {"200": _content(_IMAGE)}
    return {
        "/api/state": {"get": _operation("state", "All that the page shows", {"200": _json("State")})},
        "/api/events": {
            "get": _operation("events", "Server-sent events: row, health, product, mark, drift, beat", stream, [last])
        },
        "/api/rows": {"get": _operation("rows", "Rows, the newest first", {"200": _json("Rows")}, rows)},
        "/api/rows/{seq}": {"get": _operation("row", "One row", {"200": _json("Row")}, [_SEQ])},
        "/api/rows/{seq}/image": {"get": _operation("image", "A kept image", kept, [_SEQ, key])},
        "/api/rows/{seq}/overlay": {"get": _operation("overlay", "Its overlay", kept, [_SEQ, key])},
        "/api/products/{name}/preview": {
            "get": _operation("preview", "Last image of a product under its overlay", kept, [name, seq])
        },
    }


def _changing() -> dict[str, Any]:
    post = [
        _query("product", "Product; the one that is made at the moment by default.", {"type": "string"}),
        _query("part", "Identity of the part.", {"type": "string"}),
        _query("name", "Name of the image.", {"type": "string"}),
        {
            "name": "Idempotency-Key",
            "in": "header",
            "description": "Identity of the image: sent again with the same, it gets the same row.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[!-~]+$"},
        },
    ]
    judged, conflict = {"200": _json("Row")}, {"409": _json("Error"), "503": _json("Error")}
    return {
        "/api/images": {
            "post": _operation(
                "post",
                "Have an image judged",
                {**judged, "503": _json("Error")},
                post,
                body={"required": True, "content": {kind: {"schema": _BYTES} for kind in _IMAGE}},
            )
        },
        "/api/rows/{seq}/mark": {
            "post": _operation(
                "mark",
                "Say what a verdict was",
                {"200": _json("Marked"), **conflict},
                [_SEQ],
                body=_fields(mark={"enum": list(MARKS)}, who=schemas.OPTIONAL_TEXT),
                security=_TOKEN,
            )
        },
        "/api/product": {
            "post": _operation(
                "choose",
                "Change the product",
                {"200": _json("Chosen"), **conflict},
                body=_fields(product=schemas.TEXT),
                security=_TOKEN,
            )
        },
        "/api/trigger": {
            "post": _operation(
                "trigger",
                "Have a source take an image",
                {**judged, **conflict},
                body=_fields(source=schemas.TEXT, part=schemas.OPTIONAL_TEXT),
                security=_TOKEN,
            )
        },
        "/api/session": {
            "post": _operation(
                "begin",
                "Give a cookie for the token",
                {"204": {"description": "The cookie is set."}},
                body=_fields(token=schemas.TEXT),
                security=[],
            ),
            "delete": _operation(
                "end", "Take the cookie away", {"204": {"description": "The cookie is gone."}}, security=[]
            ),
        },
    }


def _operation(
    name: str,
    summary: str,
    responses: dict[str, Any],
    parameters: list[dict[str, Any]] | None = None,
    **others: Any,
) -> dict[str, Any]:
    body = others.get("body")
    security = others.get("security", _OPEN)
    refusals = ["400", "401", "403", "404", "408", "413", "415", "421", "429"]
    found = {
        "operationId": name,
        "summary": summary,
        "parameters": parameters or [],
        "responses": {**responses, **{status: _json("Error") for status in refusals}},
        "security": security,
    }
    return {**found, "requestBody": body} if body else found


def _query(name: str, text: str, schema: dict[str, Any], **others: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": text, "schema": schema, **others}


def _json(schema: str) -> dict[str, Any]:
    return {"description": schema, "content": {"application/json": {"schema": reference(schema)}}}


def _content(content: dict[str, Any]) -> dict[str, Any]:
    return {"description": "The content.", "content": content}


def _fields(**fields: dict[str, Any]) -> dict[str, Any]:
    required = [name for name, schema in fields.items() if "null" not in schema.get("type", [])]
    schema = {"type": "object", "properties": fields, "required": required, "additionalProperties": False}
    return {"required": True, "content": {"application/json": {"schema": schema}}}
