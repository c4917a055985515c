"""Requests at the same time: bounded in number, in groups on a GPU, one by one on a CPU."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import golden
import numpy as np
import pytest
from kserve_requests import frame, post, tensor
from line.served import config_of, png, served

from padim_edge_artifact import DeviceError, ImageError
from padim_edge_line.batching import Batching, Gathering
from padim_edge_line.config import JudgingConfig, ProductConfig
from padim_edge_line.errors import BusyError, StoppingError
from padim_edge_line.products import Product, load
from padim_edge_runtime.detector import Detector

DETECTOR = Detector.load(golden.WHOLE, "cpu", threads=1)


@dataclass
class Slow:
    """A device that takes a while for each call, counts its images and is no CPU."""

    metadata: Any = DETECTOR.metadata
    device: str = "cuda"
    threads: int | None = None
    largest: int | None = None
    sizes: list[int] = field(default_factory=list)
    seconds: float = 0.02
    broken: bool = False

    def __call__(self, images: Any, *, threshold: float | None = None) -> Any:
        self.sizes.append(len(images))
        time.sleep(self.seconds)
        if self.broken:
            raise DeviceError("it is broken")
        return DETECTOR(images, threshold=threshold)


def product(detector: Any = None) -> Product:
    found = load(ProductConfig(name="bottle", model=golden.WHOLE, device="cpu"), golden.WHOLE, 1)
    return found if detector is None else replace(found, detector=detector)


def close_to(found: list[float], frames: list[Any]) -> None:
    """Distances of a batch may differ in their last digits; they must not belong to another image."""
    np.testing.assert_allclose(found, [float(DETECTOR(each).score[0]) for each in frames], rtol=1e-5)


def test_images_of_several_threads_go_into_one_call() -> None:
    slow = Slow()
    judge, frames = Gathering(slow, 4, 0.5), [frame(seed) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(judge, frames))
    assert slow.sizes == [4, 4]
    close_to([float(each.score[0]) for each in results], frames)
    assert all(len(each.anomaly_map) == len(each.p_value) == len(each.anomalous) == 1 for each in results)


def test_one_image_waits_no_longer_than_it_may() -> None:
    slow = Slow(seconds=0.0)
    start = time.monotonic()
    Gathering(slow, 8, 0.05)(frame(0))
    assert 0.05 <= time.monotonic() - start < 2
    assert slow.sizes == [1]


def test_images_gather_while_the_device_works() -> None:
    slow = Slow(seconds=0.1)
    judge = Gathering(slow, 8, 0.0)
    with ThreadPoolExecutor(7) as pool:
        first = pool.submit(judge, frame(0))
        while not slow.sizes:
            time.sleep(0.001)
        others = list(pool.map(judge, [frame(seed) for seed in range(1, 7)]))
    close_to([float(first.result().score[0])], [frame(0)])
    close_to([float(each.score[0]) for each in others], [frame(seed) for seed in range(1, 7)])
    assert slow.sizes[0] == 1
    assert sum(slow.sizes) == 7
    assert len(slow.sizes) <= 3


def test_a_failure_reaches_all_images_of_the_call_and_no_other() -> None:
    slow = Slow(broken=True)
    judge = Gathering(slow, 2, 1.0)
    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(judge, frame(seed)) for seed in range(2)]:
            with pytest.raises(DeviceError, match="it is broken"):
                future.result()
    slow.broken = False
    close_to([float(Gathering(slow, 2, 0.0)(frame(5)).score[0])], [frame(5)])
    close_to([float(judge(frame(6)).score[0])], [frame(6)])


def test_a_gpu_gets_batches_no_larger_than_its_engine_takes() -> None:
    async def main() -> list[float]:
        batching = Batching(batch=8, wait_s=0.05, most=64)
        made = product(slow)
        found = await asyncio.gather(*(batching.judge(made, [frame(seed)]) for seed in range(8)))
        batching.close()
        return [each.score for (each,) in found]

    slow = Slow(largest=3)
    close_to(asyncio.run(main()), [frame(seed) for seed in range(8)])
    assert max(slow.sizes) == 3
    assert sum(slow.sizes) == 8


def test_a_cpu_judges_each_image_by_itself_and_the_order_stays() -> None:
    async def main() -> list[float]:
        busy: dict[int, float] = {}
        batching = Batching(batch=8, wait_s=0.05, most=64, busy=busy)
        made = product()
        found = await asyncio.gather(*(batching.judge(made, [frame(seed), frame(seed + 100)]) for seed in range(20)))
        assert batching.waiting == 0
        assert busy == {}
        batching.close()
        return [each.score for both in found for each in both]

    wanted = [float(DETECTOR(frame(seed + more)).score[0]) for seed in range(20) for more in (0, 100)]
    assert asyncio.run(main()) == wanted


def test_too_many_are_refused_at_once_and_nothing_of_them_is_judged() -> None:
    async def main() -> None:
        batching = Batching(batch=2, wait_s=0.0, most=4)
        made = product(slow)
        tasks = [asyncio.ensure_future(batching.judge(made, [frame(seed)])) for seed in range(4)]
        await asyncio.sleep(0)
        assert batching.waiting == 4
        with pytest.raises(BusyError):
            await batching.judge(made, [frame(9)])
        await asyncio.gather(*tasks)
        with pytest.raises(BusyError):
            await batching.judge(made, [frame(9)] * 5)
        await batching.judge(made, [frame(9)] * 4)
        batching.close()

    slow = Slow()
    asyncio.run(main())
    assert sum(slow.sizes) == 8


def test_one_wrong_image_names_itself_and_blocks_nothing() -> None:
    async def main() -> None:
        batching = Batching(batch=2, wait_s=0.0, most=8)
        made = product()
        with pytest.raises(ImageError, match=r"^image 2 cannot be judged: "):
            await batching.judge(made, [png(0), b"no image", png(1)])
        (found,) = await batching.judge(made, [png(1)])
        assert found.score == DETECTOR.inspect(png(1)).score
        while batching.waiting:
            await asyncio.sleep(0.01)
        batching.close()
        with pytest.raises(StoppingError):
            await batching.judge(made, [png(1)])

    asyncio.run(main())


def test_what_waits_at_the_end_is_told_so() -> None:
    async def main() -> None:
        batching = Batching(batch=2, wait_s=0.0, most=64)
        task = asyncio.ensure_future(batching.judge(product(Slow(seconds=0.3)), [frame(seed) for seed in range(16)]))
        await asyncio.sleep(0.05)
        batching.close()
        with pytest.raises(StoppingError):
            await task

    asyncio.run(main())


def test_a_flood_gets_429_and_every_other_answer_is_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go = threading.Event(), threading.Event()
    real = Detector.__call__

    def held(self: Detector, images: Any, *, threshold: float | None = None) -> Any:
        begun.set()
        go.wait(30)
        return real(self, images, threshold=threshold)

    config = replace(config_of(tmp_path / "line", ["bottle"]), judging=JudgingConfig(most_waiting=3))
    with served(config) as found, ThreadPoolExecutor(8) as pool:
        monkeypatch.setattr(Detector, "__call__", held)

        def send(seed: int) -> Any:
            return post(found.url, {"inputs": [tensor([frame(seed)])], "outputs": [{"name": "score"}]})

        first = [pool.submit(send, seed) for seed in range(8)]
        deadline = time.monotonic() + 20
        while sum(future.done() for future in first) < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        refused = [future.result() for future in first if future.done()]
        assert [each.status_code for each in refused] == [429] * 5
        assert {each.headers["retry-after"] for each in refused} == {"1"}
        go.set()
        right = 0
        for seed, future in enumerate(first):
            if (answer := future.result()).status_code == 200:
                right += answer.json()["outputs"][0]["data"] == [float(real(DETECTOR, frame(seed)).score[0])]
        assert right == 3
        (page,) = [part for part in found.line.board.parts() if part.name == "page"]
        assert (page.counts["inferred"], page.counts["refused"]) == (3, 5)


def test_requests_that_wait_at_the_end_are_told_to_come_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, ours = threading.Event(), list[Detector]()
    real = Detector.__call__

    def slow(self: Detector, images: Any, *, threshold: float | None = None) -> Any:
        if self in ours:  # a thread of an earlier test may still call its own
            begun.set()
        time.sleep(0.3)
        return real(self, images, threshold=threshold)

    with ThreadPoolExecutor(1) as pool:
        with served(config_of(tmp_path / "line", ["bottle"])) as found:
            ours.append(found.line.products.get("bottle").detector)
            monkeypatch.setattr(Detector, "__call__", slow)
            many = {"inputs": [tensor([frame(seed) for seed in range(32)])], "outputs": [{"name": "score"}]}
            future = pool.submit(post, found.url, many)
            assert begun.wait(20)
        answer = future.result()
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
