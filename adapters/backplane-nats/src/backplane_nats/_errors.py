"""From nats-py's errors to Backplane's: `explain`."""

from __future__ import annotations

import re
import socket
import ssl
from typing import Final

import nats.errors
from backplane_core import AuthenticationError, TransportError

from backplane_nats._foreign import ForeignServerError

__all__ = ["explain"]

# "Authentication Timeout" is none of these: it means that CONNECT came late, and trying again helps.
_REFUSED: Final = re.compile(r"authorization violation|authentication (?:expired|revoked)|invalid user cred")


def explain(error: BaseException | None, where: object) -> TransportError:
    """Return the error to raise for one of nats-py's. Never chain the two: the cause could quote secrets.

    Args:
        error: What nats-py raised or reported; None if it just stopped.
        where: The server, without secrets.
    """
    if error is None or isinstance(error, nats.errors.UnexpectedEOF):
        return TransportError(f"{where} closed the connection")
    if isinstance(error, ForeignServerError):
        return TransportError(f"can't use {where}: {error}", retryable=error.retryable)
    if isinstance(error, nats.errors.Error):
        return _from_nats(error, where)
    if isinstance(error, OSError):
        return _from_socket(error, where)
    return _from_elsewhere(error, where)


def _from_socket(error: OSError, where: object) -> TransportError:
    if isinstance(error, ssl.SSLError):
        return _from_tls(error, where)
    if isinstance(error, TimeoutError):
        return TransportError(f"{where} did not answer in time")
    if isinstance(error, ConnectionRefusedError):
        return TransportError(
            f"no connection to {where}: nothing listens there: is the server running, and the port right?"
        )
    if isinstance(error, socket.gaierror):
        return TransportError(f"no connection to {where}: the host name has no address")
    return TransportError(f"no connection to {where}: {error.strerror or type(error).__name__}")


def _from_elsewhere(error: BaseException, where: object) -> TransportError:
    if isinstance(error, RuntimeError) and "interpreter shutdown" in str(error):
        return TransportError(f"no connection to {where}: the interpreter exits, and can no longer look up host names")
    # All else comes from making credentials: seeds, JWTs, callers' providers. Its text may quote them.
    return AuthenticationError(f"making the credentials for {where} failed with {type(error).__name__}")


def _from_nats(error: nats.errors.Error, where: object) -> TransportError:
    text = str(error).removeprefix("nats: ")
    # By text: nats-py has no types for most errors of a server, and turns some of their texts into lower case.
    if isinstance(error, nats.errors.AuthorizationError) or _REFUSED.search(text.lower()):
        return AuthenticationError(f"{where} refused the credentials: {text}")
    if isinstance(error, nats.errors.SecureConnWantedError):
        return TransportError(f"{where} offers no TLS; nothing was sent to it", retryable=False)
    if isinstance(error, nats.errors.MaxPayloadError):
        return TransportError(f"{where} accepts no frame of that size (its max_payload)", retryable=False)
    if "empty response" in text:
        return TransportError(
            f"{where} says nothing: is it NATS, and does it want the TLS handshake first (tls_handshake_first=true)?"
        )
    if "permissions violation" in text.lower():
        return TransportError(f"{where} denies this user a subject (here in lower case): {text}")
    return TransportError(f"{where}: {text}")


def _from_tls(error: ssl.SSLError, where: object) -> TransportError:
    if not isinstance(error, ssl.SSLCertVerificationError):
        return TransportError(f"TLS with {where} failed: {error.reason or 'the connection was closed'}")
    return TransportError(
        f"the certificate of {where} can't be verified: {error.verify_message}. For a private CA add "
        "?ca=/path/ca.pem to the URL, or connection_kwargs={'tls': ssl.create_default_context(cafile=...)}",
        retryable=False,
    )
