"""Announcement of a line to Home Assistant, which then shows it without being configured."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from padim_edge_line.sinks.mqtt_topics import Topics
from padim_edge_runtime.inspection import GOOD

__all__ = ["BIRTH", "announcements"]

BIRTH = "homeassistant/status"
"""Topic on which Home Assistant says `online` when it starts. The line announces itself again then."""

_PREFIX = "homeassistant"


def announcements(topics: Topics, line_name: str, products: Sequence[str], version: str) -> Iterator[tuple[str, bytes]]:
    """Yield topic and payload of the retained messages that describe a line's entities.

    Each product has its verdict, its score and whether there is a problem; the line has its product and its readiness.

    Args:
        topics: Topics of the line.
        line_name: Name of the line.
        products: Names of the products.
        version: Version of this program.
    """
    line_id = _id(topics.base)
    shared = {
        "availability_topic": topics.available,
        "device": {
            "identifiers": [line_id],
            "name": line_name,
            "manufacturer": "padim-edge",
            "model": "line",
            "sw_version": version,
        },
        "origin": {"name": "padim-edge", "sw_version": version},
    }
    for kind, key, content in [*_of_line(topics), *(each for name in products for each in _of_product(topics, name))]:
        payload = {**shared, **content, "unique_id": f"{line_id}_{key}"}
        yield f"{_PREFIX}/{kind}/{line_id}/{key}/config", json.dumps(payload).encode()


def _of_line(topics: Topics) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield kind, key and content of the line's own entities."""
    state = {"state_topic": topics.state, "entity_category": "diagnostic"}
    yield "sensor", "product", {**state, "name": "Product", "value_template": "{{ value_json.product }}"}
    ready = "{{ 'ON' if value_json.ready else 'OFF' }}"
    yield "binary_sensor", "ready", {**state, "name": "Ready", "device_class": "running", "value_template": ready}


def _of_product(topics: Topics, product: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield kind, key and content of a product's entities."""
    key, last = _id(product), {"state_topic": topics.last(product)}
    verdict = {"value_template": "{{ value_json.verdict }}", "json_attributes_topic": topics.last(product)}
    yield "sensor", f"{key}_verdict", {**last, **verdict, "name": f"{product} verdict", "force_update": True}
    score = {"value_template": "{{ value_json.score }}", "state_class": "measurement"}
    yield "sensor", f"{key}_score", {**last, **score, "name": f"{product} score", "force_update": True}
    wrong = f"{{{{ 'OFF' if value_json.verdict == '{GOOD}' else 'ON' }}}}"
    problem = {"value_template": wrong, "device_class": "problem"}
    yield "binary_sensor", f"{key}_problem", {**last, **problem, "name": f"{product} problem"}


def _id(name: str) -> str:
    """Return a name as letters, digits, `_` and `-`, which are all that a topic of discovery may have."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", name)
    # Two names that differ in other characters only must not share an id.
    return plain if plain == name else f"{plain}_{hashlib.sha256(name.encode()).hexdigest()[:6]}"
