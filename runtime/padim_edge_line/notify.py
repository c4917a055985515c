"""Messages to systemd: ready, alive, stopping (sd_notify(3))."""

from __future__ import annotations

import os
import socket
from contextlib import suppress

__all__ = ["notify", "watchdog_seconds"]


def notify(state: str) -> None:
    """Send a state such as `READY=1`. Without systemd, nothing happens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")) or not hasattr(socket, "AF_UNIX"):
        return
    name = f"\0{address[1:]}" if address.startswith("@") else address
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.sendto(state.encode(), name)


def watchdog_seconds() -> float | None:
    """Return the seconds between two signs of life that systemd expects; `None` where it expects none."""
    given, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID")
    if not given.isdecimal() or int(given) == 0 or (pid is not None and pid != str(os.getpid())):
        return None
    return int(given) / 1e6
