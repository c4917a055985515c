"""JPEG streams that end early. The decoder fills the missing blocks with grey or with the coarser scans before them."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from PIL import Image

__all__ = ["check", "check_head"]

_BASELINE, _PROGRESSIVE = frozenset((0xC0, 0xC1)), 0xC2
"""Markers of frames with one pass of Huffman codes, and with several."""
_SCAN, _END, _INTERVAL = 0xDA, 0xD9, 0xDD
"""Markers of a scan, of the end of the image, and of the distance of restarts."""
_EXIF, _ALONE = 0xE1, 0x01
"""Markers of a part of the EXIF data, and of nothing, which has no length."""
MOST_SEGMENTS, MOST_EXIF, MOST_SCANS = 10_000, 64, 50
"""Largest number of segments, of parts of the EXIF data, and of scans. Ten scans are usual. Each costs a pass over the
whole image."""
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
"""Next marker within the codes of a scan."""
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")

_CORNER = 4
"""Side in pixels of the corner that is flat where the last block is missing."""
_MORE = np.random.default_rng(0).integers(0, 0xFF, 512, np.uint8).tobytes()
"""Codes that change an image only if blocks are missing."""


@dataclass(frozen=True)
class _Scan:
    """One pass over the image."""

    components: int
    """Number of components in it."""
    spectrum: tuple[int, int]
    """First and last coefficient, 0 to 63."""
    lowest_bit: int
    """Lowest bit of the coefficients that it brings."""
    ids: bytes
    """Names of the components, one byte each."""
    restarts: int
    """Number of restarts in its codes."""


@dataclass(frozen=True)
class _Stream:
    """The structure of a JPEG."""

    frame: int
    """Marker of the frame."""
    size: tuple[int, int]
    """(width, height) in pixels."""
    sampling: dict[int, tuple[int, int]]
    """(across, down) of each component by its name."""
    interval: int
    """Number of blocks between restarts; 0 without restarts."""
    scans: tuple[_Scan, ...]
    """Passes over the image, in order."""
    end: int
    """Position of the end marker."""


def check(image: Image.Image, file: BinaryIO) -> None:
    """Refuse a decoded image whose stream ends early.

    Args:
        image: The decoded image.
        file: The file that it was decoded from.

    Raises:
        ValueError: Blocks or scans are missing.
    """
    if not image.info.get("progressive") and not _flat(image):
        return
    file.seek(0)
    content = file.read()
    stream = _parsed(content)
    if stream is None:  # arithmetic codes and the like
        return
    if stream.frame == _PROGRESSIVE:
        _check_scans(stream)
    _check_restarts(stream)
    longer = content[: stream.end] + _MORE + content[stream.end :]
    if stream.frame == _PROGRESSIVE:  # whose last scans bring what an eighth of the size does not show
        same = _decoded(longer, 1) == image.tobytes()
    else:
        same = _decoded(longer, 8) == _decoded(content, 8)
    if not same:
        raise ValueError("its pixels end early")


def check_head(file: BinaryIO) -> None:
    """Refuse a JPEG of very many segments or scans before it is opened. Each takes a few bytes, and much time.

    Raises:
        ValueError: There are too many.
    """
    place, exif, frame, components = 2, 0, 0, 0
    for _ in range(MOST_SEGMENTS):
        file.seek(place)
        head = file.read(18)
        if len(head) < 4:
            return
        if head[:2] == b"\xff\xff":  # filling
            place += 1
            continue
        marker, length = head[1], int.from_bytes(head[2:4], "big")
        if head[0] != 0xFF or marker in (0, _END):
            break
        if marker in (*_BASELINE, _PROGRESSIVE):
            frame, components = marker, head[9]
        if marker == _SCAN:
            if frame in _BASELINE and head[4] == components:
                return  # the decoder reads no other scan
            break
        exif += marker == _EXIF and head[4:8] == b"Exif"
        if exif > MOST_EXIF:
            raise ValueError(f"its EXIF data has more than {MOST_EXIF} parts")
        place += 2 if marker == _ALONE else 2 + max(2, length)
    file.seek(0)
    scans = 0  # as the decoder finds them, also behind what it skips
    for number, (marker, _, _) in enumerate(_segments(file.read())):
        scans += marker == _SCAN
        if scans > MOST_SCANS or number > MOST_SEGMENTS:
            raise ValueError(f"it has more than {MOST_SCANS} scans or {MOST_SEGMENTS} segments")


def _flat(image: Image.Image) -> bool:
    """Tell whether the last pixels are all alike, as they are where the last block is missing."""
    width, height = image.size
    across, down = _corner(width), _corner(height)
    if not across or not down:
        return True  # nobody can tell
    corner = image.crop((width - across, height - down, width, height))
    pixels = np.asarray(corner).reshape(across * down, -1)
    return bool((pixels == pixels[0]).all())


def _corner(side: int) -> int:
    """Return the part of a side that lies in the last block, and does not take its colour from the block before."""
    return min(_CORNER, (side - 1) % 8)


def _decoded(content: bytes, part: int) -> bytes:
    """Decode a JPEG at a part of its size, which is quicker."""
    with Image.open(io.BytesIO(content), formats=["JPEG"]) as image:
        image.draft(None, (max(1, image.width // part), max(1, image.height // part)))
        return image.tobytes()


def _parsed(content: bytes) -> _Stream | None:
    """Read the structure up to the end of the first image; `None` for other kinds of codes."""
    frame, size, interval, end = 0, (0, 0), 0, 0
    sampling: dict[int, tuple[int, int]] = {}
    scans = []
    for marker, body, place in _segments(content):
        if marker in (*_BASELINE, _PROGRESSIVE):
            frame, (height, width) = marker, struct.unpack_from(">HH", body, 1)
            size = (width, height)
            sampling = {body[at]: (body[at + 1] >> 4, body[at + 1] & 15) for at in range(6, len(body) - 2, 3)}
        elif marker == _INTERVAL:
            (interval,) = struct.unpack(">H", body)
        elif marker == _SCAN:
            count = body[0]
            first, last, bits = body[2 * count + 1 : 2 * count + 4]
            codes = content[place : _next(content, place)]
            scans.append(
                _Scan(count, (first, last), bits & 15, body[1 : 2 * count + 1 : 2], len(_RESTART.findall(codes)))
            )
        elif marker == _END:
            end = place - 2
    return _Stream(frame, size, sampling, interval, tuple(scans), end) if frame and end and min(size) else None


def _segments(content: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Yield (marker, content, position behind it) of each segment up to the end of the image."""
    place = 2
    while (place := _next(content, place)) + 2 <= len(content):
        marker = content[place + 1]
        if marker == _END:
            yield marker, b"", place + 2
            return
        if marker == _ALONE:
            place += 2
            continue
        length = int.from_bytes(content[place + 2 : place + 4], "big")
        yield marker, content[place + 4 : place + 2 + length], place + 2 + length
        place += 2 + max(2, length)


def _next(content: bytes, place: int) -> int:
    found = _MARKER.search(content, place)
    return len(content) if found is None else found.start()


def _check_scans(stream: _Stream) -> None:
    """Look for the lowest bit of every coefficient of every component."""
    missing = {(name, at) for name in stream.sampling for at in range(64)}
    for scan in stream.scans:
        if not scan.lowest_bit:
            first, last = scan.spectrum
            missing -= {(name, at) for name in scan.ids for at in range(first, last + 1)}
    if missing:
        raise ValueError("its last scans are missing")


def _check_restarts(stream: _Stream) -> None:
    """Compare the number of restarts with the number of blocks."""
    if not stream.interval:
        return
    across, down = (max(each[axis] for each in stream.sampling.values()) for axis in (0, 1))
    for scan in stream.scans:
        own = stream.sampling[scan.ids[0]] if scan.components == 1 else (1, 1)
        # A scan of one component counts its own blocks, others count groups of all their components.
        steps = [8 * most // part for most, part in zip((across, down), own, strict=True)]
        blocks = -(-stream.size[0] // steps[0]) * -(-stream.size[1] // steps[1])
        if scan.restarts < -(-blocks // stream.interval) - 1:
            raise ValueError("its pixels end early")
