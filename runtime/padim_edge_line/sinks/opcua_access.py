"""Who may connect to the OPC UA server, and the certificate that encrypts the connection."""

from __future__ import annotations

import hmac
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asyncua import ua
from asyncua.crypto import cert_gen
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.server import Server
from asyncua.server.user_managers import UserManager
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from padim_edge_artifact.errors import PadimEdgeError
from padim_edge_line.config import OpcUaConfig
from padim_edge_line.configuration import is_loopback

if TYPE_CHECKING:
    from asyncua.server.internal_server import InternalServer

__all__ = ["Users", "secure"]

_DAYS = 20 * 365
"""Life of the certificate. A line must not stop because a year is over."""
_OPEN = [ua.SecurityPolicyType.NoSecurity]
_ENCRYPTED = [
    ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt,
    ua.SecurityPolicyType.Aes128Sha256RsaOaep_SignAndEncrypt,
    ua.SecurityPolicyType.Aes256Sha256RsaPss_SignAndEncrypt,
]


class Users(UserManager):
    """The one user that is configured, or everybody where none is. Nobody is given more rights than a PLC needs."""

    def __init__(self, username: str | None, password: str) -> None:
        self._expected = None if username is None else f"{username}\0{password}".encode()

    def get_user(
        self,
        iserver: InternalServer,  # noqa: ARG002
        username: str | None = None,
        password: str | None = None,
        certificate: Any = None,  # noqa: ARG002
    ) -> User | None:
        """Return the user if the password is right."""
        if self._expected is not None:
            given = f"{username}\0{password}".encode()
            if not hmac.compare_digest(given, self._expected):
                return None
        return User(role=UserRole.User, name=username)


async def secure(server: Server, config: OpcUaConfig, folder: Path) -> None:
    """Set who may connect and how. Where there is a user, the connection is encrypted.

    Args:
        server: The server, before it starts.
        config: The sink.
        folder: Folder that keeps the key and the certificate, so that PLCs can go on trusting it.

    Raises:
        PadimEdgeError: The certificate cannot be written or read.
    """
    server.allow_remote_admin(False)
    if config.username is None:
        server.set_security_policy(_OPEN)
        server.set_identity_tokens([ua.AnonymousIdentityToken])
        return
    key, certificate = folder / "opcua-key.pem", folder / "opcua-certificate.der"
    try:
        if not (key.is_file() and certificate.is_file()):
            _make(key, certificate, server.get_application_uri())
        await server.load_certificate(certificate)
        await server.load_private_key(key)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is damaged"
        raise PadimEdgeError(
            f"{config.name}: the certificate for OPC UA cannot be used ({reason}); delete opcua-key.pem and "
            "opcua-certificate.der in the line's folder, and new ones are made"
        ) from None
    server.set_security_policy([*(_OPEN if is_loopback(config.host) else []), *_ENCRYPTED])
    server.set_identity_tokens([ua.UserNameIdentityToken])


def _make(key: Path, certificate: Path, application: str) -> None:
    host = socket.gethostname()
    private = cert_gen.generate_private_key()
    signed = cert_gen.generate_self_signed_app_certificate(
        private,
        application,
        {"commonName": f"padim-edge on {host}"[:64]},
        [x509.UniformResourceIdentifier(application), x509.DNSName(host)],
        extended=[ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH],
        days=_DAYS,
    )
    with os.fdopen(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(cert_gen.dump_private_key_as_pem(private))
    certificate.write_bytes(signed.public_bytes(encoding=Encoding.DER))
