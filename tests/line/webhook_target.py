"""An HTTP server that takes rows, refuses them as it is told, goes away and comes back."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from line.mosquitto import free_port

if TYPE_CHECKING:
    from typing import Self

__all__ = ["Answer", "Request", "Target"]


@dataclass(frozen=True)
class Answer:
    """Reaction of the target to one request."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    """Time until it answers."""
    body: bytes = b""


@dataclass(frozen=True)
class Request:
    """A request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    status: int
    """Status of the answer."""

    @property
    def seq(self) -> int:
        return int(json.loads(self.body)["seq"])


class Target:
    """A target of a webhook on a port of its own, which it keeps when it is started again."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/hook?token=hunter2"
        self.requests: list[Request] = []
        self.answers: deque[Answer] = deque()
        """Answers to the next requests; then they are taken."""
        self._server: ThreadingHTTPServer | None = None
        self._connections: set[Any] = set()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def taken(self) -> list[int]:
        """Numbers of the rows that were taken, in order."""
        return [each.seq for each in tuple(self.requests) if each.status == 200 and each.method == "POST"]

    def start(self) -> None:
        target = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                target._handle(self)

            def do_HEAD(self) -> None:
                target._handle(self)

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            allow_reuse_address = True

            def process_request(self, request: Any, address: Any) -> None:
                target._connections.add(request)
                super().process_request(request, address)

            def handle_error(self, *_: Any) -> None:
                pass

        self._server = Server(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Close the port and all connections."""
        server, self._server = self._server, None
        if server is None:
            return
        server.shutdown()
        for connection in self._connections:
            server.shutdown_request(connection)
        self._connections.clear()
        server.server_close()

    def _handle(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        answer = self.answers.popleft() if self.answers else Answer()
        time.sleep(answer.seconds)
        self.requests.append(Request(handler.command, handler.path, dict(handler.headers), body, answer.status))
        handler.send_response(answer.status)
        for name, value in answer.headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(answer.body)))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(answer.body)
