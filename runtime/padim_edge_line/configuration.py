"""Reading `line.toml`: every key is checked, and a wrong one is answered with the nearest right one."""

from __future__ import annotations

import difflib
import math
import re
import sys
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar

from padim_edge_artifact import PadimEdgeError
from padim_edge_line import config
from padim_edge_line.config import CameraConfig, FolderConfig, LineConfig, MqttConfig, ProductConfig, ServerConfig
from padim_edge_line.row import VERDICTS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["checked", "is_loopback", "line_of", "read"]

T = TypeVar("T")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_LARGEST = 1_000_000
"""Largest size of a configuration in bytes."""
_CHOICES = {
    (FolderConfig, "judged"): ("keep", "move", "delete"),
    (CameraConfig, "trigger"): ("free", "software"),
    (config.JudgingConfig, "prefer"): ("auto", "latency", "throughput"),
}
_LEAST: dict[str, float] = {
    "settle_s": 0.0,
    "every_s": 0.0,
    "timeout_s": 0.05,
    "heartbeat_s": 0.05,
    "port": 0,
    "most_mb": 1,
    "rate": 0.1,
    "batch": 1,
    "batch_wait_ms": 0.0,
    "rows": 1,
    "images_mb": 0,
    "good_every": 0,
    "most_waiting": 1,
    "min_area": 0,
}
_MOST = {"port": 65535, "most_mb": 1000, "batch": 256, "batch_wait_ms": 1000}


def read(path: Path) -> LineConfig:
    """Read a line from a TOML file. Relative paths in it start from the file's folder.

    Raises:
        PadimEdgeError: It cannot be read, or is no line.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise PadimEdgeError(f"{path} has more than {_LARGEST} bytes, expected a short text; check the name")
        found = tomllib.loads(content.decode())
    except OSError as error:
        raise PadimEdgeError(f"{path} cannot be read ({error.strerror}); expected a file such as line.toml") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PadimEdgeError(f"{path} is no TOML ({error}); correct that place") from error
    try:
        return line_of(found, path.parent, path.stem)
    except PadimEdgeError as error:
        raise PadimEdgeError(f"{path}: {error}") from error


def line_of(found: Mapping[str, Any], base: Path, stem: str = "line") -> LineConfig:
    """Make a line of the content of a TOML file.

    Args:
        found: The content.
        base: Folder that relative paths start from.
        stem: Name of the file without its ending, from which the line's folder has its name.

    Raises:
        PadimEdgeError: A key or a value is wrong; or the parts do not fit together.
    """
    given = dict(found)
    given.setdefault("folder", f"{stem}-data")
    products = given.pop("products", None)
    if not isinstance(products, dict) or not products:
        raise PadimEdgeError(
            'there is no product, expected a table such as [products.bottle] with model = "bottle.onnx"'
        )
    made = []
    for name, each in products.items():
        table = {**_table(each, f"[products.{name}]"), "name": name}
        made.append(_value(ProductConfig, table, f"[products.{name}]", base))
    sources = [_kind(each, config.SOURCES, "sources", number, base) for number, each in _tables(given, "sources")]
    sinks = [_kind(each, config.SINKS, "sinks", number, base) for number, each in _tables(given, "sinks")]
    parts: dict[str, Any] = {"products": tuple(made), "sources": tuple(sources), "sinks": tuple(sinks)}
    for key, kind in (("server", ServerConfig), ("record", config.RecordConfig), ("judging", config.JudgingConfig)):
        if key in given:
            parts[key] = _value(kind, _table(given.pop(key), f"[{key}]"), f"[{key}]", base)
    return checked(_value(LineConfig, {**given, **parts}, "the file", base))


def checked(line: LineConfig) -> LineConfig:
    """Return the line, after its parts were checked against each other.

    Raises:
        PadimEdgeError: They do not fit together.
    """
    products = [product.name for product in line.products]
    names = [line.name, *products, *(each.name for each in (*line.sources, *line.sinks))]
    for name in names:
        if not _NAME.fullmatch(name):
            raise PadimEdgeError(f"{name[:64]!r} is no name, expected up to 64 letters, digits, '-', '_' and '.'")
    for kind, several in (("source", line.sources), ("sink", line.sinks)):
        seen: set[str] = set()
        for each in several:
            if each.name in seen or (kind == "source" and each.name == "http"):
                raise PadimEdgeError(f"two {kind}s are called {each.name!r}; give each its own name")
            seen.add(each.name)
    triggered = [each.name for each in line.sources if isinstance(each, CameraConfig) and each.trigger == "software"]
    for source in line.sources:
        if source.product is not None and source.product not in products:
            raise PadimEdgeError(_unknown(source.product, products, f"product of the source {source.name}"))
        if isinstance(source, FolderConfig):
            _check_folder(source)
    for sink in line.sinks:
        wanted = sink.triggers if isinstance(sink, MqttConfig) else getattr(sink, "source", None)
        if wanted is not None and wanted not in triggered:
            raise PadimEdgeError(
                _unknown(wanted, triggered, f'source of the sink {sink.name}, a camera with trigger = "software"')
            )
        _check_sink(sink)
    server = line.server
    if server is not None and not is_loopback(server.host) and server.token_file is None:
        raise PadimEdgeError(
            f"the page listens on {server.host}, which others can reach, and there is no token_file in [server]; name "
            "a file with a secret of 16 characters or more, or listen on 127.0.0.1"
        )
    if not line.sources and (server is None or not server.images):
        raise PadimEdgeError("nothing brings images, expected [[sources]], or [server] with images = true")
    return line


def is_loopback(host: str) -> bool:
    """Tell whether an address is reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _check_folder(source: FolderConfig) -> None:
    if (source.judged == "move") != (source.move_to is not None):
        raise PadimEdgeError(f'the source {source.name} needs both judged = "move" and move_to, or neither of them')
    if source.move_to is not None:
        inside, around = source.move_to.resolve(), source.path.resolve()
        if inside == around or around in inside.parents:
            raise PadimEdgeError(
                f"move_to of the source {source.name} lies within the watched folder; choose a folder beside it"
            )


