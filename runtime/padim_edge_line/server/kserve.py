"""Routes of the Open Inference Protocol, version 2, which KServe and Triton speak. Nothing of it goes on record."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import TypeVar, cast

import anyio
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from padim_edge_artifact import DeviceError, ImageError
from padim_edge_line.batching import Batching
from padim_edge_line.errors import BusyError, StoppingError
from padim_edge_line.health import WORKING
from padim_edge_line.products import Product
from padim_edge_line.server.access import OPEN, READ, SUBMIT
from padim_edge_line.server.answers import RefusedError, answer, sentence
from padim_edge_line.server.asking import printable, queries, way
from padim_edge_line.server.kserve_tensors import answered, inputs_of, outputs_of, read
from padim_edge_line.server.limits import body
from padim_edge_line.server.service import Service, service_of

__all__ = ["HEAD_LENGTH", "Inference", "routes"]

T = TypeVar("T")

HEAD_LENGTH = "inference-header-content-length"
"""Header with the number of bytes of JSON in front of binary tensors."""

_MODEL = "/v2/models/{name}"
_DIGITS = re.compile(r"[0-9]{1,10}")
_AT_ONCE = 65_536
"""Bytes of JSON that are read in the event loop. More is read in a thread, one request after the other."""
_MANY = 16_384
"""Numbers of an answer that are written as JSON in the event loop."""


def routes() -> list[Route]:
    """Return the routes."""
    found = [
        way("/v2", server, need=READ),
        way("/v2/health/live", live, need=OPEN),
        way("/v2/health/ready", ready, need=OPEN),
    ]
    for path in (_MODEL, f"{_MODEL}/versions/{{version}}"):
        found += [
            way(path, model, need=READ),
            way(f"{path}/ready", model_ready, need=READ),
            way(f"{path}/infer", infer, need=SUBMIT, methods=["POST"]),
        ]
    return found


async def server(request: Request) -> Response:
    """Answer with the name of the server and its extensions of the protocol."""
    queries(request)
    return answer(
        {"name": "padim-edge", "version": version("padim-edge-runtime"), "extensions": ["binary_tensor_data"]}
    )


async def live(request: Request) -> Response:
    """Tell that the event loop turns."""
    queries(request)
    return answer({"live": True})


async def ready(request: Request) -> Response:
    """Tell whether all models have passed their self-tests: 200 or 400, as the protocol has it."""
    queries(request)
    service = service_of(request)
    models = [part for part in service.line.board.parts() if part.kind == "model"]
    names = {part.name for part in models if part.state == WORKING}
    if service.ending.is_set() or names != set(service.line.products.names):
        raise RefusedError(400, "not all models are ready; see the state of the line")
    return answer({"ready": True})


async def model(request: Request) -> Response:
    """Answer with the inputs and outputs of a model."""
    queries(request)
    product = _product(request)
    metadata = product.detector.metadata
    return answer(
        {
            "name": product.name,
            "versions": [str(product.revision)],
            "platform": "onnxruntime_onnx",
            "inputs": [tensor.to_json() for tensor in inputs_of(metadata)],
            "outputs": [tensor.to_json() for tensor in outputs_of(metadata)],
        }
    )


async def model_ready(request: Request) -> Response:
    """Tell whether a model has passed its self-test: 200 or 400, as the protocol has it."""
    queries(request)
    line = service_of(request).line
    name = _name(request)
    states = {part.name: part.state for part in line.board.parts() if part.kind == "model"}
    if states.get(name) != WORKING:
        raise RefusedError(400, f"the model of {name} is not ready; see the state of the line")
    product = _product(request)
    return answer({"name": product.name, "ready": True})


async def infer(request: Request) -> Response:
    """Judge the images of a request."""
    queries(request)
    service, shared = service_of(request), cast("Inference", request.app.state.inference)
    if not service.config.images:
        raise RefusedError(403, "posting images is turned off; set images = true under [server]")
    if request.headers.get("content-encoding", "identity") != "identity":
        raise RefusedError(415, "the body is compressed; send it as it is")
    product, head = _product(request), _head(request)  # the model of this moment, not of the body's last byte
    if shared.batching.waiting >= shared.batching.most:
        raise shared.busy()
    content = await body(request, service.most_bytes, service.memory)
    try:
        return await shared.inferred(product, content, head)
    except BusyError:
        raise shared.busy() from None
    except StoppingError:
        raise RefusedError(503, "the service is ending; send the request again when it is back", wait=5) from None
    except ImageError as error:
        raise RefusedError(400, sentence(error)) from error
    except DeviceError as error:
        service.line.loading.failed(product.name, str(error))
        raise RefusedError(503, f"the device of {product.name} fails; see the state of the line", wait=5) from error
    finally:
        service.memory.release(len(content))


class Inference:
    """State that requests for inference share.

    Args:
        service: State that all requests share.
    """

    def __init__(self, service: Service) -> None:
        self._service, self._line = service, service.line
        self._json = anyio.CapacityLimiter(1)  # so that only one large text is in memory as values of Python
        self._judged = self._refused = 0
        self._batching: Batching | None = None
        self._ending: asyncio.Task[None] | None = None

    @property
    def batching(self) -> Batching:
        """Threads that judge, made with the first request."""
        if self._batching is None:
            config = self._service.config
            self._batching = Batching(
                batch=config.batch,
                wait_s=config.batch_wait_ms / 1e3,
                most=self._line.config.judging.most_waiting,
                busy=self._line.busy_since,
            )
            self._ending = asyncio.ensure_future(self._end(self._batching))
        return self._batching

    async def inferred(self, product: Product, content: bytes, head: int | None) -> Response:
        """Judge the images in a body, and answer.

        Raises:
            PadimEdgeError: Whatever `read` and `Batching.judge` raise.
        """
        metadata = product.detector.metadata
        size = len(content) if head is None else head
        asked = await self._run(partial(read, content, head, metadata, self.batching.most), large=size > _AT_ONCE)
        answers = await self.batching.judge(product, asked.images)
        self._judged += len(answers)
        self._line.board.count("server", "page", inferred=self._judged)
        about = {
            "model_name": product.name,
            "model_version": str(product.revision),
            "parameters": {"threshold": _threshold(product), "model": product.digest},
        }
        texts = [each for each in outputs_of(metadata) if asked.outputs.get(each.name) is False]
        size = len(answers) * sum(math.prod(each.shape[1:]) for each in texts)
        written = await self._run(partial(answered, about, asked, answers, metadata), large=size > _MANY)
        if written[1] is None:
            return Response(written[0], media_type="application/json")
        return Response(written[0], headers={HEAD_LENGTH: str(written[1])}, media_type="application/octet-stream")

    def busy(self) -> RefusedError:
        """Count a refusal, and return it."""
        self._refused += 1
        self._line.board.count("server", "page", refused=self._refused)
        return RefusedError(429, "too many images wait to be judged; try again soon", wait=1, close=True)

    async def close(self) -> None:
        """End the threads and processes. The service must be about to end."""
        if self._ending is not None:
            await self._ending

    async def _end(self, batching: Batching) -> None:
        """Refuse what waits as soon as the service is about to end, while there is time to say so."""
        await self._service.ending.wait()
        await asyncio.get_running_loop().run_in_executor(None, batching.close)

    async def _run(self, work: Callable[[], T], *, large: bool) -> T:
        return await anyio.to_thread.run_sync(work, limiter=self._json) if large else work()


def _name(request: Request) -> str:
    name: str = request.path_params["name"]
    if name not in service_of(request).line.products.names:
        raise RefusedError(404, f"there is no model {printable(name, 40)!r}; expected a product of this line")
    return name


def _product(request: Request) -> Product:
    """Return the product that a request names, with the model of this moment."""
    name, line = _name(request), service_of(request).line
    if not line.products.loaded(name):
        raise RefusedError(503, f"the model of {name} is not loaded; see the state of the line", wait=5)
    product = line.products.get(name)
    wanted = request.path_params.get("version")
    if wanted is not None and wanted != str(product.revision):
        raise RefusedError(
            404, f"there is no version {printable(wanted, 20)!r} of {name}; expected {product.revision}, or none"
        )
    return product


def _head(request: Request) -> int | None:
    """Return the number of bytes of JSON in front of binary tensors."""
    text = request.headers.get(HEAD_LENGTH)
    if text is not None and not _DIGITS.fullmatch(text):
        raise RefusedError(400, "Inference-Header-Content-Length is no number of bytes")
    return None if text is None else int(text)


def _threshold(product: Product) -> float:
    own = product.choice.threshold
    return product.detector.metadata.threshold if own is None else own
