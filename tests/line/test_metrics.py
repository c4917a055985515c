"""Metrics for Prometheus, and logs: right numbers, no secrets."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import sys
from pathlib import Path

import pytest
from lines import TOKEN, config_of, drawn, running
from prometheus_client.parser import text_string_to_metric_families

from padim_edge_line import logs
from padim_edge_line.arrival import Arrival
from padim_edge_line.metrics import exposition


def test_metrics_count_what_the_record_has(tmp_path: Path) -> None:
    async def inside() -> None:
        async with running(config_of(tmp_path)) as line:
            for number in range(5):
                product = "whole" if number % 2 else "cropped"
                await line.judge(Arrival(source="s", name="n", image=drawn(number), product=product))
            await line.judge(Arrival(source="s", name="n", image=b"nothing", product="whole"))
            await asyncio.sleep(0.05)
            content, kind = exposition(line)
            assert kind.startswith("text/plain")
            assert TOKEN not in content.decode()
            assert str(tmp_path) not in content.decode()
            samples = {
                (sample.name, tuple(sorted(sample.labels.items()))): sample.value
                for family in text_string_to_metric_families(content.decode())
                for sample in family.samples
            }
            images = {
                dict(labels)["product"] + " " + dict(labels)["verdict"]: value
                for (name, labels), value in samples.items()
                if name == "padim_edge_images_total"
            }
            assert sum(images.values()) == 6
            assert images["whole unreadable"] == 1
            assert images == {
                f"{product} {verdict}": count
                for product, verdicts in line.record.reader().counts().items()
                for verdict, count in verdicts.items()
            }
            assert samples["padim_edge_ready", ()] == 1
            assert samples["padim_edge_waiting", ()] == 0
            assert samples["padim_edge_active", (("product", "whole"),)] == 1
            assert samples["padim_edge_up", (("kind", "record"), ("name", "record"))] == 1
            assert samples["padim_edge_kept_images", ()] == line.record.reader().kept()[0]

    asyncio.run(inside())


@pytest.mark.parametrize(
    "secret",
    [
        "rtsp://user:hidden@camera/stream",
        "Authorization: Bearer hidden",
        "http://127.0.0.1/?token=hidden&x=1",
        '{"password": "hidden"}',
        "password=hidden",
        "pwd: hidden",
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_no_log_holds_a_secret(monkeypatch: pytest.MonkeyPatch, secret: str, as_json: bool) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    root = logging.getLogger()
    handlers, level, raising = root.handlers[:], root.level, logging.raiseExceptions
    try:
        logs.set_up(as_json=as_json)
        log = logging.getLogger("padim_edge_line.test")
        log.info("opened %s", secret)
        try:
            raise ValueError(secret)
        except ValueError:
            log.exception("failed")
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        logging.raiseExceptions = raising
        for name in logs.NOISY:
            logging.getLogger(name).setLevel(logging.NOTSET)
        logging.getLogger("padim_edge_line").setLevel(logging.NOTSET)
    told = stream.getvalue()
    assert "hidden" not in told
    assert "opened" in told
    if as_json:
        assert [json.loads(line)["level"] for line in told.splitlines()] == ["info", "error"]
        assert "Traceback" in json.loads(told.splitlines()[1])["exception"]


def test_a_message_is_one_line_for_a_terminal() -> None:
    record = logging.LogRecord("padim_edge_line", logging.INFO, "", 0, "a \x1b[2J name", None, None)
    assert "\x1b" not in logs._Sentence().format(record)
    assert logs._Sentence().format(record).startswith("padim-edge: a ")
