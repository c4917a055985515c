"""Seeded mutations of bytes, JSON, archives of arrays, safetensors and models.

A generator of numbers decides everything, so a seed and a number bring a mutant back.
"""

from __future__ import annotations

import copy
import json
import math
import random
import struct
import zipfile
from collections.abc import Iterator
from io import BytesIO
from typing import Any

from padim_edge_artifact.protobuf import message, spans
from padim_edge_artifact.schema import Number, Row, Several, Text, Whole

__all__ = [
    "changed_archive",
    "changed_bytes",
    "changed_json",
    "changed_message",
    "changed_safetensors",
    "outside",
    "places",
    "with_value",
]

Path = tuple[str | int, ...]

_INTERESTING = (0, 1, 0x7F, 0x80, 0xFF)
_HOSTILE: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**40,
    2**53 + 1,
    2**63,
    2**64,
    10**400,
    0.5,
    -0.0,
    1e-320,
    1e308,
    float("nan"),
    float("inf"),
    float("-inf"),
    "",
    "\x00",
    "\ud800",
    "a\nb\x1b[2J",
    "\u202etxt",
    "../../etc/passwd",
    "x" * 5000,
    [],
    {},
    [[]],
    [None],
    [0],
    [2**40, 2**40],
    {"a": {"a": {}}},
    [[[[[[[[]]]]]]]],
    "=cmd|' /C calc'!A0",
)
"""Values that have hurt readers of JSON before."""


def changed_bytes(draw: random.Random, content: bytes) -> bytes:
    """Return other bytes: some flipped, cut, inserted, spliced, swapped, repeated or set to a border's value."""
    found = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 4, 16))):
        size = len(found)
        at, length = draw.randrange(size + 1), draw.choice((1, 2, 4, 8, 64, 1024))
        match draw.randrange(8) if size else 2:
            case 0:
                found[at % size] ^= 1 << draw.randrange(8)
            case 1:
                del found[at:]
            case 2:
                found[at:at] = draw.randbytes(length)
            case 3:
                del found[at : at + length]
            case 4:
                other = draw.randrange(size + 1)
                found[at : at + length] = found[other : other + length]
            case 5:
                found[at : at + length] = bytes([draw.choice(_INTERESTING)]) * length
            case 6:
                width = draw.choice((2, 4, 8))
                value = draw.choice((0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1)) % 2 ** (8 * width)
                found[at : at + width] = value.to_bytes(width, draw.choice(("little", "big")))
            case _:
                found[at:at] = found[at : at + length]
    return bytes(found)


