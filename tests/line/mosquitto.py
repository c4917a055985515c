"""Debian's mosquitto for tests and benchmarks: started, stopped, frozen, and a subscriber that forgets nothing."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

if TYPE_CHECKING:
    from typing import Self

__all__ = ["PROGRAM", "REASON", "Message", "Mosquitto", "Subscriber", "free_port", "until"]

PROGRAM = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin:/opt/homebrew/sbin")
"""The broker; `None` where it is not installed."""

REASON = "mosquitto is not installed"
"""Reason to skip a test."""

_SECONDS = 30.0
"""Generous limit for anything to happen."""


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def until(condition: Callable[[], object], what: str, seconds: float = _SECONDS) -> None:
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {seconds:g} s"
        time.sleep(0.01)


class Mosquitto:
    """A broker on a port of its own, which it keeps when it is started again.

    Args:
        folder: Folder for its files.
        users: Passwords by user; anybody may connect where there are none.
        certificate: Files with certificate and key of an encrypted listener.
    """

    def __init__(
        self, folder: Path, users: Mapping[str, str] | None = None, certificate: tuple[Path, Path] | None = None
    ) -> None:
        assert PROGRAM is not None, REASON
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.config = folder / "mosquitto.conf"
        lines = [
            f"listener {self.port} 127.0.0.1",
            "user root",  # of no effect unless root starts it, who would not be able to read the folder otherwise
            "persistence true",
            f"persistence_location {folder}/",
            f"log_dest file {folder / 'mosquitto.log'}",
            "max_queued_messages 0",
            "max_queued_bytes 0",
            f"allow_anonymous {'false' if users else 'true'}",
        ]
        if users:
            passwords = folder / "passwords"
            passwords.write_text("".join(f"{user}:{password}\n" for user, password in users.items()))
            subprocess.run(["mosquitto_passwd", "-U", str(passwords)], check=True, capture_output=True)
            lines.append(f"password_file {passwords}")
        if certificate:
            lines += [f"certfile {certificate[0]}", f"keyfile {certificate[1]}"]
        self.config.write_text("\n".join(lines) + "\n")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and wait until it listens."""
        assert self._process is None
        assert PROGRAM is not None
        process = self._process = subprocess.Popen(
            [PROGRAM, "-c", str(self.config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

        def listens() -> bool:
            assert process.poll() is None, "mosquitto ended"
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                return False
            return True

        until(listens, "mosquitto listens")

    def stop(self, how: int = signal.SIGTERM) -> None:
        """Stop it. Retained messages and sessions are kept, unless it is killed."""
        if self._process is None:
            return
        process, self._process = self._process, None
        process.send_signal(signal.SIGCONT)
        process.send_signal(how)
        process.wait(_SECONDS)

    def freeze(self) -> None:
        """Let it hang: connections stay, and nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


@dataclass(frozen=True)
class Message:
    """A message as a subscriber gets it."""

    topic: str
    payload: bytes
    retained: bool

    def json(self) -> Any:
        return json.loads(self.payload)


class Subscriber:
    """Client that collects messages in a thread. The broker keeps its session while either of them is away.

    Args:
        port: Port of the broker on this machine.
        topic: Topics to subscribe to.
        options: Called with the client before it connects.
    """

    def __init__(self, port: int, topic: str = "#", options: Callable[[paho.Client], object] = lambda _: None) -> None:
        self.messages: list[Message] = []
        self._topic = topic
        self._ready = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id=f"subscriber{id(self)}", clean_session=False)
        self._client.on_connect = lambda client, *_: client.subscribe(topic, qos=1)
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = lambda _, __, found: self.messages.append(
            Message(found.topic, bytes(found.payload), found.retain)
        )
        self._client.reconnect_delay_set(1, 1)
        options(self._client)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert self._ready.wait(_SECONDS), "the subscription was not taken"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def of(self, topic: str) -> list[Message]:
        """Messages of one topic so far."""
        return [each for each in tuple(self.messages) if each.topic == topic]

    def last(self, topic: str) -> bytes:
        """Payload of the last message of a topic; empty where there was none."""
        return next((each.payload for each in reversed(self.of(topic))), b"")

    def publish(self, topic: str, payload: bytes | str, qos: int = 1, retain: bool = False) -> None:
        """Send a message and wait for the acknowledgement."""
        self._client.publish(topic, payload, qos=qos, retain=retain).wait_for_publish(_SECONDS)
