"""Loading the models of a line: the first one at once, the others behind it, promoted ones when they come."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING

from padim_edge_artifact import PadimEdgeError
from padim_edge_line.health import FAILING, STARTING, WORKING
from padim_edge_line.news import Event
from padim_edge_line.products import MODEL, Product, load, model_of

if TYPE_CHECKING:
    from pathlib import Path

    from padim_edge_line.line import Line

__all__ = ["STATE", "Loading"]

STATE = "model-state:"
"""Start of the setting that says what came of a promotion, for whoever promoted."""

_LOOK_EVERY = 0.3
"""Seconds between two looks for a promoted model."""
_FIRST, _LONGEST = 1.0, 60.0
"""Seconds from a failure to the first trial to load a model anew, and the longest pause between trials."""

log = logging.getLogger(__name__)


class Loading:
    """Loads models in the background and puts them in the place of the ones before.

    Args:
        line: The line.
        threads: Threads for one image.
    """

    def __init__(self, line: Line, threads: int | None) -> None:
        self._line = line
        self._threads = threads
        self._configs = {product.name: product for product in line.config.products}
        self._settings: dict[str, str | None] = {}
        self._again: dict[str, asyncio.Task[None]] = {}
        self._stopped = False

    async def first(self) -> None:
        """Load the model of the product that is made.

        Raises:
            PadimEdgeError: It cannot be loaded.
        """
        for name in self._configs:
            self._line.board.set("model", name, STARTING)
        await self._load(self._line.products.active)

    async def run(self) -> None:
        """Load the other models, then promoted ones as they come, until it is cancelled."""
        for name in self._configs:
            if not self._line.products.loaded(name):
                try:
                    await self._load(name)
                except PadimEdgeError as error:
                    self.failed(name, str(error))
        changes = -1
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            reader = self._line.record.reader()
            if (found := reader.changes()) == changes:
                continue
            changes = found
            for name in self._configs:
                setting = reader.setting(MODEL + name)
                if setting != self._settings.get(name):
                    await self._promoted(name, setting)

    def failed(self, name: str, sentence: str) -> None:
        """Note that a model does not work, and load it anew until it does."""
        self._line.board.set("model", name, FAILING, sentence)
        if not self._stopped and (name not in self._again or self._again[name].done()):
            self._again[name] = asyncio.get_running_loop().create_task(self._retry(name))

    def stop(self) -> None:
        """Load nothing any more."""
        self._stopped = True
        for task in self._again.values():
            task.cancel()

    async def _retry(self, name: str) -> None:
        pause = _FIRST
        while True:
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST)
            try:
                await self._load(name)
                return
            except PadimEdgeError as error:
                self._line.board.set("model", name, FAILING, str(error))

    async def _promoted(self, name: str, setting: str | None) -> None:
        try:
            product = await self._load(name)
        except PadimEdgeError as error:
            self._settings[name] = setting  # the old model goes on; nothing is tried again until the next promotion
            log.warning("the promoted model of %s is refused, the one before goes on: %s", name, error)
            self._line.record.event("promotion failed", f"{name}: {error}")
            await self._answer(name, {"state": "failed", "sentence": str(error), "setting": setting})
            return
        self._line.record.event("promoted", f"{name}: revision {product.revision}, {product.digest}")
        self._line.tell(Event("product", {"active": self._line.products.active, "promoted": name}))
        await self._answer(name, {"state": "promoted", "digest": product.digest, "setting": setting})

    async def _answer(self, name: str, content: dict[str, str | None]) -> None:
        await asyncio.wrap_future(self._line.record.set(STATE + name, json.dumps(content)))

    async def _load(self, name: str) -> Product:
        config, loop = self._configs[name], asyncio.get_running_loop()
        setting = self._line.record.reader().setting(MODEL + name)
        model: Path = model_of(config, self._line.config.folder, setting)
        product = await loop.run_in_executor(None, load, config, model, self._threads)
        self._settings[name] = setting
        self._line.products.put(product)
        if self._line.drift is not None:
            self._line.drift.model(product)
        self._line.board.set("model", name, WORKING)
        self._line.board.count("model", name, revision=product.revision)
        return product
