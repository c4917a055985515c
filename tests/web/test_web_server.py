"""The small server of the page: its headers, and nothing but its files."""

from __future__ import annotations

import http.client
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from web import web_page
from web.web_page import serve

SOURCE = Path(__file__).parents[2] / "examples" / "web"


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A server of the page, with files in place of onnxruntime-web and of a model."""
    folder = tmp_path_factory.mktemp("web")
    for path in SOURCE.iterdir():
        if path.is_file():
            (folder / path.name).write_bytes(path.read_bytes())
    with pytest.raises(FileNotFoundError, match="npm install"):
        serve.files_of([], folder)
    (folder / serve.RUNTIME).mkdir(parents=True)
    for name in serve.RUNTIME_FILES:
        (folder / serve.RUNTIME / name).write_bytes(b"wasm")
    with pytest.raises(FileNotFoundError, match=r"give the path of its \.onnx file"):
        serve.files_of([folder / "none.onnx"], folder)
    for name in ("a.onnx", "a.onnx.12345678.data", "b.onnx", "secret.txt"):
        (folder / name).write_bytes(name.encode())
    with web_page.served(serve.files_of([folder / "a.onnx"], folder)) as (_, server):
        yield server.server_address[1]


def asked(port: int, path: str, method: str = "GET", **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer, answer.read()
    finally:
        connection.close()


def test_the_page_is_isolated_and_typed(port: int) -> None:
    for path, kind in (
        ("/", "text/html; charset=utf-8"),
        ("/app.js", "text/javascript; charset=utf-8"),
        (f"/{serve.RUNTIME}/{serve.RUNTIME_FILES[0]}", "text/javascript; charset=utf-8"),
        (f"/{serve.RUNTIME}/{serve.RUNTIME_FILES[1]}", "application/wasm"),
        ("/models/a.onnx.12345678.data", "application/octet-stream"),
        ("/nothing", None),
    ):
        answer, _ = asked(port, path)
        assert answer.headers["Content-Type"] == kind
        assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert answer.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_models_come_with_their_data_and_nothing_else_does(port: int) -> None:
    assert asked(port, "/models/a.onnx?x=1")[1] == b"a.onnx"
    assert asked(port, "/models/a.onnx.12345678.data")[1] == b"a.onnx.12345678.data"
    others = (
        "/models/b.onnx",
        "/b.onnx",
        "/secret.txt",
        "/serve.py",
        "/models/",
        "/models/../secret.txt",
        "//etc/hosts",
    )
    for path in (*others, "/%2e%2e/secret.txt", "/models/%2e%2e%2fsecret.txt", "/package.json"):
        answer, body = asked(port, path)
        assert (answer.status, body) == (404, b"")
    assert asked(port, "/", "POST")[0].status == 501


def test_a_file_that_did_not_change_is_not_sent_again(port: int) -> None:
    answer, body = asked(port, "/app.js")
    head, nothing = asked(port, "/app.js", "HEAD")
    assert (head.headers["Content-Length"], nothing) == (str(len(body)), b"")
    again, nothing = asked(port, "/app.js", **{"If-None-Match": answer.headers["ETag"]})
    assert (again.status, nothing) == (304, b"")


def test_the_policy_is_the_same_in_the_page_and_in_the_headers() -> None:
    page = (SOURCE / "index.html").read_text(encoding="utf-8")
    found = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert found
    assert serve.HEADERS["Content-Security-Policy"] == f"{found[1]}; frame-ancestors 'none'"
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=", page)


def test_all_that_is_served_is_kept_for_a_time_without_a_server() -> None:
    offline = (SOURCE / "offline.js").read_text(encoding="utf-8")
    kept = set(re.findall(r'"([^"]+)"', offline[offline.index("FILES = [") : offline.index("];")]))
    served = {path.name for path in SOURCE.iterdir() if path.suffix in (".css", ".js", ".svg")} - {"offline.js"}
    assert kept == {"./", *served, *(f"{serve.RUNTIME}/{name}" for name in serve.RUNTIME_FILES)}


def test_the_version_of_onnxruntime_web_is_pinned() -> None:
    assert re.search(r'"onnxruntime-web": "\d+\.\d+\.\d+"', (SOURCE / "package.json").read_text(encoding="utf-8"))
