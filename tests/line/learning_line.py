"""A line with a small model that can learn: kept images with marks, without sources and page."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lines import running
from PIL import Image
from small_models import dataset, export_model, small, weave

from padim_edge_artifact.kept import write_kept
from padim_edge_line.arrival import Arrival
from padim_edge_line.configuration import line_of
from padim_edge_line.row import Row

__all__ = ["FITTED", "dimmed", "exported", "line_config", "recorded", "spotted"]

FITTED = 26
"""Number of good images that the model is fitted on."""


def exported(folder: Path) -> Path:
    """A model of the first good images, with its statistics beside it."""
    path = folder / "part.onnx"
    model = export_model(dataset(weave(FITTED)), path, small("edge"))
    write_kept(folder / "part.npz", model.kept)
    return path


def dimmed(image: Image.Image) -> Image.Image:
    """The same part under a lamp that gives 15 % less."""
    return Image.fromarray(np.rint(0.85 * np.asarray(image)).astype(np.uint8))


def spotted(image: Image.Image) -> Image.Image:
    """The same part with a dark spot."""
    pixels = np.array(image)
    side = pixels.shape[0] // 5
    pixels[2 * side : 3 * side, 2 * side : 3 * side] = 10
    return Image.fromarray(pixels)


def line_config(folder: Path, model: Path, **parts: Any) -> Any:
    """The configuration of a line with one product that keeps all images."""
    found = {
        "name": "test",
        "folder": str(folder / "line"),
        "products": {"part": {"model": str(model)}},
        "record": {"good_every": 1},
        "server": {"port": 0},
        **parts,
    }
    return line_of(found, folder)


def recorded(config: Any, images: Mapping[str, Image.Image], marks: Mapping[str, str]) -> list[Row]:
    """Let a line judge images, and mark them by their names.

    Args:
        config: The line.
        images: Images by name.
        marks: Marks by name.
    """

    async def inside() -> list[Row]:
        rows = []
        async with running(config) as line:
            for name, image in images.items():
                arrival = Arrival(source="test", name=name, image=np.asarray(image.convert("RGB")), product="part")
                rows.append(await line.judge(arrival))
                if name in marks:
                    await line.mark(rows[-1].seq, marks[name], "tester")
        return rows

    return asyncio.run(inside())


def verdicts(rows: Sequence[Row]) -> list[str]:
    """The verdicts of rows."""
    return [row.verdict for row in rows]
