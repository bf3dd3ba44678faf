"""The `CONFIG` of a layer: its own options, those of a backplane, and those of channels_redis that need no change."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast
from urllib.parse import quote

from backplane_core import ConfigurationError

__all__ = ["IGNORED", "check_bounds", "find_url", "split_ignored"]

logger: Final = logging.getLogger("backplane.channels")

IGNORED: Final = ("group_expiry", "random_prefix_length", "serializer_format", "symmetric_encryption_keys")
"""Options of channels_redis that have no effect."""

_warned: Final[set[str]] = set()
"""The options of which this process has warned."""


def find_url(url: str | None, hosts: object) -> str:
    """Return the broker's URL, from `url` or from one host in the form of channels_redis.

    Args:
        url: The option `url`.
        hosts: The option `hosts`: at most one host, which is a URL, `(host, port)`, or a dict with an `address`, or
            with a `host` and a `port`.

    Raises:
        ConfigurationError: There is no URL, or `hosts` can't be read as one. The text shows no password.
    """
    if url is not None:
        if hosts is not None:
            raise ConfigurationError("give url or hosts, not both")
        if not isinstance(url, str):  # pyright: ignore[reportUnnecessaryIsInstance] -- from settings
            raise ConfigurationError(f"url must be text, not {type(url).__name__}")
        return url
    if hosts is None:
        raise ConfigurationError('CONFIG needs a url, such as {"url": "redis://localhost:6379"}')
    if isinstance(hosts, (str, bytes)) or not isinstance(hosts, Sequence) or len(cast("Sequence[object]", hosts)) != 1:
        raise ConfigurationError(
            "hosts must be a list of one host: this layer does not shard over several. For a Redis Cluster or "
            "Sentinel set its url instead of hosts"
        )
    return _url_of(cast("Sequence[object]", hosts)[0])


def split_ignored(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options without those that have no effect here; warn of each once per process."""
    new = [name for name in IGNORED if name in options and name not in _warned]
    if new:
        _warned.update(new)
        logger.warning("%s", ignored_text(new))
    return {name: value for name, value in options.items() if name not in IGNORED}


def ignored_text(names: Sequence[str]) -> str:
    """Return the warning about options that have no effect."""
    text = f"{', '.join(names)} {'have' if len(names) > 1 else 'has'} no effect in this channel layer"
    if "symmetric_encryption_keys" in names:
        text += (
            ". Messages are not encrypted: use TLS to the broker (rediss://, tls://), and signing_keys against forgery"
        )
    return text


def _url_of(host: object) -> str:
    if isinstance(host, bytes):
        host = host.decode()
    if isinstance(host, str):
        return host
    if isinstance(host, Sequence) and len(cast("Sequence[object]", host)) == 2:  # noqa: PLR2004 -- host and port
        name, port = cast("Sequence[object]", host)
        return f"redis://{name}:{port}"
    if isinstance(host, Mapping):
        return _url_of_dict(dict(cast("Mapping[str, Any]", host)))
    raise ConfigurationError("a host must be a URL, (host, port), or a dict with an address: set url instead")


def _url_of_dict(host: dict[str, Any]) -> str:
    """Return the URL for the arguments that channels_redis passes to its connection pool."""
    address = host.pop("address", None)
    if address is not None and not host:
        return _url_of(address)
    if "host" not in host or set(host) - {"host", "port", "db", "username", "password"}:
        unknown = sorted(set(map(str, host)) - {"host", "port", "db", "username", "password"})
        raise ConfigurationError(
            f"hosts can't be read as a URL ({', '.join(unknown) or 'it has no host'}): set url instead"
        )
    user, password = quote(str(host.get("username") or ""), safe=""), host.get("password")
    login = f"{user}:{quote(str(password), safe='')}@" if password is not None else ""
    return f"redis://{login}{host['host']}:{host.get('port', 6379)}/{host.get('db', 0)}"


def check_bounds(capacity: object, capacity_bytes: object, expiry: object, on_gap: object) -> None:
    """Raise an error unless the options are allowed.

    Raises:
        ConfigurationError: One is not allowed; the text says what is.
    """
    for name, value in (("capacity", capacity), ("capacity_bytes", capacity_bytes)):
        if type(value) is not int or value < 1:
            raise ConfigurationError(f"{name}={value!r} is not allowed: a whole number, at least 1")
    if isinstance(expiry, bool) or not isinstance(expiry, (int, float)) or not expiry > 0:
        raise ConfigurationError(f"expiry={expiry!r} is not allowed: a number of seconds above 0")
    if on_gap is not None and (not isinstance(on_gap, str) or on_gap[:1] in {"", "_", "."}):
        raise ConfigurationError(f"on_gap={on_gap!r} is not allowed: a message's type, or None")
