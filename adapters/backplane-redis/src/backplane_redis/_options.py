"""What redis-py's connections are made with, from a URL and `connection_kwargs`: `connection_options`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import unquote

from backplane_core import ConfigurationError
from redis.asyncio.connection import SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from backplane_redis._greeting import RESP2, RESP3
from backplane_redis._texts import TLS_OPTIONS, BadText, parse_option
from backplane_redis._url import RedisUrl

__all__ = ["connection_options", "sentinel_options"]

_ALLOWED: Final = ("client_name", "credential_provider", "db", "password", "socket_connect_timeout", "username")
_SOCKET: Final = ("socket_keepalive", "socket_keepalive_options")
_SENTINEL_ALLOWED: Final = ("credential_provider", "password", "ssl", "username", *_SOCKET)
# Core bounds each attempt, and repeats it. A timeout of redis-py's would cut an idle link, a retry would hide a gap.
_DEFAULTS: Final[Mapping[str, Any]] = {"client_name": "backplane", "socket_connect_timeout": None}
_FIXED: Final[Mapping[str, Any]] = {
    "socket_timeout": None,
    "health_check_interval": 0,
    "retry": Retry(NoBackoff(), 0),
}


def connection_options(url: RedisUrl, given: Mapping[str, Any], *, protocol: int = RESP3) -> dict[str, Any]:
    """Return redis-py's options for connections to the servers of a URL: all but host and port.

    Args:
        url: What it sets wins over `given`.
        given: The caller's `connection_kwargs`.
        protocol: 2 or 3: what a connection speaks first.

    Raises:
        ConfigurationError: An option is unknown or wrong. The message names it and does not quote its value.
    """
    is_unix = url.scheme == "unix"
    allowed = _ALLOWED if is_unix else (*_ALLOWED, *_SOCKET)
    if unknown := _unknown({*given, *url.query}, allowed, tls=url.uses_tls):
        tls = ", ".join(TLS_OPTIONS) if url.uses_tls else "redis-py's ssl_ options with rediss://"
        raise ConfigurationError(f"{url} has no option {unknown!r}; allowed: {', '.join(allowed)}, {tls}")
    own: dict[str, Any] = {**url.credentials} if url.database is None else {**url.credentials, "db": url.database}
    if twice := sorted(own.keys() & url.query.keys()):
        raise ConfigurationError(f"{url} sets {twice[0]!r} a second time in its query: set it once")
    options = {**_DEFAULTS, **given, **own}
    for name, text in url.query.items():
        try:
            options[name] = parse_option(name, text)
        except BadText as wrong:
            problem = f"the value of {name!r} can't be used; allowed: {wrong}"
            break
    else:
        options |= {**_FIXED, "protocol": protocol}
        if is_unix:
            return {**options, "path": unquote(url.path), "connection_class": UnixDomainSocketConnection}
        return {**options, "connection_class": SSLConnection} if url.uses_tls else options
    raise ConfigurationError(f"{url}: {problem}")  # out here, without `__context__`


def sentinel_options(url: RedisUrl, node: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return redis-py's options for connections to sentinels: the node's TLS and socket options, its own credentials.

    Args:
        url: Shown in errors.
        node: The options for connections to the nodes.
        own: The caller's `sentinel_kwargs`.

    Raises:
        ConfigurationError: An option of `own` is unknown.
    """
    tls = own.get("ssl", url.uses_tls)
    if unknown := _unknown(own, _SENTINEL_ALLOWED, tls=tls):
        raise ConfigurationError(
            f"{url}: sentinel_kwargs has no option {unknown!r}; allowed: {', '.join(_SENTINEL_ALLOWED)}, "
            "with TLS redis-py's ssl_ options"
        )
    shared = {name: value for name, value in node.items() if name in _SOCKET or (tls and name.startswith("ssl_"))}
    rest = {name: value for name, value in own.items() if name != "ssl"}
    # RESP2, which every sentinel speaks. No client name: users of a sentinel often lack the right to set one.
    options: dict[str, Any] = {**_FIXED, "protocol": RESP2, "client_name": None, **shared, **rest}
    return {**options, "connection_class": SSLConnection} if tls else options


def _unknown(names: Iterable[str], allowed: tuple[str, ...], *, tls: bool) -> str | None:
    """Return the first option that is not allowed, if any."""
    return next((name for name in sorted(names) if name not in allowed and not (tls and name in TLS_OPTIONS)), None)
