"""The page of examples/web with what npm fetches for it, served to a real Chromium."""

from __future__ import annotations

import base64
import importlib.util
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from line.chromium import Page

__all__ = ["Answer", "judged", "load", "serve", "served", "site"]

SOURCE = Path(__file__).parents[2] / "examples" / "web"

UNREACHABLE = re.compile(r"\b(ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ENETUNREACH|ETIMEDOUT|ENOTCACHED)\b")
"""Words of npm where there is no registry."""
PATIENCE = 240
"""Seconds that npm may take."""

_LOAD = """(async () => {
  const { start } = await import("./client.js"), { fromServer } = await import("./models.js");
  globalThis.opened?.stop();
  globalThis.opened = start();
  const { model, data } = await fromServer(MODEL);
  return { ...(await opened.load({ model, data, threads: THREADS })), isolated: crossOriginIsolated };
})()"""

_JUDGE = """(async () => {
  const bytes = Uint8Array.from(atob("IMAGE"), (each) => each.charCodeAt(0));
  const { inspection, map, plain, heat } = await opened.judge({ blob: new Blob([bytes]), levels: null });
  plain.close();
  heat.close();
  let text = "";
  for (const each of new Uint8Array(map.buffer)) text += String.fromCharCode(each);
  return { inspection, map: btoa(text) };
})()"""

Answer = dict[str, Any]


def _module() -> Any:
    spec = importlib.util.spec_from_file_location("web_serve", SOURCE / "serve.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


serve = _module()


def site(folder: Path) -> Path:
    """Copy the page to a folder and run the documented command there; skip where npm cannot."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    there = folder / "web"
    shutil.copytree(SOURCE, there, ignore=shutil.ignore_patterns("node_modules", "__pycache__"))
    command = f"timeout {PATIENCE} npm install --ignore-scripts --no-audit --no-fund --fetch-retries=0".split()
    done = subprocess.run(command, cwd=there, capture_output=True, text=True, check=False)
    if done.returncode == 124:
        pytest.skip(f"npm did not fetch onnxruntime-web within {PATIENCE} s")
    if done.returncode and UNREACHABLE.search(done.stderr):
        pytest.skip(f"npm cannot reach its registry: {' '.join(done.stderr.split())[-300:]}")
    assert done.returncode == 0, done.stderr
    return there


@contextmanager
def served(files: dict[str, Path]) -> Iterator[tuple[str, Any]]:
    """Serve files on a free port, and give the address and the server."""
    server = serve.server(files, "127.0.0.1", 0)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/", server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def load(page: Page, model: str, threads: int) -> Answer:
    """Load a model of the server in the page's own worker, and return what was found about it."""
    found = page.evaluate(_LOAD.replace("MODEL", json.dumps(f"models/{model}")).replace("THREADS", str(threads)))
    assert isinstance(found, dict)
    return found


def judged(page: Page, image: bytes) -> tuple[Answer, np.ndarray]:
    """Judge an encoded image in the page's own worker: the inspection, and the values of the map in the frame."""
    found = page.evaluate(_JUDGE.replace("IMAGE", base64.b64encode(image).decode()))
    return found["inspection"], np.frombuffer(base64.b64decode(found["map"]), np.float32)
