"""Opens connections, and explains why one could not be opened: `Connector`."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from typing import Any, Final

import redis.exceptions as redis_errors
from attrs import frozen
from backplane_core import AuthenticationError, ConfigurationError, TransportError

from backplane_redis._connection import LinkConnection, make_connection
from backplane_redis._url import Address, RedisUrl, format_address

__all__ = ["Connector"]


@frozen
class _Hint:
    """What an exception of this kind means for the person who reads the error, and whether trying again can help."""

    kind: type[Exception]
    text: str
    retryable: bool = True


# redis-py wraps errors differently per kind of socket, so all causes are searched; the most telling kinds stand first.
_HINTS: Final = (
    _Hint(redis_errors.NoPermissionError, "the user lacks +client|setname, or +select"),
    _Hint(redis_errors.AuthenticationError, "user name or password is wrong or missing"),
    _Hint(
        ssl.SSLCertVerificationError,
        "its certificate can't be verified, {0.verify_message}; set ssl_ca_certs to the CA's file, and connect by a "
        "name in the certificate",
        retryable=False,
    ),
    _Hint(ssl.SSLError, "the TLS handshake failed: does the port speak TLS, or require a client certificate?"),
    _Hint(socket.gaierror, "the host name has no address"),
    _Hint(ConnectionRefusedError, "nothing listens there: is the server running, and the port right?"),
    _Hint(FileNotFoundError, "there is no such socket: is the server running, and the path right?"),
    _Hint(TimeoutError, "no answer in time: check address and firewall"),
    _Hint(redis_errors.ResponseError, "handshake refused: needs Redis 6 or newer, with that database", retryable=False),
    _Hint(redis_errors.RedisError, "it closed the connection: does the port want TLS, has it reached maxclients?"),
)
_CREDENTIALS: Final = (redis_errors.NoPermissionError, redis_errors.AuthenticationError)


class Connector:
    """Opens connections with the same options to one server or to several; constructing it opens nothing.

    Args:
        options: redis-py's.
        url: For errors.

    Raises:
        ConfigurationError: No connection can be made with these options.
    """

    def __init__(self, options: Mapping[str, Any], url: RedisUrl) -> None:
        self._options = options
        try:
            # Otherwise a missing certificate file would show at the first open, as a broken connection.
            if tls := getattr(make_connection(options), "ssl_context", None):
                tls.get()
        except (redis_errors.RedisError, OSError, ValueError, TypeError, AttributeError) as error:
            problem = str(error) or type(error).__name__
        else:
            return
        # Out here: inside, even `from None` would keep the library's own as `__context__`.
        raise ConfigurationError(f"the options for {url} can't be used: {problem}")

    async def open(self, address: Address | None = None, *, peer: str = "Redis") -> LinkConnection:
        """Connect, authenticate and greet, in one attempt.

        Args:
            address: Where to; None: to the socket that the options name.
            peer: What is there, for people.

        Raises:
            TransportError: It failed; the message suggests a fix and shows no secret.
            AuthenticationError: The server refused the credentials.

        Cancellation: leaves no socket behind.
        """
        place = {} if address is None else {"host": address[0], "port": address[1]}
        connection = make_connection({**self._options, **place})
        try:
            await connection.connect()  # type: ignore[no-untyped-call]  # redis-py's gap
        except BaseException as error:
            # redis-py leaves the socket open when a credential provider raises or is cancelled.
            await connection.disconnect(nowait=True)
            if not isinstance(error, Exception):
                raise
            where = self._options["path"] if address is None else format_address(address)
            failure = _explain(error, f"can't connect to {peer} at {where}")
        else:
            return connection
        raise failure  # out here, without `__context__`: a server before Redis 6 quotes the password of HELLO


def _explain(error: Exception, what: str) -> TransportError:
    """Return the error to raise. It quotes none of redis-py's texts: they may hold secrets."""
    causes: list[BaseException] = [error]
    while cause := causes[-1].__cause__ or causes[-1].__context__:
        causes.append(cause)
    if any(isinstance(cause, RuntimeError) and "interpreter shutdown" in str(cause) for cause in causes):
        return TransportError(f"{what}: the interpreter exits, and can no longer look up host names")
    for hint in _HINTS:
        for cause in causes:
            if isinstance(cause, hint.kind):
                text = f"{what}: {hint.text.format(cause)}"
                is_refusal = isinstance(cause, _CREDENTIALS)
                return AuthenticationError(text) if is_refusal else TransportError(text, retryable=hint.retryable)
    return TransportError(f"{what}: {type(error).__name__} in a credential provider?")
