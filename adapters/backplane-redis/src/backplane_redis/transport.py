"""`RedisTransport`: opens links to one Redis or Valkey server."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, urlsplit

import redis.exceptions as redis_errors
from backplane_core import AuthenticationError, ConfigurationError, Traits, TransportError
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from backplane_redis._connection import LinkConnection, connection_factory
from backplane_redis._link import RedisLink

__all__ = [
    "FIXED",
    "MAX_PAYLOAD_BYTES",
    "SCHEMES",
    "RedisTransport",
    "checked_factory",
    "node_options",
    "opened",
    "shown_login",
    "split_url",
]

SCHEMES: Final[Mapping[str, str]] = {
    "redis": "redis",
    "rediss": "rediss",
    "valkey": "redis",
    "valkeys": "rediss",
    "unix": "unix",
}
MAX_PAYLOAD_BYTES: Final = 512 * 1024 * 1024
"""Redis' proto-max-bulk-len, unless its operator changed it."""

_OPTIONS: Final = (
    "client_name",
    "credential_provider",
    "db",
    "password",
    "socket_connect_timeout",
    "username",
)
# Core bounds connecting and repeats it. A timeout or a retry down here would cut an idle link or hide a gap.
_DEFAULTS: Final = {"client_name": "backplane", "socket_connect_timeout": None}
FIXED: Final = {
    "protocol": 3,
    "socket_timeout": None,
    "health_check_interval": 0,
    "retry": Retry(NoBackoff(), 0),
}
_final: Final = partial(TransportError, retryable=False)
# redis-py wraps errors differently per kind of socket, so the causes are searched, for the most telling first.
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


class RedisTransport:
    """Opens links to the server of a URL; constructing it opens nothing.

    Args:
        url: `redis://user:password@host:6379/0`, or with `rediss` (TLS), `valkey`, `valkeys` (TLS), or
            `unix:///path/to/socket`. Options stand in the query: `?client_name=pod-7`.
        connection_kwargs: Options of redis-py's connection that don't fit a URL; the URL's own win.

    Raises:
        ConfigurationError: URL or options are wrong. The message says what is allowed and shows no secret.
    """

    traits: Traits = Traits(single_stream=True, max_payload_bytes=MAX_PAYLOAD_BYTES)

    def __init__(self, url: str, *, connection_kwargs: Mapping[str, Any] | None = None) -> None:
        scheme, parts = split_url(url)
        login, at, address = parts.netloc.rpartition("@")
        self._url = f"{scheme}://{shown_login(login) if at else ''}{address}{parts.path}"
        self._where = parts.path if scheme == "unix" else address if parts.port else f"{address}:6379"
        self._connection = checked_factory(node_options(parts, connection_kwargs or {}, self._url), self._url)

    def __repr__(self) -> str:
        return f"RedisTransport({self._url!r})"

    async def open(self) -> RedisLink:
        """Connect, authenticate and switch to RESP3, in one attempt."""
        return RedisLink(await opened(self._connection(), self._where), self._where)


def node_options(parts: SplitResult, given: Mapping[str, Any], shown: str) -> dict[str, Any]:
    """Return redis-py's connection options for a URL of one host.

    Args:
        parts: The URL, under a scheme that redis-py knows.
        given: Further options; the URL's own win.
        shown: The URL as errors may show it.

    Raises:
        ConfigurationError: An option is unknown or wrong.
    """
    in_query = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
    _check_names({*given, *in_query}, parts.scheme, shown)
    try:
        return {**_DEFAULTS, **given, **parse_url(parts.geturl()), **FIXED}
    except (ValueError, TypeError, AttributeError) as error:
        problem = str(error) or type(error).__name__
    raise _unusable(shown, problem)


