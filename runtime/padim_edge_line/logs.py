"""Logs on stderr: sentences for a terminal, JSON lines for a machine. Neither holds a secret or a path."""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import datetime, timezone

from padim_edge_runtime.terminal_text import visible

__all__ = ["NOISY", "set_up", "without_secrets"]

_IN_URL = re.compile(r"(?<=://)[^/@\s]+@")
_NAMED = re.compile(
    r"(?i)\b(authorization:?\s+(?:bearer|basic)\s+|(?:token|password|secret|pass|pwd)[\"']?\s*[=:]\s*[\"']?)[^\s\"'&,}]+"
)
NOISY = {"asyncua": logging.ERROR, "pymodbus": logging.CRITICAL, "uvicorn": logging.WARNING, "httpx": logging.WARNING}
"""Loggers of libraries that say too much, and the level from which they are heard."""


def set_up(*, as_json: bool, verbose: bool = False) -> None:
    """Send logs to stderr.

    Args:
        as_json: Whether each message is a JSON object on a line.
        verbose: Whether messages of little weight are sent, too.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if as_json else _Sentence())
    root = logging.getLogger()
    for each in root.handlers[:]:
        root.removeHandler(each)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("padim_edge_line").setLevel(logging.DEBUG if verbose else logging.INFO)
    for name, level in NOISY.items():
        logging.getLogger(name).setLevel(level)
    logging.raiseExceptions = False  # a full disk behind stderr is nobody's fault here


def without_secrets(text: str) -> str:
    """Return a text with the passwords of URLs, and all that follows words such as `token=`, replaced by stars."""
    return _NAMED.sub(r"\1***", _IN_URL.sub("***@", text))


class _Sentence(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        told = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        text = f"padim-edge: {told}{record.getMessage()}"
        if record.exc_info:
            text += f"\n{self.formatException(record.exc_info)}"
        return "\n".join(visible(line) for line in without_secrets(text).splitlines())


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds")
        content = {
            "time": time.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": without_secrets(record.getMessage()),
        }
        if record.exc_info:
            content["exception"] = without_secrets(self.formatException(record.exc_info))
        return json.dumps(content)
