"""What nats-py raises, in this library's errors: `explain`."""

from __future__ import annotations

import re
import ssl
from typing import Final

import nats.errors
from backplane_core import AuthenticationError, TransportError

__all__ = ["explain"]

# "Authentication Timeout" is not one of these: it says that CONNECT came late, and trying again helps.
_REFUSED: Final = re.compile(r"authorization violation|authentication (?:expired|revoked)|invalid user cred")


def explain(error: BaseException | None, where: object) -> TransportError:
    """Return the error to raise for one of nats-py's. Never chain the two: a cause could quote secrets.

    Args:
        error: What nats-py raised or reported; None where it only stopped.
        where: The server, in a form without secrets.
    """
    if error is None or isinstance(error, nats.errors.UnexpectedEOF):
        return TransportError(f"{where} closed the connection")
    if isinstance(error, nats.errors.Error):
        return _from_nats(error, where)
    if isinstance(error, ssl.SSLError):
        return _from_tls(error, where)
    if isinstance(error, TimeoutError):
        return TransportError(f"{where} did not answer in time")
    if isinstance(error, OSError):
        return TransportError(f"no connection to {where}: {error.strerror or type(error).__name__}")
    # All else comes from work on credentials: seeds, JWTs, callers' providers. Its text may quote them.
    return AuthenticationError(f"making the credentials for {where} failed with {type(error).__name__}")


def _from_nats(error: nats.errors.Error, where: object) -> TransportError:
    text = str(error).removeprefix("nats: ")
    # By text: nats-py has no types for most of what a server says, and lowers the case of some of it.
    if isinstance(error, nats.errors.AuthorizationError) or _REFUSED.search(text.lower()):
        return AuthenticationError(f"{where} refused the credentials: {text}")
    if isinstance(error, nats.errors.SecureConnWantedError):
        return TransportError(f"{where} offers no TLS; it was sent nothing", retryable=False)
    if isinstance(error, nats.errors.MaxPayloadError):
        return TransportError(f"{where} takes no frame of that size (its max_payload)", retryable=False)
    if "permissions violation" in text.lower():
        return TransportError(f"{where} denies this user a subject (here in lower case): {text}")
    return TransportError(f"{where}: {text}")


def _from_tls(error: ssl.SSLError, where: object) -> TransportError:
    if not isinstance(error, ssl.SSLCertVerificationError):
        return TransportError(f"TLS with {where} failed: {error.reason or 'the connection was cut'}")
    return TransportError(
        f"the certificate of {where} can't be verified: {error.verify_message}. For a private CA add "
        "?ca=/path/ca.pem to the URL, or connection_kwargs={'tls': ssl.create_default_context(cafile=...)}",
        retryable=False,
    )
