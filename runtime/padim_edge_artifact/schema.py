"""The schema of stored values: rules beside the fields' types, and the reader that holds a file against both.

A field says its rule in its annotation, such as `images: Annotated[int, Whole(1)]`. Readers refuse a value that breaks
it, and so do the constructors of most values. Tests draw wrong values from the same rules.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import sys
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, TypeAlias

from padim_edge_artifact.errors import ArtifactError, PadimEdgeError

__all__ = [
    "LEAST_RATE",
    "MOST_BYTES",
    "MOST_DIMS",
    "MOST_IMAGES",
    "MOST_LAYERS",
    "Count",
    "Digest",
    "Distance",
    "Measured",
    "Number",
    "Positive",
    "Rate",
    "Row",
    "Rule",
    "Several",
    "Text",
    "Whole",
    "Words",
    "check",
    "decode",
    "read_json",
    "reason_of",
    "rows",
    "shown",
]

MOST_BYTES = 16 << 20
"""Largest size of a JSON text in characters. Reading one takes up to 30 times as much memory."""

MOST_IMAGES = 10_000_000
"""Largest number of images that a file may speak of."""

MOST_DIMS = 1 << 16
"""Largest number of embedding dimensions or channels."""
MOST_LAYERS = 256
"""Largest number of layers of a network that are used."""

LEAST_RATE = 1e-12
"""Smallest share of images that is told from none; its reciprocal is still a number for people."""

_MOST_WHOLE = 2**53
"""Largest whole number, up to which every reader of JSON is exact."""
_MOST_FLOAT32 = 3.4e38
_MOST_DIGITS = 1000
"""Largest number of digits of a whole number that is read. Reading n digits takes n * n steps."""
_SHOWN = 60
"""Number of characters of a wrong value that an error shows."""

_LONGEST_PATH = 200
"""Largest number of characters that lead to a value; the schema's own paths have at most 60."""

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that change a terminal, turn a line around, end a line, or cannot be written at all."""


@dataclass(frozen=True)
class Whole:
    """Range of a whole number."""

    least: int = 0
    """Smallest value."""
    most: int = _MOST_WHOLE
    """Largest value."""

    def fits(self, value: Any) -> bool:
        """Tell whether a number lies in the range."""
        return bool(self.least <= value <= self.most)

    def __str__(self) -> str:
        return f"a whole number from {self.least} to {self.most}"


@dataclass(frozen=True)
class Number:
    """Range of a finite number."""

    least: float = 0.0
    """Smallest value."""
    most: float = sys.float_info.max
    """Largest value."""
    inside: bool = False
    """Whether both ends are left out."""

    def fits(self, value: Any) -> bool:
        """Tell whether a number lies in the range; NaN does not."""
        if self.inside:
            return bool(self.least < value < self.most)
        return bool(self.least <= value <= self.most)

    def __str__(self) -> str:
        if self.most == sys.float_info.max:
            return f"a finite number of at least {self.least:g}"
        words = ("between", "and") if self.inside else ("from", "to")
        return f"a number {words[0]} {self.least:g} {words[1]} {self.most:g}"


@dataclass(frozen=True)
class Text:
    """Length and form of a text."""

    most: int
    """Largest number of characters."""
    pattern: str | None = None
    """Regular expression of the whole text; `None` allows all characters that can be shown."""
    form: str = "text that can be shown"
    """The form in words."""

    def fits(self, value: Any) -> bool:
        """Tell whether a text is short enough and has the form."""
        if len(value) > self.most:
            return False
        if self.pattern is None:
            return _CONTROL.search(value) is None
        return re.fullmatch(self.pattern, value) is not None

    def __str__(self) -> str:
        return f"{self.form} of at most {self.most} characters"


@dataclass(frozen=True)
class Several:
    """Number of elements of a list."""

    fewest: int
    """Smallest number."""
    most: int
    """Largest number."""

    def fits(self, value: Any) -> bool:
        """Tell whether a list has as many elements."""
        return self.fewest <= len(value) <= self.most

    def __str__(self) -> str:
        if self.fewest == self.most:
            return f"{self.fewest} elements"
        return f"{self.fewest} to {self.most} elements"


Rule: TypeAlias = Whole | Number | Text | Several

Count: TypeAlias = Annotated[int, Whole()]
"""A number of things, 0 or more."""
Positive: TypeAlias = Annotated[int, Whole(1)]
"""A number of things, 1 or more."""
Distance: TypeAlias = Annotated[float, Number(0.0, _MOST_FLOAT32)]
"""A score, threshold or distance: 0 or more, and a float32."""
Measured: TypeAlias = Annotated[float, Number(-1.0, _MOST_FLOAT32)]
"""A distance that a graph gave: 0 or more, up to rounding."""
Rate: TypeAlias = Annotated[float, Number(LEAST_RATE, 1, inside=True)]
"""A share of images, between `LEAST_RATE` and 1."""
Words: TypeAlias = Annotated[str, Text(4096)]
"""A text for people."""
Digest: TypeAlias = Annotated[str, Text(64, "(?:[0-9a-f]{64})?", "64 hexadecimal digits, or nothing yet: text")]
"""A SHA-256, 64 hexadecimal digits; empty until it is known."""


@dataclass(frozen=True)
class Row:
    """One rule of the schema."""

    path: tuple[str, ...]
    """Names of the fields that lead to the value; `*` stands for each element of a list."""
    kind: str
    """Type of the value in JSON: `integer`, `number`, `string`, `boolean`, `array` or `object`."""
    rule: Rule | None
    """Range, length or form; `None` where there is none."""
    optional: bool
    """Whether the value may be null."""


_KINDS = {bool: "boolean", int: "integer", float: "number", str: "string"}


def rows(kind: type, path: tuple[str, ...] = ()) -> Iterator[Row]:
    """Yield the rule of every value in a stored dataclass, and in those inside it, once each."""
    if len(path) > 6:  # a method may have a method beside it
        return
    for name, annotation in _hints(kind).items():
        yield from _rows_of(annotation, (*path, name))


def _rows_of(annotation: Any, path: tuple[str, ...], optional: bool = False) -> Iterator[Row]:
    plain, rule, may_be_none = _parts(annotation)
    optional = optional or may_be_none
    if dataclasses.is_dataclass(plain):
        yield Row(path, "object", rule, optional)
        if path.count("beside") < 2:
            yield from rows(plain, path)  # type: ignore[arg-type]  # a dataclass type
    elif typing.get_origin(plain) is tuple:
        elements = typing.get_args(plain)
        length = rule if elements[-1] is Ellipsis else Several(len(elements), len(elements))
        yield Row(path, "array", length, optional)
        yield from _rows_of(elements[0], (*path, "*"))
    else:
        yield Row(path, _KINDS[plain], rule, optional)


def shown(value: Any, most: int = _SHOWN) -> str:
    """Write a wrong value for an error, cut where it is longer than `most` characters."""
    if isinstance(value, str):
        value = value[: most + 1]  # before it is written, since it may be long
    elif isinstance(value, list | tuple | dict) and len(value) > _SHOWN:
        return f"a list of {len(value)}"
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits, or a list in a list in a list
        return "a value that is too long to show"
    return text if len(text) <= most else f"{text[:most]}..."


def reason_of(error: Exception, most: int = 200) -> str:
    """Write the reason of an error for a sentence: on one line, cut, and without characters that cannot be shown."""
    text = " ".join(str(error).split()) or type(error).__name__
    return _CONTROL.sub("?", text if len(text) <= most else f"{text[:most]}...")


def read_json(text: str, what: str) -> Any:
    """Read JSON from a file that nobody vouches for.

    Args:
        text: The text.
        what: What it is, for errors.

    Raises:
        ArtifactError: It is longer than `MOST_BYTES`, no JSON, or names a field twice.
    """
    if len(text) > MOST_BYTES:
        raise ArtifactError(f"{what} has {len(text)} characters, expected at most {MOST_BYTES}; export the model again")
    try:
        return json.loads(text, parse_int=_whole, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{what} is not JSON ({reason_of(error)}); export the model again") from error


def _whole(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError("a number of too many digits")
    return int(digits)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a field that is there twice: another reader might take the other one."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field is there twice")
    return found


def check(value: Any) -> None:
    """Hold the fields of a dataclass against the rules in their annotations; types are not looked at.

    Raises:
        ArtifactError: A field breaks its rule.
    """
    kind: Any = type(value)
    for name, annotation in _hints(kind).items():
        if (broken := _broken(annotation, found := getattr(value, name))) is not None:
            raise ArtifactError(f"{name.replace('_', ' ')} is {shown(found)}, expected {broken}")


def _broken(annotation: Any, value: Any) -> str | None:
    """Return the rule that a value breaks, in words; `None` where it breaks none."""
    plain, rule, _ = _parts(annotation)
    if value is None:
        return None
    if rule is not None and not rule.fits(value):
        return str(rule)
    if typing.get_origin(plain) is not tuple:
        return None
    elements = typing.get_args(plain)
    if elements[-1] is not Ellipsis:
        broken = (_broken(each, item) for each, item in zip(elements, value, strict=True))
    else:
        within = _parts(elements[0])[1]
        if isinstance(within, Whole | Number) and value:
            # The ends stand for all others, except for NaN.
            held = within.fits(min(value)) and within.fits(max(value)) and all(map(math.isfinite, value))
            return None if held else f"{within}, each"
        broken = (_broken(elements[0], item) for item in value)
    return next((f"{each}, each" for each in broken if each is not None), None)


@cache
def _hints(kind: Any) -> dict[str, Any]:
    """Return the annotation of each field; finding them takes long."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


