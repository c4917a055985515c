"""USB cameras, streams and video files, through PyAV."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from padim_edge_artifact import PadimEdgeError

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.video.stream import VideoStream

__all__ = ["AvCamera", "is_file"]

_OWN = ("realtime", "delay_s")
"""Names of the options that are not FFmpeg's."""
_CONNECT_S, _READ_S = 10.0, 10.0
"""Seconds that FFmpeg may wait for a connection, and for data."""
_WINDOW_S = 30.0
"""Seconds after which the relation of the camera's clock to ours is found anew: they drift."""


def is_file(url: str) -> bool:
    """Tell whether an address is that of a video file."""
    return not re.match(r"[\w+.-]+://", url) and Path(url).is_file()


class _Deferred:
    """A frame whose colours are converted only if somebody wants its pixels."""

    def __init__(self, frame: av.VideoFrame) -> None:
        self._frame = frame

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[np.uint8]:
        return np.asarray(self._frame.to_ndarray(format="rgb24"), np.uint8)


class AvCamera:
    """Camera, stream or file that FFmpeg can open.

    Args:
        url: Such as `/dev/video0`, `rtsp://camera/stream` or a video file.
        options: `realtime`: whether a file is played at its own speed, like a camera, instead of frame by frame;
            `delay_s`: seconds from the exposure to the arrival of a frame, at least. All others are FFmpeg's.
    """

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        self._url = url
        self._options = options
        self._file = is_file(url)
        self._realtime = bool(options.get("realtime", False))
        self._delay = float(options.get("delay_s", 0.0))
        self._container: InputContainer | None = None
        self._frames: Iterator[av.VideoFrame] = iter(())
        self._clock = _Clock()
        self._start: tuple[float, float] | None = None
        self.on_demand = self._file and not self._realtime
        """Whether no frame may be left out."""
        self.captured = 0.0
        """Time of the exposure of the last frame, as far as it can be known, from `time.monotonic`."""

    def open(self) -> None:
        """Connect.

        Raises:
            PadimEdgeError: PyAV is missing, or there is no video.
            OSError: FFmpeg cannot open it.
        """
        try:
            import av
            import av.logging
        except ImportError as error:
            raise PadimEdgeError("cameras need PyAV; pip install padim-edge-runtime[camera]") from error
        av.logging.set_level(None)  # it prints addresses
        given = {name: str(value) for name, value in self._options.items() if name not in _OWN}
        form = "v4l2" if self._url.startswith("/dev/video") else None
        if not self._file:
            given = {"fflags": "nobuffer+discardcorrupt", "flags": "low_delay", **given}
        if self._url.startswith("rtsp"):
            given = {"rtsp_transport": "tcp", **given}
        container = av.open(self._url, "r", format=form, options=given, timeout=(_CONNECT_S, _READ_S))
        self._container = container
        if not container.streams.video:
            raise PadimEdgeError("there is no video in it; check the address")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO" if self.on_demand else "SLICE"  # threads for whole frames delay a stream
        self._frames = container.decode(stream) if self._file else _from_a_stream(container, stream)
        self._clock, self._start = _Clock(), None

    def grab(self) -> npt.NDArray[np.uint8] | None:
        """Wait for the next frame; `None` at the end of a file."""
        for frame in self._frames:
            arrived = time.monotonic()
            if frame.is_corrupt and not self._file:
                continue
            if self._file and self._realtime and frame.time is not None:
                self._pace(frame.time)
                arrived = time.monotonic()
            if not self._file:
                arrived = (arrived if frame.time is None else self._clock.ours(frame.time, arrived)) - self._delay
            self.captured = arrived
            return _Deferred(frame)  # type: ignore[return-value] # it becomes an array where it is wanted
        if self._file:
            return None
        raise PadimEdgeError("the stream has ended")

    def close(self) -> None:
        """Disconnect."""
        if self._container is not None:
            self._container.close()
            self._container = None

    def _pace(self, shot: float) -> None:
        """Wait until a frame of a file is due."""
        if self._start is None:
            self._start = (shot, time.monotonic())
        first, start = self._start
        time.sleep(max(0.0, start + shot - first - time.monotonic()))


def _from_a_stream(container: InputContainer, stream: VideoStream) -> Iterator[av.VideoFrame]:
    """Yield the frames of a stream. Packets before the first whole picture, and damaged ones, are left out."""
    from av.error import InvalidDataError

    for packet in container.demux(stream):
        try:
            yield from packet.decode()
        except InvalidDataError:  # a stream that is joined in the middle begins with differences to a picture
            continue


class _Clock:
    """Relation of a camera's clock to ours, from the frames that came with the least delay of late."""

    def __init__(self) -> None:
        self._since = 0.0
        self._before = self._least = float("inf")

    def ours(self, shot: float, arrived: float) -> float:
        """Return the time of an exposure on our clock: a frame that waited in a queue is older than its arrival."""
        if arrived - self._since > _WINDOW_S:
            self._since, self._before, self._least = arrived, self._least, float("inf")
        self._least = min(self._least, arrived - shot)
        return min(arrived, shot + min(self._before, self._least))
