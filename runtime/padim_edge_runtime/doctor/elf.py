"""Names of the libraries that a shared library asks for, read from the file without loading it (ELF, 64 bits)."""

from __future__ import annotations

import struct
from pathlib import Path

__all__ = ["needed"]

_DYNAMIC, _STRINGS = 6, 3
_NEEDED = 1


def needed(path: Path) -> tuple[str, ...]:
    """List the names under `NEEDED`, in their order.

    Raises:
        ValueError: The file is no little-endian ELF file of 64 bits.
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(64)
        if head[:6] != b"\x7fELF\x02\x01" or len(head) < 64:
            raise ValueError(f"{path.name} is no shared library of 64 bits")
        (table,) = struct.unpack_from("<Q", head, 40)
        size, count = struct.unpack_from("<HH", head, 58)
        file.seek(table)
        content = file.read(size * count)
        sections = [struct.unpack_from("<IIQQQQII", content, size * i) for i in range(count)]
        for _, kind, _, _, offset, length, link, _ in sections:
            if kind != _DYNAMIC or link >= count or sections[link][1] != _STRINGS:
                continue
            file.seek(offset)
            entries = file.read(length)
            file.seek(sections[link][4])
            strings = file.read(sections[link][5])
            starts = [value for tag, value in struct.iter_unpack("<QQ", entries[: length // 16 * 16]) if tag == _NEEDED]
            return tuple(strings[start : strings.index(b"\0", start)].decode() for start in starts)
    return ()