def places(value: Any, path: Path = ()) -> Iterator[Path]:
    """Yield the path of every value inside a JSON object."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


def with_value(content: Any, path: Path, value: Any) -> Any:
    """Return a copy with another value at a path; `...` removes it."""
    changed = inner = copy.deepcopy(content)
    for key in path[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return changed


def outside(row: Row, present: Any) -> list[Any]:
    """Return values that break a rule of the schema.

    Args:
        row: The rule.
        present: A value that keeps it.
    """
    wrong: list[Any] = [{"a": 1}] if row.kind != "object" else [[], "text"]
    wrong += [None] if not row.optional else []
    wrong += {"integer": [1.5, "1", True, [1]], "number": ["1", True, [1.0], math.nan, math.inf, 10**400]}.get(
        row.kind, []
    )
    wrong += {"string": [1, ["a"]], "boolean": [0, "true"], "array": ["ab", 1]}.get(row.kind, [])
    match row.rule:
        case Whole():
            wrong += [row.rule.least - 1, row.rule.most + 1, 2**64, 10**400]
        case Number():
            wrong += [row.rule.least, row.rule.most] if row.rule.inside else [math.nextafter(row.rule.least, -math.inf)]
            wrong += [row.rule.most * 1.01] if row.rule.most < 1e300 else []
        case Text():
            wrong += ["x" * (row.rule.most + 1), "a\x1bb", "\ud800", "\u202e"]
        case Several():
            wrong += [list(present) * (row.rule.most // max(len(present), 1) + 1)] if row.rule.most < 100_000 else []
            wrong += [[]] if row.rule.fewest else []
            wrong += [list(present)[:-1]] if row.rule.fewest == row.rule.most else []
    return wrong


def changed_json(draw: random.Random, content: Any, every: list[Path]) -> str:
    """Return a JSON text in which one to three values are others, missing, or there twice.

    Args:
        draw: Source of chance.
        content: The object.
        every: Paths of its values.
    """
    changed = content
    for _ in range(draw.choice((1, 1, 2, 3))):
        path = draw.choice(every)
        choice = draw.randrange(10)
        value = ... if choice == 0 else _number(draw) if choice < 3 else copy.deepcopy(draw.choice(_HOSTILE))
        try:
            if choice == 3:
                value = _value(changed, draw.choice(every))
            elif choice == 4 and isinstance(present := _value(changed, path), list):
                value = present * draw.choice((0, 2, 3, 1000)) or [present]
            elif choice == 5 and isinstance(present := _value(changed, path), int | float):
                value = present * draw.choice((-1, 0.5, 2, 1000, 10**9))
            changed = with_value(changed, path, value)
        except (KeyError, IndexError, TypeError, OverflowError):
            continue  # an earlier change took the place away
    text = json.dumps(changed)
    match draw.randrange(40):
        case 0:
            return f'{text[:-1]},"threshold":0}}'
        case 1:
            return text[: draw.randrange(len(text))]
        case 2:
            return text.replace("null", "[" * draw.choice((10, 1000, 100_000)), 1)
        case 3:
            return text.replace("0", "9" * draw.choice((20, 400, 5000)), 1)
    return text


def _value(content: Any, path: Path) -> Any:
    for key in path:
        content = content[key]
    return copy.deepcopy(content)


def _number(draw: random.Random) -> int | float:
    sign = draw.choice((1, 1, -1))
    if draw.random() < 0.5:
        return sign * draw.getrandbits(draw.randrange(1, 70))
    return sign * math.ldexp(draw.random(), draw.randrange(-1080, 1024))


def changed_message(draw: random.Random, content: bytes, depth: int = 0) -> bytes:
    """Return a protobuf message with one field changed, removed, repeated, moved or swapped, at some depth."""
    try:
        fields = [(start, stop, number, value) for start, stop, number, value in spans(content)]
    except (ValueError, IndexError):
        return changed_bytes(draw, content)
    if not fields:
        return changed_bytes(draw, content)
    start, stop, number, value = draw.choice(fields)
    part = content[start:stop]
    if isinstance(value, slice) and depth < 8 and draw.random() < 0.8:
        part = message(number, changed_message(draw, content[value], depth + 1))
    else:
        match draw.randrange(6):
            case 0:
                part = b""
            case 1:
                part *= draw.choice((2, 3, 50))
            case 2 if isinstance(value, slice):
                part = message(draw.randrange(1, 30), content[value])
            case 3:
                other = draw.choice(fields)
                part = content[other[0] : other[1]]
            case 4 if not isinstance(value, slice):
                part = bytes([number << 3 & 127]) + bytes([255] * 9 + [1])
            case _:
                part = changed_bytes(draw, part)
    return content[:start] + part + content[stop:]


def changed_archive(draw: random.Random, content: bytes) -> bytes:
    """Return a `.npz` with one member changed: its header, its values, its name, its compression, its number."""
    with zipfile.ZipFile(BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = draw.choice(list(members))
    others: list[tuple[str, bytes]] = list(members.items())
    at = list(members).index(name)
    kind = zipfile.ZIP_STORED
    match draw.randrange(9):
        case 0:
            del others[at]
        case 1:
            others.append((name, draw.choice(list(members.values()))))
        case 2:
            kind = draw.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
        case 3:
            others[at] = (name, draw.choice(list(members.values())))
        case 4:
            others += [(f"more{i}.npy", b"") for i in range(draw.choice((1, 100, 5000)))]
        case 5:
            others[at] = (name, _other_values(draw, members[name]))
        case 6 | 7:
            others[at] = (name, _other_header(draw, members[name]))
        case _:
            others[at] = (name, changed_bytes(draw, members[name]))
    target = BytesIO()
    with zipfile.ZipFile(target, "w", kind) as archive:
        written: set[str] = set()
        for each, values in others:
            if each not in written or draw.random() < 0.9:
                info = zipfile.ZipInfo(each)
                info.compress_type = kind
                if each in written:
                    archive.NameToInfo.pop(each)  # or zipfile would warn
                archive.writestr(info, values)
            written.add(each)
    return target.getvalue() if draw.random() < 0.8 else changed_bytes(draw, target.getvalue())


def _other_values(draw: random.Random, array: bytes) -> bytes:
    """Return an array with other values: NaN, infinity, the largest integer, or chance."""
    if len(array) < 136:
        return array
    found, width = bytearray(array), 8
    for _ in range(draw.choice((1, 3, 50))):
        at = 128 + width * draw.randrange((len(array) - 128) // width)
        value = draw.choice((math.nan, math.inf, -math.inf, -1.0, 1e308, 1e-320))
        found[at : at + width] = (
            struct.pack("<d", value) if draw.random() < 0.6 else draw.choice((b"\xff" * 8, bytes(8), draw.randbytes(8)))
        )
    return bytes(found)


def _other_header(draw: random.Random, array: bytes) -> bytes:
    """Return an array whose header says another type, order or shape; other bytes of what is no array."""
    if not array.startswith(b"\x93NUMPY"):
        return changed_bytes(draw, array)
    length = int.from_bytes(array[8:10], "little")
    header, values = array[10 : 10 + length].decode("latin-1"), array[10 + length :]
    shape = draw.choice(
        (
            "()",
            "(0,)",
            "(-1,)",
            "(1,)",
            f"({2**60},)",
            f"({2**33}, {2**33})",
            "(1, 1, 1, 1)",
            "(3, 0)",
            "(True,)",
            "9**9",
        )
    )
    kind = draw.choice(("<f8", "<f4", "<i8", "|u1", "|O", "<U9", "|V0", "<f8, <f8", "<M8[ns]", "|S0", "<c16", ">f8"))
    match draw.randrange(4):
        case 0:
            header = header[: header.index("'shape'")] + f"'shape': {shape}, }}"
        case 1:
            header = f"{{'descr': '{kind}', " + header[header.index("'fortran_order'") :]
        case 2:
            header = header.replace("False", draw.choice(("True", "None", "1", "[]")))
        case _:
            header = draw.choice(("(" * 5000, "{" * 90, "1" * 9000, "{'descr': " + "[" * 60, "", "\x00", "lambda: 0"))
    text = header.encode("latin-1")
    return array[:8] + len(text).to_bytes(2, "little") + text + values


def changed_safetensors(draw: random.Random, content: bytes) -> bytes:
    """Return a safetensors file whose header says something else of its tensors."""
    length = int.from_bytes(content[:8], "little")
    header, values = json.loads(content[8 : 8 + length]), content[8 + length :]
    if draw.random() < 0.1:
        return draw.choice((0, 1, 2**31, 2**63, 2**64 - 1, length - 1, length + 8)).to_bytes(8, "little") + content[8:]
    kind = draw.randrange(5)
    name = draw.choice(list(header))
    if kind == 0:
        text = changed_json(draw, header, list(places(header)))
    else:
        tensor = header[name]
        if kind == 1:
            tensor["dtype"] = draw.choice(("F64", "F16", "BF16", "I8", "BOOL", "F8_E4M3", "C64", "U64", "F4", "XX"))
        elif kind == 2:
            tensor["shape"] = draw.choice(([], [0], [2**40], [2**32, 2**32], [-1], [1] * 70, tensor["shape"][::-1]))
        elif kind == 3:
            tensor["data_offsets"] = draw.choice(([0, 0], [0, 2**50], [8, 4], [-8, 0], [2**63, 2**64 - 1], [1, 9]))
        else:
            header[draw.choice(("\ud800x", "", "a" * 9000, "__metadata__", "conv1.weight\n"))] = header.pop(name)
        text = json.dumps(header)
    encoded = text.encode("utf-8", "surrogatepass")
    return len(encoded).to_bytes(8, "little") + encoded + values
