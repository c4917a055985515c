"""Description of the routes of the Open Inference Protocol."""

from __future__ import annotations

from typing import Any

from padim_edge_line.server.schemas import reference

__all__ = ["paths", "schemas"]

_TOKEN: list[dict[str, list[str]]] = [{}, {"token": []}, {"session": []}]
_REFUSALS = ("400", "401", "403", "404", "408", "413", "415", "421", "429", "503")
_NAME = {"name": "name", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
_VERSION = {
    "name": "version",
    "in": "path",
    "required": True,
    "description": "Revision of the model.",
    "schema": {"type": "string", "pattern": "^[0-9]{1,9}$"},
}
_HEAD = {
    "name": "Inference-Header-Content-Length",
    "in": "header",
    "description": "Bytes of JSON in front of binary tensors.",
    "schema": {"type": "string", "pattern": "^[0-9]{1,10}$"},
}
_STRING = {"type": "string"}
_OBJECT = {"type": "object"}
_SHAPE = {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 4}


def paths() -> dict[str, Any]:
    """Return the description of the routes."""
    found = {
        "/v2": {"get": _operation("v2", "Name and extensions of the server", "V2Server")},
        "/v2/health/live": {"get": _operation("v2live", "Whether the service runs", "Live", open_=True)},
        "/v2/health/ready": {"get": _operation("v2ready", "Whether all models are ready", "V2Ready", open_=True)},
    }
    for path, more, name in (("", [_NAME], ""), ("/versions/{version}", [_NAME, _VERSION], "version")):
        model = f"/v2/models/{{name}}{path}"
        infer = _operation(f"v2infer{name}", "Distances of images, which go on no record", "V2Answer", [*more, _HEAD])
        infer["responses"]["200"]["content"]["application/octet-stream"] = {"schema": {}}
        infer["requestBody"] = {
            "required": True,
            "content": {
                "application/json": {"schema": reference("V2Request")},
                "application/octet-stream": {"schema": {"type": "string", "format": "binary", "minLength": 1}},
            },
        }
        found |= {
            model: {"get": _operation(f"v2model{name}", "Inputs and outputs of a model", "V2Model", more)},
            f"{model}/ready": {
                "get": _operation(f"v2modelready{name}", "Whether a model is ready", "V2ModelReady", more)
            },
            f"{model}/infer": {"post": infer},
        }
    return found


def schemas() -> dict[str, Any]:
    """Return the schemas of what these routes take and give."""
    tensor = _object(name=_STRING, datatype={"enum": ["UINT8", "FP32", "BYTES"]}, shape=_SHAPE)
    given = _object(name=_STRING, datatype={"enum": ["UINT8", "BYTES"]}, shape=_SHAPE)
    given["properties"] |= {"parameters": _OBJECT, "data": {"type": "array"}}
    wanted = _object(name=_STRING)
    wanted["properties"]["parameters"] = _OBJECT
    request = _object(inputs={"type": "array", "items": given, "minItems": 1, "maxItems": 1})
    request["properties"] |= {
        "id": {"type": "string", "maxLength": 1000},
        "parameters": _OBJECT,
        "outputs": {"type": "array", "items": wanted},
    }
    tensors = {"type": "array", "items": reference("V2Tensor")}
    return {
        "V2Server": _object(name=_STRING, version=_STRING, extensions={"type": "array", "items": _STRING}),
        "V2Ready": _object(ready={"const": True}),
        "V2ModelReady": _object(name=_STRING, ready={"const": True}),
        "V2Tensor": tensor,
        "V2Model": _object(
            name=_STRING,
            versions={"type": "array", "items": _STRING},
            platform=_STRING,
            inputs=tensors,
            outputs=tensors,
        ),
        "V2Request": request,
        "V2Answer": _object(model_name=_STRING, model_version=_STRING, parameters=_OBJECT, outputs=tensors),
    }


def _operation(
    name: str, summary: str, schema: str, parameters: list[dict[str, Any]] | None = None, *, open_: bool = False
) -> dict[str, Any]:
    return {
        "operationId": name,
        "summary": summary,
        "parameters": parameters or [],
        "responses": {"200": _json(schema), **{status: _json("Error") for status in _REFUSALS}},
        "security": [] if open_ else _TOKEN,
    }


def _json(schema: str) -> dict[str, Any]:
    return {"description": schema, "content": {"application/json": {"schema": reference(schema)}}}


def _object(**fields: Any) -> dict[str, Any]:
    return {"type": "object", "properties": fields, "required": list(fields)}
