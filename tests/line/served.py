"""A real line with its server, in a thread of the test."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import golden
import numpy as np
from PIL import Image

from padim_edge_line.arrival import Arrival
from padim_edge_line.config import LineConfig, ProductConfig, RecordConfig, ServerConfig
from padim_edge_line.line import Line
from padim_edge_line.row import Row
from padim_edge_line.server.serving import serve

__all__ = ["TOKEN", "Served", "config_of", "image", "png", "served"]

TOKEN = "a token that nobody guesses"

T = TypeVar("T")


def image(seed: int, size: int = 64) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Pixels of noise: the golden models are not trained, so any image will do."""
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)


def png(seed: int, size: int = 64) -> bytes:
    """The same as a file."""
    target = io.BytesIO()
    Image.fromarray(image(seed, size)).save(target, "PNG")
    return target.getvalue()


def config_of(folder: Path, products: Sequence[str] = ("bottle", "screw"), **server: Any) -> LineConfig:
    """A line with golden models, and a server on a free port."""
    return LineConfig(
        name="test-line",
        folder=folder,
        products=tuple(ProductConfig(name=name, model=golden.WHOLE, device="cpu") for name in products),
        sources=server.pop("sources", ()),
        server=ServerConfig(**{"port": 0, "rate": 10_000.0, **server}),
        record=RecordConfig(good_every=1),
    )


@dataclass
class Served:
    """A line that is served."""

    line: Line
    url: str
    loop: asyncio.AbstractEventLoop
    serving: asyncio.Task[None]

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something in the line's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def judge(self, seed: int, product: str = "bottle", **more: Any) -> Row:
        """Have an image judged."""
        arrival = Arrival(source="test", name=f"{seed}.png", image=png(seed), product=product, **more)
        return self.run(self.line.judge(arrival))


@contextmanager
def served(
    config: LineConfig,
    prepare: Callable[[Line], None] = lambda _: None,
    triggered: Any = None,
) -> Iterator[Served]:
    """Start a line and its server, and end both."""
    there: list[Served] = []
    failed: list[BaseException] = []
    begun, end = threading.Event(), asyncio.Event()
    limit = 60

    async def main() -> None:
        loop = asyncio.get_running_loop()
        line = Line(config, TOKEN, triggered)
        try:
            await line.loading.first()
            loading = asyncio.ensure_future(line.loading.run())
            while not all(line.products.loaded(name) for name in line.products.names):
                await asyncio.sleep(0.01)
            prepare(line)
            url: asyncio.Future[str] = loop.create_future()
            assert config.server is not None
            serving = asyncio.ensure_future(serve(line, config.server, url.set_result))
            await asyncio.wait({url, serving}, return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                serving.result()
            there.append(Served(line, url.result(), loop, serving))
            begun.set()
            await end.wait()
            for task in (serving, loading):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        finally:
            await line.close()

    def body() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:  # noqa: BLE001 - it is raised in the test's thread
            failed.append(error)
        finally:
            begun.set()

    thread = threading.Thread(target=body)
    thread.start()
    begun.wait(limit)
    try:
        if not there:
            raise failed[0]
        yield there[0]
    finally:
        if there:
            there[0].loop.call_soon_threadsafe(end.set)
        thread.join(limit)
    if failed:
        raise failed[0]
