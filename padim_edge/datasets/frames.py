"""Exact access to the frames of a video by number, in any order. PyAV is imported when a video is opened."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Lock, local
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

from padim_edge.datasets.display_matrix import matrix_of, on_its_side, upright
from padim_edge_artifact import ImageError, PadimEdgeError
from padim_edge_runtime import image_files

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

__all__ = ["ENDINGS", "SUFFIXES", "Clip", "Reader", "scan"]

SUFFIXES = frozenset((".avi", ".mkv", ".mov", ".mp4", ".webm"))
"""File name endings of videos, in lower case."""

ENDINGS = ", ".join(sorted(SUFFIXES))
"""File name endings of videos, for messages."""

OPEN = 2
"""Number of videos that one reader keeps open. Frames are read in order, so only neighbouring videos overlap."""
RECENT = 4
"""Number of decoded frames kept per video. Threads that read in order are seldom farther apart than this."""
FAR = 64
"""Distance in frames from which the reader jumps to a keyframe on the way, instead of decoding all frames between."""

_CONTAINERS = "avi,matroska,webm,mov,mp4"
"""Container formats that are accepted, whatever the ending. FFmpeg would also open images and playlists."""
_TIMELESS = "avi"
"""Container format that stores no presentation times; FFmpeg invents them."""
_MADE_UP = 0x1
"""FFmpeg's flag AVFMT_FLAG_GENPTS, which PyAV sets: invent times that the file does not have."""
_MARGIN = 5
"""Tolerance for the end of a video, in mean frame intervals. The last frame may be shown longer than the others."""


@dataclass(frozen=True, eq=False)
class Clip:
    """A video whose packets have been read once."""

    path: Path
    """The file."""
    count: int
    """Number of frames that the packets hold. In a damaged video, some of them cannot be decoded."""
    times: npt.NDArray[np.int64] | None
    """`(count,)` presentation time of each frame, ascending, in the stream's unit. It identifies a frame. `None` if the
    file stores no times: frames are then counted from the start, and going back means starting again."""
    keys: npt.NDArray[np.int64]
    """Numbers of the keyframes, ascending. Decoding can begin there. Empty without `times`."""
    cut: str
    """Part of the video that is present, for messages; empty for a whole video."""
    matrix: tuple[int, int, int, int]
    """(a, b, c, d) of the display matrix. It maps pixel (x, y) to (a x + c y, b x + d y), up to a shift."""
    rate: float | None
    """Mean number of frames a second; `None` where it is unknown."""
    size: tuple[int, int]
    """(width, height) of the first frame in pixels, upright."""


def scan(path: Path) -> Clip:
    """Read all packets of a video, and return what is needed to read single frames.

    Only the packets tell the number of frames; headers may promise more. This takes as long as reading the file, and
    decodes one frame.

    Raises:
        ImageError: The file is missing, cannot be opened as a video, or has no frame that can be decoded.
        PadimEdgeError: PyAV is not installed.
    """
    container, stream = _open(path)
    with container:
        times: list[int | None] = []
        keys: list[int] = []
        packets = 0
        for packet in _packets(container, stream):
            packets += 1
            if packet.is_discard:  # cut away by an edit list: other frames may depend on it, but it is not shown
                continue
            times.append(packet.pts)
            if packet.is_keyframe and packet.pts is not None:
                keys.append(packet.pts)
        timeless = container.format.name == _TIMELESS and len(keys) < len(times)
        coding = stream.codec_context.name
        known = np.array(sorted({time for time in times if time is not None}), np.int64)
        cut = _cut(container, stream, packets, known)
        rate = _rate(stream, known)
    first = _first(path)
    if first is None:
        raise ImageError(
            f"{path} has no frame that can be decoded, of {len(times)} coded as {coding}; expected a whole video, so "
            "copy or record it again"
        )
    exact = not timeless and len(known) == len(times) and first.pts == known[0]
    matrix = matrix_of(first)
    return Clip(
        path=path,
        count=len(times),
        times=known if exact else None,
        keys=np.searchsorted(known, np.array(sorted(keys) if exact else [], np.int64)),
        cut=cut,
        matrix=matrix,
        rate=rate,
        size=(first.height, first.width) if on_its_side(matrix) else (first.width, first.height),
    )


