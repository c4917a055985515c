"""Prometheus metrics of a line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from padim_edge_line.health import WORKING

if TYPE_CHECKING:
    from padim_edge_line.line import Line
    from padim_edge_line.row import Row

__all__ = ["Metrics", "exposition"]

_SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0)


class Metrics:
    """Counts since the start, and gauges of the present state.

    Args:
        line: The line.
    """

    def __init__(self, line: Line) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        labels = ("product", "source", "verdict")
        self._images = Counter("padim_edge_images", "Images with a durable row.", labels, registry=self.registry)
        self._seconds = Histogram(
            "padim_edge_latency_seconds",
            "Time from the arrival of an image to its row.",
            ("product",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._model = Histogram(
            "padim_edge_model_seconds", "Time in the model.", ("product",), buckets=_SECONDS, registry=self.registry
        )
        self.registry.register(_State(line))
        ProcessCollector(registry=self.registry)

    def add(self, row: Row) -> None:
        """Count a row."""
        self._images.labels(row.product, row.source, row.verdict).inc()
        self._seconds.labels(row.product).observe(row.latency_ms / 1e3)
        if row.score is not None:
            self._model.labels(row.product).observe(row.model_ms / 1e3)


class _State(Collector):
    def __init__(self, line: Line) -> None:
        self._line = line

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        line = self._line
        yield GaugeMetricFamily(
            "padim_edge_ready", "Whether images can be judged and recorded.", value=float(line.board.ready())
        )
        yield GaugeMetricFamily("padim_edge_waiting", "Images that have arrived and have no row yet.", line.waiting)
        active = GaugeMetricFamily("padim_edge_active", "Whether the product is made.", labels=["product"])
        for name in line.products.names:
            active.add_metric([name], float(name == line.products.active))
        yield active
        up = GaugeMetricFamily("padim_edge_up", "Whether a part of the line works.", labels=["kind", "name"])
        counts = GaugeMetricFamily("padim_edge_part", "Numbers of a part.", labels=["kind", "name", "what"])
        for part in line.board.parts():
            up.add_metric([part.kind, part.name], float(part.state == WORKING))
            for what, value in part.counts.items():
                counts.add_metric([part.kind, part.name, what], value)
        yield up
        yield counts
        number, size = line.record.reader().kept()
        yield GaugeMetricFamily("padim_edge_kept_images", "Images that are kept.", value=number)
        yield GaugeMetricFamily("padim_edge_kept_bytes", "Bytes of the kept images.", value=size)


def exposition(line: Line) -> tuple[bytes, str]:
    """Return all metrics as text, and its content type."""
    return generate_latest(line.metrics.registry), CONTENT_TYPE_LATEST