def checked_factory(options: dict[str, Any], shown: str) -> Callable[..., LinkConnection]:
    """Return what makes connections from redis-py's options, once one could be made.

    Raises:
        ConfigurationError: None can be made.
    """
    try:
        factory = connection_factory(options)
        # Else a missing certificate file would show at the first open, as a broken connection.
        if tls := getattr(factory(), "ssl_context", None):
            tls.get()
    except (redis_errors.RedisError, OSError, ValueError, TypeError, AttributeError) as error:
        problem = str(error) or type(error).__name__
    else:
        return factory
    raise _unusable(shown, problem)  # out here: inside, even `from None` would keep the library's as `__context__`


def _unusable(shown: str, problem: str) -> ConfigurationError:
    return ConfigurationError(f"the options for {shown} can't be used: {problem}")


async def opened(connection: LinkConnection, where: str, peer: str = "Redis") -> LinkConnection:
    """Connect, authenticate and greet, in one attempt.

    Args:
        connection: Not connected yet.
        where: The address, for people.
        peer: Who is there, for people.

    Raises:
        TransportError: It failed; the message says what may mend it and shows no secret.
        AuthenticationError: The server refused the credentials.

    Cancellation: leaves no socket behind.
    """
    try:
        await connection.connect()  # type: ignore[no-untyped-call]  # redis-py's gap
    except BaseException as error:
        # redis-py leaves the socket open when a credential provider raises or is cancelled.
        await connection.disconnect(nowait=True)
        if not isinstance(error, Exception):
            raise
        failure = _explain(error, where, peer)
    else:
        return connection
    raise failure  # out here, without `__context__`: a server before Redis 6 quotes the password of HELLO


def shown_login(login: str) -> str:
    """Return a URL's login without its secret. A lone user name may be a misplaced password."""
    return (login.partition(":")[0] + ":" if ":" in login else "") + "***@"


def split_url(url: str, schemes: Mapping[str, str] = SCHEMES) -> tuple[str, SplitResult]:
    """Return the scheme, and the URL's parts under a scheme that redis-py knows.

    Raises:
        ConfigurationError: It is not of these schemes, or malformed. Shows no secret.
    """
    scheme, _, rest = url.partition("://")
    scheme = scheme.lower()
    known = schemes.get(scheme)
    if known is None:
        raise ConfigurationError(f"a Redis URL starts with {'://, '.join(schemes)}://")
    try:
        parts = urlsplit(f"{known}://{rest}")
        malformed = parts.port == 0 or parts.fragment or "@" in parts.path + parts.query
    except ValueError:
        parts, malformed = urlsplit(""), True
    if malformed:  # quote nothing: a piece of the password may stand anywhere
        raise ConfigurationError(
            f"the {scheme}:// URL is malformed: percent-encode @ : / ? # % [ ] inside user name and password"
        )
    if known == "unix" and (parts.hostname or len(parts.path) < len("/x")):
        raise ConfigurationError("a unix:// URL holds an absolute path and no host: unix:///run/redis.sock")
    if known != "unix" and not (parts.hostname and re.fullmatch("/?[0-9]*", parts.path)):
        raise ConfigurationError(f"a {scheme}:// URL holds a host and may hold a database: {scheme}://host:6379/0")
    return scheme, parts


def _check_names(given: set[str], scheme: str, url: str) -> None:
    allowed = (*_OPTIONS, *(() if scheme == "unix" else ("socket_keepalive", "socket_keepalive_options")))
    unknown = sorted(given.difference(allowed))
    if scheme == "rediss":
        unknown = [name for name in unknown if not name.startswith("ssl_")]
    if unknown:
        tls = "redis-py's ssl_ options" + ("" if scheme == "rediss" else " with rediss://")
        raise ConfigurationError(f"{url} has no option {unknown[0]!r}; allowed: {', '.join(allowed)}, {tls}")


def _explain(error: Exception, where: str, peer: str) -> TransportError:
    causes: list[BaseException] = [error]
    while cause := causes[-1].__cause__ or causes[-1].__context__:
        causes.append(cause)
    for kind, failure, hint in _HINTS:
        for cause in causes:
            if isinstance(cause, kind):
                return failure(f"can't connect to {peer} at {where}: {hint.format(cause)}")
    return TransportError(f"can't connect to {peer} at {where}: {type(error).__name__} in a credential provider?")
