"""A frame of a video by its number, exactly, however it is asked for. PyAV is imported when a video is opened."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Lock, local
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from padim_edge_artifact import ImageError, PadimEdgeError
from padim_edge_runtime import image_files

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

__all__ = ["ENDINGS", "SUFFIXES", "Clip", "Reader", "scan"]

SUFFIXES = frozenset((".avi", ".mkv", ".mov", ".mp4", ".webm"))
"""Endings, in lower case, by which videos are found."""

ENDINGS = ", ".join(sorted(SUFFIXES))
"""The same, for messages."""

OPEN = 2
"""Videos that one reader keeps open: frames are asked for in order, so only neighbours overlap."""
RECENT = 4
"""Decoded frames kept of each: threads that read in order are seldom farther apart, and then decode anew."""
FAR = 64
"""Frames. What is asked for farther ahead is jumped to, where there is a keyframe on the way."""

_CONTAINERS = "avi,matroska,webm,mov,mp4"
"""What may be in a file, whatever its ending. FFmpeg would open images, too, and playlists that lead elsewhere."""
_TIMELESS = "avi"
"""The one of them that stores no times of presentation; FFmpeg makes them up."""
_MADE_UP = 0x1
"""FFmpeg's flag AVFMT_FLAG_GENPTS, which PyAV sets: to make up times that a file does not have."""
_MARGIN = 5
"""Mean frame intervals by which a video may end before its file says so: the last frame may last longer."""


@dataclass(frozen=True, eq=False)
class Clip:
    """A video whose packets have been looked through."""

    path: Path
    count: int
    """Frames that its packets amount to; of a damaged video, some of these turn out not to be decodable."""
    times: npt.NDArray[np.int64] | None
    """`(count,)` when each frame is shown, ascending, in the stream's unit: what frames are known by. `None` where the
    file does not tell: then they are counted from the start, and going back is starting anew."""
    keys: npt.NDArray[np.int64]
    """Numbers of the keyframes, ascending, at which decoding can begin; none without `times`."""
    cut: str
    """How much is there of a video that breaks off, for messages; mostly empty."""
    matrix: tuple[int, int, int, int]
    """(a, b, c, d) of the display matrix, which takes pixel (x, y) to (a x + c y, b x + d y), up to a shift."""


