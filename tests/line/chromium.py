"""Debian's Chromium, driven by the DevTools protocol through two pipes, without any library."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["PROGRAM", "Page", "opened"]

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
"""The browser; `None` where there is none."""

_START = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Program that gives the browser its two pipes: it reads from 3 and writes to 4."""


class Page:
    """One page of a browser."""

    def __init__(self, send: Any, receive: Any) -> None:
        self._send, self._receive = send, receive
        self._number = 0
        self._answers: dict[int, Any] = {}
        self._changed = threading.Condition()
        self.problems: deque[str] = deque()
        """Errors and warnings of the console, exceptions, and requests that failed."""
        self.session: str | None = None
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def call(self, method: str, **parameters: Any) -> Any:
        """Call a method of the protocol, and return its result."""
        self._number += 1
        number = self._number
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self.session is not None:
            message["sessionId"] = self.session
        self._send.write(json.dumps(message).encode() + b"\0")
        self._send.flush()
        with self._changed:
            assert self._changed.wait_for(lambda: number in self._answers, 60), method
            answer = self._answers.pop(number)
        assert "error" not in answer, (method, answer)
        return answer["result"]

    def evaluate(self, script: str) -> Any:
        """Evaluate an expression, wait for it where it is a promise, and return its value."""
        found = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, script: str, seconds: float = 30) -> Any:
        """Wait until an expression is true."""
        end = time.monotonic() + seconds
        while not (found := self.evaluate(script)):
            assert time.monotonic() < end, f"not true: {script}\n{self.evaluate('document.body.innerText')}"
            time.sleep(0.05)
        return found

    def open(self, url: str) -> None:
        """Open an address."""
        self.call("Page.navigate", url=url)

    def size(self, width: int, height: int, *, dark: bool = False, scale: float = 1) -> None:
        """Set the size of the window and the colours that the user prefers."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 600,
        )
        prefers = {"color-scheme": "dark" if dark else "light", "reduced-motion": "reduce"}
        features = [{"name": f"prefers-{name}", "value": value} for name, value in prefers.items()]
        self.call("Emulation.setEmulatedMedia", features=features)

    def press(self, key: str, code: int, **more: Any) -> None:
        """Press a key."""
        for kind in ("keyDown" if "text" in more else "rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **more)

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """Save what is to be seen, or the whole page."""
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))

    def _read(self) -> None:
        rest = b""
        while block := self._receive.read1(1 << 16):
            *messages, rest = (rest + block).split(b"\0")
            for each in messages:
                self._take(json.loads(each))

    def _take(self, message: dict[str, Any]) -> None:
        if "id" in message:
            with self._changed:
                self._answers[message["id"]] = message
                self._changed.notify_all()
            return
        given = message.get("params", {})
        if message["method"] == "Runtime.exceptionThrown":
            self.problems.append(str(given["exceptionDetails"]))
        elif message["method"] == "Runtime.consoleAPICalled" and given["type"] in ("error", "warning", "assert"):
            self.problems.append(str(given["args"]))
        elif message["method"] == "Log.entryAdded" and given["entry"]["level"] in ("error", "warning"):
            self.problems.append(f"{given['entry']['text']} {given['entry'].get('url', '')}")


@contextmanager
def opened(profile: Path) -> Iterator[Page]:
    """Start the browser with a new profile, and end it.

    Args:
        profile: Folder for what it writes.
    """
    assert PROGRAM is not None
    to_child, ours = os.pipe()
    theirs, from_child = os.pipe()
    command = [
        PROGRAM,
        "--headless",
        "--remote-debugging-pipe",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-default-apps",
        "--disable-extensions",
        "--no-proxy-server",
        "--hide-scrollbars",
        f"--user-data-dir={profile}",
        "about:blank",
    ]

    # Moved out of the way, so that neither is 3 or 4 by chance.
    reading, writing = (fcntl.fcntl(each, fcntl.F_DUPFD, 20) for each in (to_child, from_child))
    process = subprocess.Popen(
        [sys.executable, "-S", "-E", "-c", _START, str(reading), str(writing), *command],
        pass_fds=(reading, writing),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for each in (to_child, from_child, reading, writing):
        os.close(each)
    with os.fdopen(ours, "wb") as send, os.fdopen(theirs, "rb") as receive:
        try:
            page = Page(send, receive)
            target = next(each for each in page.call("Target.getTargets")["targetInfos"] if each["type"] == "page")
            found = page.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
            page.session = found["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                page.call(f"{domain}.enable")
            yield page
            page.session = None
            page.call("Browser.close")
        finally:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            page._thread.join(10)
