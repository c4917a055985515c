"""Serve the page of this folder, and models, to browsers: standard library only, and nothing but these files.

python serve.py bottle.onnx
python serve.py bottle.onnx --host 0.0.0.0 --certificate line.crt --key line.key
"""

from __future__ import annotations

import argparse
import os
import ssl
import sys
from collections.abc import Iterable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from shutil import copyfileobj
from urllib.parse import quote, unquote, urlsplit

__all__ = ["files_of", "server"]

HERE = Path(__file__).resolve().parent
RUNTIME = "node_modules/onnxruntime-web/dist"
"""Folder that npm fetches onnxruntime-web into."""
RUNTIME_FILES = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")

TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
}

HEADERS = {
    # Both of these give the page threads: browsers share memory only between pages that are isolated from others.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; "
    "connect-src 'self'; img-src 'self'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


def files_of(models: Iterable[Path], folder: Path = HERE) -> dict[str, Path]:
    """Return the file behind each address: the page, the two files of onnxruntime-web, and the models with their data.

    Raises:
        FileNotFoundError: A file is missing; the message says what to do.
    """
    found = {f"/{path.name}": path for path in folder.iterdir() if path.suffix in (".css", ".html", ".js", ".svg")}
    found["/"] = folder / "index.html"
    found |= {f"/{RUNTIME}/{name}": folder / RUNTIME / name for name in RUNTIME_FILES}
    if not all(path.is_file() for path in found.values()):
        raise FileNotFoundError("onnxruntime-web is not beside the page; run: npm install, in the folder of serve.py")
    for model in models:
        if not model.is_file():
            raise FileNotFoundError(f"{model} does not exist, expected a model; give the path of its .onnx file")
        for path in (model, *model.parent.glob(f"{model.name}*.data")):
            found[f"/models/{path.name}"] = path
    return found


class _Handler(BaseHTTPRequestHandler):
    """Answers with one of the files, or with 404."""

    protocol_version = "HTTP/1.1"
    timeout = 60
    files: dict[str, Path]

    def do_GET(self) -> None:
        """Send a file."""
        self._answer(body=True)

    def do_HEAD(self) -> None:
        """Send the headers of a file."""
        self._answer(body=False)

    def version_string(self) -> str:
        """Return a name that tells nothing of versions."""
        return "padim-edge"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing: requests are nobody's business."""

    def _answer(self, *, body: bool) -> None:
        path = self.files.get(unquote(urlsplit(self.path).path))
        try:
            file = None if path is None else path.open("rb")
        except OSError:
            file = None
        if path is None or file is None:
            self._head(HTTPStatus.NOT_FOUND, 0)
            return
        with file:
            found = os.fstat(file.fileno())
            tag = f'"{found.st_mtime_ns:x}-{found.st_size:x}"'
            if self.headers.get("If-None-Match") == tag:
                self._head(HTTPStatus.NOT_MODIFIED, None, tag)
                return
            self._head(HTTPStatus.OK, found.st_size, tag, TYPES.get(path.suffix, "application/octet-stream"))
            if body:
                copyfileobj(file, self.wfile, 1 << 20)

    def _head(self, status: HTTPStatus, length: int | None, tag: str | None = None, kind: str | None = None) -> None:
        self.send_response(status)
        given = {"Content-Length": length, "Content-Type": kind, "ETag": tag}
        for name, value in {**HEADERS, **given}.items():
            if value is not None:
                self.send_header(name, str(value))
        self.end_headers()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a browser that went away."""


def server(files: dict[str, Path], host: str, port: int, context: ssl.SSLContext | None = None) -> ThreadingHTTPServer:
    """Make a server, not yet running.

    Args:
        files: File behind each address, as `files_of` gives them.
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        context: Certificate and key for https.
    """
    made = _Server((host, port), type("Handler", (_Handler,), {"files": files}))
    if context is not None:  # the handshake waits until the connection's own thread reads
        made.socket = context.wrap_socket(made.socket, server_side=True, do_handshake_on_connect=False)
    return made


def main() -> int:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Serve the page and models to browsers.")
    parser.add_argument("models", nargs="*", type=Path, help="models that the page may open, .onnx")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", default=8008, type=int)
    parser.add_argument("--certificate", type=Path, help="certificate for https, PEM; cameras of phones need it")
    parser.add_argument("--key", type=Path, help="its key, PEM")
    given = parser.parse_args()
    context = None
    try:
        files = files_of(given.models)
        if given.certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(given.certificate, given.key)
        made = server(files, given.host, given.port, context)
    except (OSError, ssl.SSLError) as error:
        print(error, file=sys.stderr)
        return 1
    base = f"http{'s' if context else ''}://{given.host}:{made.server_address[1]}/"
    addresses = [f"{base}?model=models/{quote(model.name)}" for model in given.models] or [base]
    print("\n".join(addresses), flush=True)
    if given.host not in ("127.0.0.1", "localhost", "::1") and context is None:
        print("note: browsers allow cameras and threads on https or localhost only", file=sys.stderr)
    with made:
        try:
            made.serve_forever()
        except KeyboardInterrupt:
            return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
