"""Opens connections, and explains why one could not be opened: `Connector`."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import redis.exceptions as redis_errors
from backplane_core import AuthenticationError, ConfigurationError, TransportError

from backplane_redis._connection import LinkConnection, make_connection
from backplane_redis._url import Address, RedisUrl, format_address

__all__ = ["Connector"]

_final: Final = partial(TransportError, retryable=False)
# redis-py wraps errors differently per kind of socket, so all causes are searched, for the most telling kind first.
_HINTS: Final[tuple[tuple[type[Exception], Callable[[str], TransportError], str], ...]] = (
    (redis_errors.NoPermissionError, AuthenticationError, "the user lacks +client|setname, or +select"),
    (redis_errors.AuthenticationError, AuthenticationError, "user name or password are wrong or missing"),
    (
        ssl.SSLCertVerificationError,
        _final,
        "certificate refused, {0.verify_message}; set ssl_ca_certs to its CA's file, and connect by a name it holds",
    ),
    (ssl.SSLError, TransportError, "no TLS handshake: does the port speak TLS, or want a client certificate?"),
    (socket.gaierror, TransportError, "the host name has no address"),
    (ConnectionRefusedError, TransportError, "nothing listens there: is the server running, the port right?"),
    (FileNotFoundError, TransportError, "there is no such socket: is the server running, the path right?"),
    (TimeoutError, TransportError, "no answer in time: check address and firewall"),
    (redis_errors.ResponseError, _final, "handshake refused: Redis 6 or newer with that database is needed"),
    (redis_errors.RedisError, TransportError, "it broke off: does the port want TLS, is it at its maxclients?"),
)


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
            peer: Who is there, for people.

        Raises:
            TransportError: It failed; the message says what may fix it and shows no secret.
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
    causes: list[BaseException] = [error]
    while cause := causes[-1].__cause__ or causes[-1].__context__:
        causes.append(cause)
    for kind, failure, hint in _HINTS:
        for cause in causes:
            if isinstance(cause, kind):
                return failure(f"{what}: {hint.format(cause)}")
    return TransportError(f"{what}: {type(error).__name__} in a credential provider?")