_PARTS: dict[int, tuple[tuple[Any, Rule | None, bool], Any]] = {}


def _parts(annotation: Any) -> tuple[Any, Rule | None, bool]:
    """Return the plain type of an annotation, its rule, and whether it may be `None`."""
    # By its address, since to hash an annotation takes longer than all checks; it is kept alive with the answer.
    if (known := _PARTS.get(id(annotation))) is None:
        known = _PARTS.setdefault(id(annotation), (_parts_of(annotation), annotation))
    return known[0]


def _parts_of(annotation: Any) -> tuple[Any, Rule | None, bool]:
    if typing.get_origin(annotation) is types.UnionType or typing.get_origin(annotation) is typing.Union:
        (inner,) = (each for each in typing.get_args(annotation) if each is not type(None))
        plain, rule, _ = _parts_of(inner)
        return plain, rule, True
    if typing.get_origin(annotation) is Annotated:
        plain, rule, *_ = typing.get_args(annotation)
        return plain, rule, False
    return annotation, None, False


def decode(kind: Any, value: Any, where: str) -> Any:
    """Turn a value out of JSON into the annotated type `kind`; `where` names it in errors.

    Raises:
        ArtifactError: A field is missing, of the wrong type, or breaks its rule.
    """
    plain, rule, may_be_none = _parts(kind)
    if value is None and may_be_none:
        return None
    if dataclasses.is_dataclass(plain):
        return _object(plain, value, where)
    if typing.get_origin(plain) is tuple:
        return _list(plain, rule, value, where)
    if plain is float and type(value) in (int, float) and abs(value) <= sys.float_info.max:  # False for NaN
        return float(value)
    if plain in (bool, int, str) and type(value) is plain:
        return value
    raise ArtifactError(f"{where} is {shown(value)}, expected {_WORDS[plain]}; export the model again")


