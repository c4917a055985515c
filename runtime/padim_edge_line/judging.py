"""Judging one arrival: from the image to a row that has no number yet, in a thread."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from padim_edge_artifact import ImageError, PadimEdgeError
from padim_edge_artifact.schema import reason_of
from padim_edge_line.arrival import Arrival, now
from padim_edge_line.products import Product
from padim_edge_line.record import images
from padim_edge_line.row import FAILED, Place, Row
from padim_edge_runtime import pipeline
from padim_edge_runtime.decoding_child import DecodingChild
from padim_edge_runtime.image_files import Decoded
from padim_edge_runtime.inspection import GOOD, UNREADABLE, Inspection
from padim_edge_runtime.overlay import overlay
from padim_edge_runtime.regions import to_image

__all__ = ["MOST_REGIONS", "Judged", "judged", "kept", "overlay_of", "small_overlay", "text", "wanted"]

MOST_REGIONS = 16
"""Most regions in a row."""
_SIDE = 1024
"""Largest side of an overlay in pixels."""
_LONGEST = 400
"""Longest text in a row, in characters."""
_ENDINGS = ((b"\xff\xd8\xff", "jpg"), (b"\x89PNG", "png"), (b"BM", "bmp"), (b"II*\0", "tif"), (b"MM\0*", "tif"))

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Judged:
    """An arrival with its verdict."""

    row: Row
    """The row without number and chain."""
    inspection: Inspection | None
    """The inspection with the decoded image; `None` where there is no score."""


def judged(arrival: Arrival, find: Callable[[], Product], child: DecodingChild) -> Judged:
    """Judge an arrival. Whatever goes wrong becomes a verdict.

    Args:
        arrival: The image.
        find: Gives the product with its loaded model.
        child: Process that decodes images which come from the network.
    """
    base: dict[str, Any] = {
        "seq": 0,
        "time": arrival.time,
        "source": text(arrival.source),
        "name": text(arrival.name),
        "part": None if arrival.part is None else text(arrival.part),
        "product": arrival.product,
        "model": "",
        "revision": 0,
        "key": arrival.key,
    }
    try:
        product = find()
        base |= {"model": product.digest, "revision": product.revision}
        inspection = _inspection(arrival, product, child)
    except ImageError as error:
        return Judged(Row(**base, verdict=UNREADABLE, error=_without_path(error, arrival)), None)
    except PadimEdgeError as error:
        return Judged(Row(**base, verdict=FAILED, error=_without_path(error, arrival)), None)
    except MemoryError:
        return Judged(Row(**base, verdict=FAILED, error="the memory of this machine does not suffice"), None)
    except Exception as error:
        log.exception("an image could not be judged for a reason that nobody foresaw")
        return Judged(Row(**base, verdict=FAILED, error=f"unforeseen: {type(error).__name__}"), None)
    regions = (Place(*each.box, each.area, each.score) for each in inspection.regions[:MOST_REGIONS])
    row = Row(
        **base,
        verdict=inspection.verdict,
        score=inspection.score,
        p_value=inspection.p_value,
        threshold=inspection.threshold,
        regions=tuple(regions),
        warnings=inspection.warnings,
        width=inspection.width,
        height=inspection.height,
        model_ms=round(inspection.milliseconds, 3),
        latency_ms=round(max(0, now() - arrival.time) / 1e3, 3),
    )
    return Judged(row, inspection)


def kept(folder: Path, arrival: Arrival, found: Judged) -> tuple[str | None, int]:
    """Keep the image of an arrival.

    Args:
        folder: The line's folder.
        arrival: The image.
        found: Its verdict.

    Returns:
        The ending of the file and its bytes; `None` and 0 where there is nothing to keep.

    Raises:
        OSError: It cannot be written.
    """
    content, ending = _content(arrival, found)
    if content is None:
        return None, 0
    images.save(images.place(folder, arrival.time, arrival.key, ending), content)
    return ending, len(content)


def overlay_of(folder: Path, arrival: Arrival) -> Path:
    """Return where the overlay of a kept image lies."""
    return images.place(folder, arrival.time, arrival.key, images.OVERLAY)


def wanted(row: Row, good_every: int) -> bool:
    """Tell whether an image is to be kept: all that are not good, and a sample of the good ones."""
    if row.verdict != GOOD:
        return True
    return good_every > 0 and int.from_bytes(row.key[:4], "big") % good_every == 0


def small_overlay(inspection: Inspection) -> bytes:
    """Draw the overlay of an inspection, at most `_SIDE` pixels wide and high, as JPEG."""
    view = inspection.view
    assert isinstance(view.pixels, Decoded)
    image = view.pixels.image
    scale = min(1.0, _SIDE / max(image.size))
    width, height = (max(1, round(scale * side)) for side in image.size)
    shown = image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0) if scale < 1 else image
    metadata = view.metadata
    drawn = overlay(
        shown,
        lambda rows: to_image(
            view.frame_map, metadata.preprocessing, width, height, inspected=metadata.inspected, rows=rows
        ),
        inspection.threshold,
        verdict=inspection.verdict,
        score=inspection.score,
        boxes=[tuple(round(scale * each) for each in region.box) for region in inspection.regions],  # type: ignore[misc]
    )
    file = io.BytesIO()
    drawn.save(file, "JPEG", quality=85)
    return file.getvalue()


def text(given: str) -> str:
    """Return a text that a database and JSON take: of a readable length, without halves of characters."""
    return given.encode("utf-8", "backslashreplace").decode()[:_LONGEST]


def _inspection(arrival: Arrival, product: Product, child: DecodingChild) -> Inspection:
    image = arrival.image
    if arrival.distrusted and isinstance(image, bytes):
        image = child.decode(image, levels=product.detector.metadata.preprocessing.levels)
    return pipeline.inspect(product.detector, image, product.choice)


def _content(arrival: Arrival, found: Judged) -> tuple[bytes | None, str]:
    """Return the bytes of a file that keeps the image, and their ending."""
    image = arrival.image
    if isinstance(image, Path):
        ending = image.suffix.lower().lstrip(".")
        with suppress(OSError, MemoryError):
            return image.read_bytes(), ending if ending.isalnum() and len(ending) <= 8 else "img"
        return None, ""
    if isinstance(image, bytes):
        return image, next((ending for magic, ending in _ENDINGS if image.startswith(magic)), "img")
    if found.inspection is not None and isinstance(found.inspection.view.pixels, Decoded):
        shown = found.inspection.view.pixels.image
    elif image.dtype == np.uint8 and image.ndim in (2, 3):
        shown = Image.fromarray(image)
    else:
        return None, ""
    file = io.BytesIO()
    shown.save(file, "PNG", compress_level=1)  # without loss, since a model may learn from it
    return file.getvalue(), "png"


def _without_path(error: Exception, arrival: Arrival) -> str:
    """Return the sentence of an error, with the name of the image in place of its path."""
    sentence = reason_of(error, 1000)
    if isinstance(arrival.image, Path):
        sentence = sentence.replace(str(arrival.image), arrival.name)
    return text(sentence)