def _check_sink(sink: config.SinkConfig) -> None:
    if isinstance(sink, config.OpcUaConfig) and not is_loopback(sink.host):
        if sink.username is None or sink.password_file is None:
            raise PadimEdgeError(
                f"the sink {sink.name} listens on {sink.host}, which others can reach; give username and password_file"
            )
    elif isinstance(sink, config.ModbusConfig) and not is_loopback(sink.host) and not sink.open_network:
        raise PadimEdgeError(
            f"the sink {sink.name} listens on {sink.host}, and Modbus has no passwords; set open_network = true if "
            "only the PLC can reach this network"
        )
    elif isinstance(sink, config.WebhookConfig):
        if not sink.url.startswith(("http://", "https://")):
            raise PadimEdgeError(f"the url of the sink {sink.name} begins with neither http:// nor https://")
        for verdict in sink.verdicts:
            if verdict not in VERDICTS:
                raise PadimEdgeError(_unknown(verdict, VERDICTS, f"verdict of the sink {sink.name}"))


def _tables(given: dict[str, Any], key: str) -> list[tuple[int, Mapping[str, Any]]]:
    found = given.pop(key, [])
    if not isinstance(found, list):
        raise PadimEdgeError(f"[{key}] is one table, expected [[{key}]] with two brackets for each")
    return [(number, _table(each, f"[[{key}]] number {number}")) for number, each in enumerate(found, 1)]


def _table(given: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(given, dict):
        raise PadimEdgeError(f"{where} is {_shown(given)}, expected a table")
    return given


def _kind(given: Mapping[str, Any], kinds: Mapping[str, type[T]], key: str, number: int, base: Path) -> T:
    where = f"[[{key}]] number {number}"
    rest = dict(given)
    kind = rest.pop("kind", None)
    if kind not in kinds:
        raise PadimEdgeError(_unknown(str(kind), tuple(kinds), f"kind in {where}"))
    return _value(kinds[kind], rest, f"{where} ({kind})", base)


def _types(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _value(kind: type[T], given: Mapping[str, Any], where: str, base: Path) -> T:
    """Make a value of a table, whose keys are the fields of the value's type."""
    known = {each.name: each for each in fields(kind)}  # type: ignore[arg-type]
    for key in given:
        if key not in known:
            raise PadimEdgeError(_unknown(key, tuple(known), f"key in {where}"))
    for key, each in known.items():
        if key not in given and each.default is MISSING and each.default_factory is MISSING:
            raise PadimEdgeError(f"{where} has no {key}; add it")
    kinds = _types(kind)
    made = {key: _typed(value, kinds[key], f"{key} in {where}", base) for key, value in given.items()}
    for key, value in made.items():
        if (choices := _CHOICES.get((kind, key))) is not None and value not in choices:
            raise PadimEdgeError(_unknown(value, choices, f"{key} in {where}"))
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            _check_range(value, key, where)
    return kind(**made)


def _check_range(value: float, key: str, where: str) -> None:
    least, most = _LEAST.get(key, -math.inf), _MOST.get(key, math.inf)
    if not least <= value <= most:  # NaN neither
        upper = f" to {most}" if key in _MOST else " or more"
        raise PadimEdgeError(f"{key} in {where} is {value}, expected {least:g}{upper}")


def _typed(value: Any, wanted: Any, where: str, base: Path) -> Any:
    """Return a value of TOML as the type of a field; paths start from the base."""
    options = typing.get_args(wanted) if isinstance(wanted, types.UnionType) else (wanted,)
    origins = [typing.get_origin(option) or option for option in options]
    for option, origin in zip(options, origins, strict=True):
        if origin is Path and isinstance(value, str) and value:
            return base / value
        if origin is float and isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        if origin is int and isinstance(value, int) and not isinstance(value, bool):
            return value
        if origin in (str, bool) and isinstance(value, origin):
            return value
        if origin is tuple and isinstance(value, (list, tuple)):
            inner = typing.get_args(option)[0]
            plain = inner is str
            return tuple(_typed(each, inner, where, base) if plain else each for each in value)
        if origin is Mapping and isinstance(value, dict):
            return value
        if (
            isinstance(origin, type)
            and origin not in (Path, float, int, str, bool, tuple)
            and isinstance(value, origin)
        ):
            return value
    words = {Path: "a path", float: "a number", int: "a whole number", str: "a text", bool: "true or false"}
    expected = " or ".join(
        words.get(each, "a table" if each is Mapping else "a list")
        for each in origins
        if each in (*words, Mapping, tuple)
    )
    raise PadimEdgeError(f"{where} is {_shown(value)}, expected {expected or 'a table'}")


def _shown(value: Any) -> str:
    found = repr(value)
    return found if len(found) <= 80 else f"{found[:80]}..."


def _unknown(found: str, known: typing.Sequence[str], what: str) -> str:
    """Say that a word is unknown, with the nearest right one."""
    near = difflib.get_close_matches(found.lower(), known, 1, 0.5)
    hint = f"; do you mean {near[0]!r}?" if near else ""
    return f"{found[:64]!r} is no {what}, expected one of: {', '.join(known) or 'none'}{hint}"
