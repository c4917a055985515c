"""Cameras that fail in every way, for tests. The first pixel of a frame tells its number."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["FaultyCamera", "camera"]


class FaultyCamera:
    """A camera with an option for each fault; `log` names a file that notes each process and frame."""

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        self._url, self._options, self._number = url, options, 0
        self.on_demand = bool(options.get("on_demand", False))
        if "queue" in options:  # frames that were taken long before they are given
            self.captured = 0.0
        print("a driver that talks on stdout")

    def open(self) -> None:
        fault = self._options.get("open")
        if fault == "raise":
            raise ConnectionError(f"cannot reach {self._url} with {self._options.get('password')}")
        if fault == "hang":
            time.sleep(1000)
        self._note("open")

    def grab(self) -> np.ndarray | None:
        time.sleep(float(self._options.get("period", 0.01)))
        self._number += 1
        if self._number > int(self._options.get("frames", 1 << 60)):
            return self._end()
        self._note(f"frame {self._number}")
        if "queue" in self._options:
            self.captured = time.monotonic() - float(self._options["queue"])
        frame = np.full((48, 64, 3), 128, np.uint8)
        frame[0, 0] = self._number % 256
        return frame.astype(np.float32) if self._options.get("wrong") else frame

    def _end(self) -> np.ndarray | None:
        fault = self._options.get("then", "end")
        if fault == "crash":
            ctypes.string_at(0)
        if fault == "hang":
            time.sleep(1000)
        if fault == "deaf":  # with the interpreter's lock, as a driver may
            ctypes.PyDLL(None).sleep(1000)
        if fault == "raise":
            raise OSError(5, "the cable was pulled", "/opt/driver/secret")
        return None

    def _note(self, what: str) -> None:
        if "log" in self._options:
            with Path(self._options["log"]).open("a") as file:
                file.write(f"{os.getpid()} {what}\n")

    def close(self) -> None:
        self._note("close")


def camera(url: str, options: Mapping[str, Any]) -> FaultyCamera:
    return FaultyCamera(url, options)