_WORDS = {bool: "true or false", int: "a whole number", float: "a finite number", str: "text"}


def _list(kind: Any, rule: Rule | None, value: Any, where: str) -> tuple[Any, ...]:
    elements = typing.get_args(kind)
    length = rule if elements[-1] is Ellipsis else Several(len(elements), len(elements))
    if not isinstance(value, list):
        raise ArtifactError(f"{where} is {shown(value)}, expected a list; export the model again")
    if isinstance(length, Several) and (len(value) > length.most or (length != rule and not length.fits(value))):
        raise ArtifactError(f"{where} has {len(value)} elements, expected {length}; export the model again")
    if elements[-1] is not Ellipsis:
        return tuple(decode(each, item, where) for each, item in zip(elements, value, strict=True))
    element = _parts(elements[0])[0]
    # A list of thousands of numbers: all at once.
    if (element is float and set(map(type, value)) <= {float} and all(map(math.isfinite, value))) or (
        element is int and set(map(type, value)) <= {int}
    ):
        return tuple(value)
    return tuple(decode(elements[0], item, where) for item in value)


def _object(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise ArtifactError(f"{where} is {shown(value)}, expected an object; export the model again")
    if len(where) > _LONGEST_PATH:
        raise ArtifactError(f"{where[:_SHOWN]}... has objects in each other without end; export the model again")
    fields = {}
    for field, hint in zip(dataclasses.fields(kind), _hints(kind).values(), strict=True):
        if field.name in value:
            fields[field.name] = decode(hint, value[field.name], f"{where}.{field.name}")
        elif field.default is dataclasses.MISSING:
            raise ArtifactError(f"{where} has no {field.name!r}; export the model again with this padim-edge")
    try:
        found = kind(**fields)
        if not hasattr(kind, "__post_init__"):
            check(found)
    except PadimEdgeError as error:
        raise ArtifactError(f"{where} cannot be used: {error}") from error
    return found
