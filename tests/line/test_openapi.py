"""The description of the interface agrees with its routes and its answers, and nothing that follows it breaks it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from line.served import TOKEN, Served, config_of, png, served

from padim_edge_line.server import service
from padim_edge_line.server.access import CHANGE, OPEN
from padim_edge_line.server.app import application
from padim_edge_line.server.openapi import description

validator = pytest.importorskip("jsonschema_rs", reason="schemathesis is not installed, with which jsonschema_rs comes")

BEARER = {"Authorization": f"Bearer {TOKEN}"}
OF_THE_PAGE = ("/", "/static/{name}")


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service, "_FAILURES", 10**6)  # wrong tokens are sent on purpose
        with served(config_of(tmp_path_factory.mktemp("there") / "line", most_mb=1)) as found:
            for seed in range(4):
                found.judge(seed, part=f"P{seed}")
            found.run(found.line.mark(1, "right", "me"))
            yield found


def check(data: Any, schema: dict[str, Any]) -> None:
    whole = {"$schema": "https://json-schema.org/draft/2020-12/schema", "components": description()["components"]}
    validator.validate({**whole, **schema}, data)


def test_the_routes_are_those_that_are_described(there: Served) -> None:
    routes = {
        (route.path, method.lower()): route.need  # type: ignore[attr-defined]
        for route in application(there.line).routes
        for method in route.methods - {"HEAD"}  # type: ignore[attr-defined]
        if route.path not in OF_THE_PAGE  # type: ignore[attr-defined]
    }
    described = {
        (path, method): operation
        for path, methods in description()["paths"].items()
        for method, operation in methods.items()
    }
    assert set(routes) == set(described)
    for key, need in routes.items():
        security = described[key]["security"]
        assert (security == []) == (need == OPEN), key
        assert ({} not in security and security != []) == (need == CHANGE), key


def test_parts_of_the_description_exist_once() -> None:
    found = description()
    text = json.dumps(found)
    names = [operation["operationId"] for methods in found["paths"].values() for operation in methods.values()]
    assert len(set(names)) == len(names)
    for name in found["components"]["schemas"]:
        assert f"#/components/schemas/{name}" in text, name


@pytest.mark.parametrize(
    ("path", "schema"),
    [
        ("/api/state", "State"),
        ("/api/rows", "Rows"),
        ("/api/rows/1", "Row"),
        ("/live", "Live"),
        ("/ready", "Ready"),
        ("/api/rows/99", "Error"),
    ],
)
def test_answers_are_as_described(there: Served, path: str, schema: str) -> None:
    found = httpx.get(f"{there.url}{path[1:]}", headers=BEARER, trust_env=False).json()
    check(found, {"$ref": f"#/components/schemas/{schema}"})


def test_a_posted_image_is_answered_as_described(there: Served) -> None:
    for content in (png(1), b"no image"):
        headers = {"Content-Type": "image/png"}
        answer = httpx.post(f"{there.url}api/images", content=content, headers=headers, trust_env=False)
        check(answer.json(), {"$ref": "#/components/schemas/Row"})


@pytest.mark.slow
def test_nothing_that_follows_the_description_breaks_it(there: Served, tmp_path: Path) -> None:
    """Schemathesis sends right and wrong requests of every kind. Events do not end, so they are left out."""
    pytest.importorskip("schemathesis", reason="schemathesis is not installed")
    command = [
        *(Path(sys.executable).with_name("schemathesis"), "run", f"{there.url}openapi.json"),
        *("--header", f"Authorization: Bearer {TOKEN}", "--exclude-path", "/api/events"),
        *("--exclude-path-regex", "/infer$"),  # no schema says whether a tensor fits a model; see test_kserve_fuzz
        *("--checks", "all", "--exclude-checks", "ignored_auth"),
        *("--max-examples", "25", "--workers", "1", "--no-color", "--seed", "1"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert httpx.get(f"{there.url}ready", trust_env=False).status_code == 200
