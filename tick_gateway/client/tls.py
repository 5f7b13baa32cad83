"""TLS of the commands: which certificates to trust, and descriptions of failed handshakes."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

# OpenSSL's codes for certificates whose issuer is not trusted: X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT and its neighbours.
_UNKNOWN_ISSUER: Final = (2, 18, 19, 20, 21)
_NO_TLS: Final = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE")


class TrustError(Exception):
    """A certificate file that cannot be used; the message is one line."""


def trust(cacert: str | None = None, insecure: bool = False) -> ssl.SSLContext:
    """A TLS context for clients, which verifies certificates and names.

    Args:
        cacert: a PEM file of certificates to trust, in place of the system's; None: the system's.
        insecure: accept any certificate.

    Raises:
        TrustError: ``cacert`` cannot be read, holds no certificate, or contradicts ``insecure``.
    """
    if insecure and cacert is not None:
        raise TrustError("--cacert contradicts --insecure; give one of them")
    try:
        context = ssl.create_default_context(cafile=cacert)
    except ssl.SSLError:  # also an OSError, with OpenSSL's errno
        raise TrustError(f"--cacert: {cacert} holds no certificate; accepted: PEM") from None
    except OSError as error:
        raise TrustError(f"--cacert: {cacert}: {error.strerror}") from None
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


@dataclass(frozen=True, slots=True)
class Secured:
    """A TLS host, in a form that can be sent to other processes.

    Attributes:
        host: the name that its certificate must have.
        cacert, insecure: see ``trust``.
    """

    host: str
    cacert: str | None = None
    insecure: bool = False

    def wrap(self, sock: socket.socket, *, handshake: bool = True) -> ssl.SSLSocket:
        """TLS on a connected socket. ``handshake``: do it now, if the socket is blocking.

        Raises:
            OSError: the handshake failed; the socket is closed.
        """
        context = _context(self.cacert, self.insecure)
        return context.wrap_socket(sock, server_hostname=self.host, do_handshake_on_connect=handshake)


@cache
def _context(cacert: str | None, insecure: bool) -> ssl.SSLContext:
    """One context for thousands of connections: reading the system's certificates takes milliseconds."""
    return trust(cacert, insecure)


def explain(error: ssl.SSLError) -> str:
    """Why a handshake failed, as one short clause."""
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = f"its certificate is not accepted: {error.verify_message.rstrip('.')}"
        return reason + ("; --cacert names whom to trust" if error.verify_code in _UNKNOWN_ISSUER else "")
    name = error.reason or ""
    if name in _NO_TLS:
        return "no TLS is spoken there; http:// may be meant"
    if isinstance(error, ssl.SSLEOFError) or name == "UNEXPECTED_EOF_WHILE_READING":
        return "the connection was closed during the TLS handshake"
    return f"the TLS handshake failed: {name.replace('_', ' ').lower() or error}"


def reason(error: object) -> str:
    """Why a connection failed, as one short clause: of TLS, of the system, or whatever else the error says."""
    if isinstance(error, ssl.SSLError):
        return explain(error)
    return getattr(error, "strerror", None) or str(error)


def tls_options(command: Command) -> Command:
    """Add the flags ``cacert`` and ``insecure`` to a command that connects to a gateway."""
    for option in (
        click.option("--insecure", is_flag=True, help="https: accept whatever certificate comes"),
        click.option(
            "--cacert", metavar="FILE", help="https: trust the certificates in this PEM file, not the system's"
        ),
    ):
        command = option(command)
    return command
