"""The watch over all products of a line, which tells the line of changes and outlives a restart."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from padim_edge_line.drift.baseline import IMAGES
from padim_edge_line.drift.monitor import Change, Monitor
from padim_edge_line.drift.observation import Observer
from padim_edge_line.health import FAILING, STARTING, WORKING
from padim_edge_line.news import Event

if TYPE_CHECKING:
    from padim_edge_line.judging import Judged
    from padim_edge_line.line import Line
    from padim_edge_line.products import Product

__all__ = ["STATE", "Drift"]

STATE = "drift:"
"""Start of the setting of the record that holds the state of a product's monitor."""

_KEPT_EVERY = 50
"""Number of images of an unfinished baseline after which it is kept."""

log = logging.getLogger(__name__)


class Drift:
    """Watch over all products of a line. All calls come from the line's event loop.

    Args:
        line: The line.
    """

    def __init__(self, line: Line) -> None:
        self._line = line
        self._monitors: dict[str, Monitor] = {}
        self._observers: dict[str, Observer] = {}

    def model(self, product: Product) -> None:
        """Watch a model from now on. One that was watched before keeps its baseline, another begins a new one."""
        metadata = product.detector.metadata
        self._observers[product.name] = Observer(metadata)
        self._monitors[product.name] = self._restored(product.name, product.digest) or Monitor(
            product.digest, metadata.grid
        )
        self._show(product.name)

    def add(self, judged: Judged) -> None:
        """Add an image that was judged and is on record."""
        row, inspection = judged.row, judged.inspection
        monitor = self._monitors.get(row.product)
        if inspection is None or monitor is None or monitor.model != row.model:
            return
        before = monitor.learned
        for change in monitor.add(self._observers[row.product](inspection, row.time)):
            self._tell(row.product, change)
        if before != monitor.learned:
            self._show(row.product)
            if monitor.learned % _KEPT_EVERY == 0 or monitor.learned == IMAGES:
                self._keep(row.product)

    def marked(self, product: str, time: int, mark: str) -> None:
        """Take an image out of an unfinished baseline where a person has said that it has a defect.

        Args:
            product: Product of the image.
            time: Time of the image's arrival.
            mark: One of `record.MARKS`.
        """
        if mark == "missed" and product in self._monitors:
            self._monitors[product].forget(time)

    def restart(self, product: str) -> None:
        """Take the present state of the line as the right one: begin a new baseline."""
        if product in self._monitors:
            self._monitors[product].restart()
            self._keep(product)
            self._show(product)

    def changes(self, product: str) -> tuple[Change, ...]:
        """Return the changes of a product that have been told and are not over."""
        return self._monitors[product].lasting if product in self._monitors else ()

    def _tell(self, product: str, change: Change) -> None:
        log.log(logging.INFO if change.over else logging.WARNING, "drift of %s: %s", product, change.sentence)
        self._line.record.event("drift over" if change.over else "drift", f"{product}: {change.sentence}")
        self._line.tell(Event("drift", {"product": product, **change.to_json()}))
        self._keep(product)
        self._show(product)

    def _show(self, product: str) -> None:
        """Show the state on the board."""
        board, monitor = self._line.board, self._monitors[product]
        if monitor.learned < IMAGES:
            board.set("drift", product, STARTING, f"learns from {IMAGES} good images what is usual")
        elif monitor.lasting:
            board.set("drift", product, FAILING, "; ".join(change.sentence for change in monitor.lasting))
        else:
            board.set("drift", product, WORKING)
        board.count("drift", product, learned=monitor.learned)

    def _keep(self, product: str) -> None:
        content = json.dumps(self._monitors[product].state(), separators=(",", ":"))
        self._line.record.set(STATE + product, content)

    def _restored(self, product: str, digest: str) -> Monitor | None:
        setting = self._line.record.reader().setting(STATE + product)
        if setting is None:
            return None
        try:
            found = Monitor.restored(json.loads(setting))
        except ValueError as error:
            log.warning("the baseline of %s cannot be read and begins anew: %s", product, error)
            return None
        return found if found.model == digest else None
