"""Check of the address that a server for a PLC listens on."""

from __future__ import annotations

import errno
import socket

from padim_edge_artifact.errors import PadimEdgeError

__all__ = ["try_port"]

_FIRST_FREE = 1024


def try_port(name: str, host: str, port: int) -> None:
    """Listen on an address for a moment.

    Raises:
        PadimEdgeError: The address is not one of this computer, or the port is in use or needs rights.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as found:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind(address)
            found.listen(1)
    except OSError as error:
        raise PadimEdgeError(f"{name}: {_sentence(error, host, port)}") from None


def _sentence(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is in use by another program; choose another port, or stop that program"
    if error.errno in (errno.EACCES, errno.EPERM):
        if port < _FIRST_FREE:
            return (
                f"port {port} needs the right CAP_NET_BIND_SERVICE; give it to the service, or choose a port from 1024"
            )
        return f"the system does not permit listening on port {port}; choose another port"
    return f"cannot listen on {host}: it is not an address of this computer; name one that is"
