"""The model that a product has at the moment, and the ones it had before."""

from __future__ import annotations

import json
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from padim_edge_artifact import PadimEdgeError
from padim_edge_artifact.files import reserved
from padim_edge_line.config import LineConfig, ProductConfig
from padim_edge_line.products import MODEL, model_of
from padim_edge_line.record import Reader, tables

__all__ = ["Current", "content_of", "current_of", "is_running", "product_of", "relative", "store_setting"]


@dataclass(frozen=True)
class Current:
    """The model of a product, by the record."""

    model: Path
    """Model file."""
    statistics: Path
    """Statistics that were kept with it."""
    chosen: str | None
    """Path of the model relative to the line's folder; `None` for the one that `line.toml` names."""
    previous: tuple[str | None, ...]
    """Models before, the oldest first, as `chosen`."""
    setting: str | None
    """Text of the setting in the record."""


def product_of(config: LineConfig, name: str | None) -> ProductConfig:
    """Return a product of the line; `None` means its only one.

    Raises:
        PadimEdgeError: There is no such product, or there are several.
    """
    names = ", ".join(product.name for product in config.products)
    if name is None:
        if len(config.products) != 1:
            raise PadimEdgeError(f"the line has several products; name one of {names}")
        return config.products[0]
    for product in config.products:
        if product.name == name:
            return product
    raise PadimEdgeError(f"there is no product {name[:64]!r}, expected one of {names}")


def current_of(config: LineConfig, product: ProductConfig, reader: Reader) -> Current:
    """Find the model that a product has at the moment."""
    setting = reader.setting(MODEL + product.name)
    model = model_of(product, config.folder, setting)
    found: dict[str, Any] = {}
    if setting is not None:
        try:
            content = json.loads(setting)
            if isinstance(content, dict) and content.get("configured") == str(product.model):
                found = content
        except ValueError:
            found = {}
    chosen, previous = found.get("model"), found.get("previous")
    known = [each for each in previous if each is None or isinstance(each, str)] if isinstance(previous, list) else []
    if isinstance(chosen, str):
        return Current(model, model.with_suffix(".npz"), chosen, tuple(known), setting)
    statistics = product.statistics or model.with_suffix(".npz")
    return Current(model, statistics, None, tuple(known), setting)


def content_of(product: ProductConfig, chosen: str | None, previous: tuple[str | None, ...]) -> str:
    """Write the setting that gives a product a model."""
    return json.dumps({"model": chosen, "configured": str(product.model), "previous": list(previous)})


def relative(config: LineConfig, model: Path) -> str:
    """Return the path of a model relative to the line's folder."""
    return os.path.relpath(model.resolve(), config.folder.resolve()).replace(os.sep, "/")


def is_running(config: LineConfig) -> bool:
    """Tell whether a process runs the line at the moment."""
    try:
        with reserved([config.folder / tables.FILE]):
            return False
    except PadimEdgeError:
        return True


def store_setting(folder: Path, key: str, value: str | None) -> None:
    """Write a setting into the record, beside the process that may run the line.

    Args:
        folder: The line's folder.
        key: Name of the setting.
        value: Its value; `None` removes it.

    Raises:
        PadimEdgeError: The record cannot be written.
    """
    path = folder / tables.FILE
    if not path.is_file():
        raise PadimEdgeError(f"there is no record in {folder}; expected the folder of a line that has run")
    try:
        connection = tables.connected(path, write=True)
        try:
            if value is None:
                connection.execute("DELETE FROM settings WHERE key = ?", (key,))
            else:
                connection.execute(tables.SET, (key, value))
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise PadimEdgeError(
            f"the record in {folder} cannot be written ({error}); check its rights and room"
        ) from error