class Reader:
    """Reader for frames of several videos. Threads may share it. It is fast when frames are read nearly in order."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._decoders: OrderedDict[Clip, _Decoder] = OrderedDict()
        self._local = local()

    def read(self, clip: Clip, number: int) -> image_files.Decoded:
        """Return one frame, upright and in RGB.

        Args:
            clip: The video.
            number: Number of the frame in the order of presentation, from 0 to `clip.count - 1`.

        Raises:
            ImageError: The frame cannot be decoded, or is too small.
        """
        with self._lock:
            frame = self._decoder(clip).frame(number)
        name = f"frame {number} of {clip.path}"
        if frame is None:
            raise ImageError(f"{name} cannot be decoded; expected a whole video, so copy or record it again")
        if min(frame.width, frame.height) < image_files.SMALLEST_SIDE:
            raise ImageError(
                f"{name} has {frame.width}x{frame.height} pixels, expected at least {image_files.SMALLEST_SIDE} a side"
            )
        return image_files.Decoded(Image.fromarray(upright(self._rgb(frame, name), clip.matrix)), ())

    def _decoder(self, clip: Clip) -> _Decoder:
        """Return the decoder of a video. Where too many are open, close the one that was used longest ago."""
        found = self._decoders.pop(clip, None) or _Decoder(clip)
        self._decoders[clip] = found
        if len(self._decoders) > OPEN:
            _, oldest = self._decoders.popitem(last=False)
            oldest.close()
        return found

    def _rgb(self, frame: VideoFrame, name: str) -> npt.NDArray[np.uint8]:
        """Convert a frame to `(height, width, 3)` RGB. No lock is held: one thread converts while another decodes."""
        from av.error import FFmpegError
        from av.video.reformatter import VideoReformatter

        if not hasattr(self._local, "reformatter"):  # kept, since it is slow to make; not shared between threads
            self._local.reformatter = VideoReformatter()
        try:
            pixels: npt.NDArray[np.uint8] = self._local.reformatter.reformat(frame, format="rgb24").to_ndarray()
        except (FFmpegError, ValueError) as error:
            raise ImageError(
                f"{name} has {frame.format.name} pixels, which cannot be converted to RGB ({error}); convert the "
                "video, for example to H.264"
            ) from error
        return pixels


class _Decoder:
    """Decoder of one video. The file is open from the first frame that is read to the last frame of the video."""

    def __init__(self, clip: Clip) -> None:
        self._clip = clip
        self._opened: tuple[InputContainer, VideoStream] | None = None
        self._frames: Iterator[tuple[int, VideoFrame]] = iter(())
        self._next = 0
        """Lowest number that the decoder may still yield."""
        self._whole = True
        """Whether decoding began at the start. A frame that has not come by its turn is then lost."""
        self._seekable = clip.times is not None
        self._recent: OrderedDict[int, VideoFrame] = OrderedDict()
        self._lost = bytearray(clip.count)
        """1 for each frame that is known to be lost."""

    def frame(self, number: int) -> VideoFrame | None:
        """Return a frame by its number; `None` if it cannot be decoded."""
        if number in self._recent:
            return self._recent[number]
        if self._lost[number]:
            return None
        if not self._ahead(number):
            self._jump(number)
        found = self._forward(number)
        if found is None and not self._whole:
            # Some files mark frames as keyframes that are none. The frame may still be decodable from the start.
            self._seekable = False
            self._rewind()
            found = self._forward(number)
        return found

    def close(self) -> None:
        """Close the file. It is opened again when another frame is read."""
        self._frames = iter(())  # goes before the container that it reads from
        if self._opened is not None:
            self._opened[0].close()
        self._opened = None

    def _ahead(self, number: int) -> bool:
        """Tell whether decoding on from here is the best way to a frame."""
        if self._opened is None or number < self._next:
            return False
        return not self._seekable or number - self._next < FAR or self._key(number) <= self._next

    def _key(self, number: int) -> int:
        """Return the number of the last keyframe at or before this frame."""
        before = int(np.searchsorted(self._clip.keys, number, side="right"))
        return int(self._clip.keys[before - 1]) if before else 0

    def _jump(self, number: int) -> None:
        """Go to the keyframe before this frame. Go to the start if that is as near, or if seeking fails."""
        from av.error import FFmpegError

        times, key = self._clip.times, self._key(number)
        if not self._seekable or times is None or key == 0:
            self._rewind()
            return
        self._frames = iter(())
        self._opened = self._opened or _open(self._clip.path)
        container, stream = self._opened
        try:
            container.seek(int(times[key]), stream=stream)
        except FFmpegError:
            first = None
        else:
            packets = _packets(container, stream)
            first = next(packets, None)
        if first is None or not first.is_keyframe or first.pts is None or first.pts > times[number]:
            self._seekable = False
            self._rewind()
            return
        # A frame shown before the keyframe and stored after it may depend on earlier packets.
        self._next, self._whole = int(np.searchsorted(times, first.pts)), False
        self._frames = self._numbered(itertools.chain((first,), packets), stream)

    def _rewind(self) -> None:
        """Go to the start. The file is opened again, because seeking may be what fails."""
        self.close()
        container, stream = self._opened = _open(self._clip.path)
        self._next, self._whole = 0, True
        self._frames = self._numbered(_packets(container, stream), stream)

    def _forward(self, number: int) -> VideoFrame | None:
        """Decode on to this frame, or past its place. Return it, or `None` if it did not come."""
        while self._next <= number:
            come, frame = next(self._frames, (self._clip.count, None))
            if self._whole:
                self._lost[self._next : come] = b"\1" * (come - self._next)
            if frame is not None:
                self._recent[come] = frame
                if len(self._recent) > RECENT:
                    self._recent.popitem(last=False)
            self._next = come + 1
        if self._next >= self._clip.count:
            self.close()
        return self._recent.get(number)

    def _numbered(
        self, packets: Iterable[Packet[VideoStream]], stream: VideoStream
    ) -> Iterator[tuple[int, VideoFrame]]:
        """Yield decoded frames with their numbers, ascending. Corrupt frames and frames out of order are skipped."""
        times, count = self._clip.times, self._clip.count
        for turn, frame in enumerate(_decoded(packets, stream)):
            number = turn
            if times is not None:
                if frame.pts is None:
                    continue
                number = int(np.searchsorted(times, frame.pts))
                if number < self._next or number == count or times[number] != frame.pts:
                    continue
            if number < count and not frame.is_corrupt:
                yield number, frame


def _open(path: Path) -> tuple[InputContainer, VideoStream]:
    """Open a video, and return its container and its best stream of images."""
    try:
        import av
    except ImportError as error:
        raise PadimEdgeError(
            f"reading the video {path} takes PyAV, which cannot be imported ({error}); install it with pip install "
            '"padim-edge[video]"'
        ) from error
    allowed = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}
    try:
        container = av.open(
            f"file:{path}", container_options=allowed
        )  # without file: a name with a colon would be taken for an address
    except FileNotFoundError:
        raise ImageError(f"{path} does not exist; expected a video") from None
    except (av.error.FFmpegError, OSError) as error:
        what = f"cannot be opened as a video ({error.strerror})"
        if isinstance(error, av.error.ArgumentError):  # FFmpeg's error for a format that is not allowed
            what = "is no video of a known kind"
        elif path.is_file() and not path.stat().st_size:
            what = "is empty (0 bytes)"
        raise ImageError(f"{path} {what}; expected a whole {ENDINGS}, so copy, record or convert it again") from None
    stream = container.streams.best("video")
    if not isinstance(stream, av.VideoStream) or stream.codec_context is None:
        container.close()
        lacking = "no images" if stream is None else "images in a coding that PyAV cannot decode"
        raise ImageError(f"{path} holds {lacking}; expected a video, so convert it, for example to H.264")
    container.flags &= ~_MADE_UP
    return container, stream


def _packets(container: InputContainer, stream: VideoStream) -> Iterator[Packet[VideoStream]]:
    """Yield the intact packets of a video, from the current position to the end or to where it breaks off."""
    from av.error import FFmpegError

    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except FFmpegError:
            return
        if packet is None:
            return
        # An empty packet repeats a frame or marks the end. A decoder would always take it for the end.
        if packet.size and not packet.is_corrupt:
            yield packet


def _decoded(packets: Iterable[Packet[VideoStream]], stream: VideoStream) -> Iterator[VideoFrame]:
    """Yield the frames of packets in the order of presentation, without those that cannot be decoded."""
    from av.error import FFmpegError

    for packet in itertools.chain(packets, (None,)):  # None asks the decoder for the frames that it still holds
        try:
            yield from stream.decode(packet)
        except FFmpegError:
            continue


def _first(path: Path) -> VideoFrame | None:
    """Return the first frame that can be decoded."""
    container, stream = _open(path)
    with container:
        return next(_decoded(_packets(container, stream), stream), None)


def _cut(container: InputContainer, stream: VideoStream, packets: int, times: npt.NDArray[np.int64]) -> str:
    """Describe the part that is present of a video that breaks off; return "" for a whole video.

    MP4 and MOV list the place of every packet. MKV and WebM state their duration.
    """
    if container.format.name == _TIMELESS:
        return ""  # the header counts ticks, and some ticks have no frame
    if container.format.name.startswith("mov"):
        promised = len(stream.index_entries)
        return f"{packets} of its {promised} frames" if packets < promised else ""
    if len(container.streams) > 1 or container.duration is None or stream.time_base is None or len(times) < 2:
        return ""  # sound may last longer than the images
    first, last = (float(times[at]) * float(stream.time_base) for at in (0, -1))
    end = container.duration / 1e6
    late = end - last > _MARGIN * (last - first) / (len(times) - 1)
    return f"the first {last:.1f} of its {end:.1f} seconds" if late else ""


def _rate(stream: VideoStream, times: npt.NDArray[np.int64]) -> float | None:
    """Compute the mean number of frames a second, from the frames' times if there are any."""
    if len(times) > 1 and stream.time_base:
        return float((len(times) - 1) / (int(times[-1] - times[0]) * stream.time_base))
    return float(stream.average_rate) if stream.average_rate else None