def scan(path: Path) -> Clip:
    """Look through the packets of a video: only these tell how many frames there are, headers promise too much.

    Takes as long as reading the file; one frame is decoded.

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
            if packet.is_discard:  # cut away by an edit list: decoded for the sake of others, and not shown
                continue
            times.append(packet.pts)
            if packet.is_keyframe and packet.pts is not None:
                keys.append(packet.pts)
        timeless = container.format.name == _TIMELESS and len(keys) < len(times)
        coding = stream.codec_context.name
        known = np.array(sorted({time for time in times if time is not None}), np.int64)
        cut = _cut(container, stream, packets, known)
    first = _first(path)
    if first is None:
        raise ImageError(
            f"{path} has no frame that can be decoded, of {len(times)} coded as {coding}; expected a whole video, so "
            "copy or record it again"
        )
    exact = not timeless and len(known) == len(times) and first.pts == known[0]
    return Clip(
        path=path,
        count=len(times),
        times=known if exact else None,
        keys=np.searchsorted(known, np.array(sorted(keys) if exact else [], np.int64)),
        cut=cut,
        matrix=_matrix(first),
    )


class Reader:
    """Reads frames of several videos, for several threads, and fast where they are asked for nearly in order."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._decoders: OrderedDict[Clip, _Decoder] = OrderedDict()
        self._local = local()

    def read(self, clip: Clip, number: int) -> image_files.Decoded:
        """One frame, upright and in RGB.

        Args:
            clip: The video.
            number: Of the frame as they are shown, from 0, below `clip.count`.

        Raises:
            ImageError: It cannot be decoded, or is tiny.
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
        return image_files.Decoded(Image.fromarray(_upright(self._rgb(frame, name), clip.matrix)), ())

    def _decoder(self, clip: Clip) -> _Decoder:
        found = self._decoders.pop(clip, None) or _Decoder(clip)
        self._decoders[clip] = found
        if len(self._decoders) > OPEN:
            _, oldest = self._decoders.popitem(last=False)
            oldest.close()
        return found

    def _rgb(self, frame: VideoFrame, name: str) -> npt.NDArray[np.uint8]:
        """`(height, width, 3)`. Outside of the lock, so that one thread converts while another one decodes."""
        from av.error import FFmpegError
        from av.video.reformatter import VideoReformatter

        if not hasattr(self._local, "reformatter"):  # to be kept, since it is slow to make, but not to be shared
            self._local.reformatter = VideoReformatter()
        try:
            pixels: npt.NDArray[np.uint8] = self._local.reformatter.reformat(frame, format="rgb24").to_ndarray()
        except (FFmpegError, ValueError) as error:
            raise ImageError(
                f"{name} has {frame.format.name} pixels, which cannot be brought to RGB ({error}); convert the video, "
                "such as to H.264"
            ) from error
        return pixels


class _Decoder:
    """One video, decoded up to some frame. Open from the first frame that is asked for to the last one there is."""

    def __init__(self, clip: Clip) -> None:
        self._clip = clip
        self._opened: tuple[InputContainer, VideoStream] | None = None
        self._frames: Iterator[tuple[int, VideoFrame]] = iter(())
        self._next = 0
        """The lowest number that may still come."""
        self._whole = True
        """Whether decoding began at the start, so that what did not come does not exist."""
        self._seekable = clip.times is not None
        self._recent: OrderedDict[int, VideoFrame] = OrderedDict()
        self._lost = bytearray(clip.count)
        """1 for each frame that does not exist, as far as is known."""

    def frame(self, number: int) -> VideoFrame | None:
        """That frame; `None` where it cannot be decoded."""
        if number in self._recent:
            return self._recent[number]
        if self._lost[number]:
            return None
        if not self._ahead(number):
            self._jump(number)
        found = self._forward(number)
        if found is None and not self._whole:
            # Not every keyframe of every file is one. What is lost this way may be there from the start.
            self._seekable = False
            self._rewind()
            found = self._forward(number)
        return found

    def close(self) -> None:
        """Leave the file. It is opened again when another frame is asked for."""
        self._frames = iter(())  # before what it reads from
        if self._opened is not None:
            self._opened[0].close()
        self._opened = None

    def _ahead(self, number: int) -> bool:
        """Whether the way there is to decode on."""
        if self._opened is None or number < self._next:
            return False
        return not self._seekable or number - self._next < FAR or self._key(number) <= self._next

    def _key(self, number: int) -> int:
        """The last keyframe up to this frame."""
        before = int(np.searchsorted(self._clip.keys, number, side="right"))
        return int(self._clip.keys[before - 1]) if before else 0

    def _jump(self, number: int) -> None:
        """Go to the keyframe before this frame; to the start where that is as good, or where seeking fails."""
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
        # Frames that are shown before the keyframe and coded after it may need what lies before it.
        self._next, self._whole = int(np.searchsorted(times, first.pts)), False
        self._frames = self._numbered(itertools.chain((first,), packets), stream)

    def _rewind(self) -> None:
        """Go to the start. By opening anew, since seeking may be what does not work."""
        self.close()
        container, stream = self._opened = _open(self._clip.path)
        self._next, self._whole = 0, True
        self._frames = self._numbered(_packets(container, stream), stream)

    def _forward(self, number: int) -> VideoFrame | None:
        """Decode on, to this frame or past where it would have been."""
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
        """Frames that are in order, with their numbers."""
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
    """A video and its best stream of images."""
    try:
        import av
    except ImportError as error:
        raise PadimEdgeError(
            f"reading the video {path} takes PyAV, which cannot be imported ({error}); install it with pip install "
            '"padim-edge[video]"'
        ) from error
    allowed = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}
    try:
        container = av.open(f"file:{path}", container_options=allowed)  # a name with a colon would be an address
    except FileNotFoundError:
        raise ImageError(f"{path} does not exist; expected a video") from None
    except (av.error.FFmpegError, OSError) as error:
        what = f"cannot be opened as a video ({error.strerror})"
        if isinstance(error, av.error.ArgumentError):  # what FFmpeg makes of a format that is not allowed
            what = "is no video of a known kind"
        elif path.is_file() and not path.stat().st_size:
            what = "is empty (0 bytes)"
        raise ImageError(f"{path} {what}; expected a whole {ENDINGS}, so copy, record or convert it again") from None
    stream = container.streams.best("video")
    if not isinstance(stream, av.VideoStream) or stream.codec_context is None:
        container.close()
        lacking = "no images" if stream is None else "images in a coding that PyAV cannot decode"
        raise ImageError(f"{path} holds {lacking}; expected a video, such as one in H.264")
    container.flags &= ~_MADE_UP
    return container, stream


def _packets(container: InputContainer, stream: VideoStream) -> Iterator[Packet[VideoStream]]:
    """What is whole of a video, from where its container stands to the end or to where it breaks off."""
    from av.error import FFmpegError

    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except FFmpegError:
            return
        if packet is None:
            return
        # Empty ones stand for a frame that is shown on, or for the end; a decoder would take them for the end.
        if packet.size and not packet.is_corrupt:
            yield packet


def _decoded(packets: Iterable[Packet[VideoStream]], stream: VideoStream) -> Iterator[VideoFrame]:
    """Their frames as they are shown, without those that cannot be decoded."""
    from av.error import FFmpegError

    for packet in itertools.chain(packets, (None,)):  # at last, what the decoder has kept back
        try:
            yield from stream.decode(packet)
        except FFmpegError:
            continue


def _first(path: Path) -> VideoFrame | None:
    container, stream = _open(path)
    with container:
        return next(_decoded(_packets(container, stream), stream), None)


def _cut(container: InputContainer, stream: VideoStream, packets: int, times: npt.NDArray[np.int64]) -> str:
    """How much is there of a video that breaks off, else nothing.

    MP4 and MOV list where all packets should be, and MKV and WebM say how long they last.
    """
    if container.format.name == _TIMELESS:
        return ""  # its header counts ticks, some of which have no frame
    if container.format.name.startswith("mov"):
        promised = len(stream.index_entries)
        return f"{packets} of its {promised} frames" if packets < promised else ""
    if len(container.streams) > 1 or container.duration is None or stream.time_base is None or len(times) < 2:
        return ""  # sound may go on for longer
    first, last = (float(times[at]) * float(stream.time_base) for at in (0, -1))
    end = container.duration / 1e6
    late = end - last > _MARGIN * (last - first) / (len(times) - 1)
    return f"the first {last:.1f} of its {end:.1f} seconds" if late else ""


def _matrix(frame: VideoFrame) -> tuple[int, int, int, int]:
    """Asked of one frame of a video only: to look at its side data keeps a frame until the garbage is collected."""
    found: Any = frame.side_data.get("DISPLAYMATRIX")
    if found is None:
        return 1, 0, 0, 1
    a, b, _, c, d = np.frombuffer(found, np.int32)[:5].tolist()
    return a, b, c, d


def _upright(pixels: npt.NDArray[np.uint8], matrix: tuple[int, int, int, int]) -> npt.NDArray[np.uint8]:
    """Mirrored and turned by the right angles that are the nearest to what the display matrix says."""
    a, b, c, d = matrix
    if abs(a) + abs(d) < abs(b) + abs(c):
        pixels, a, d = pixels.swapaxes(0, 1), c, b
    return np.ascontiguousarray(pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])
