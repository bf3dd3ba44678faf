"""Redis URLs taken apart: `RedisUrl`. Nothing here shows or raises a secret."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, TypeAlias
from urllib.parse import parse_qsl, unquote, urlsplit

from attrs import evolve, field, frozen
from backplane_core import ConfigurationError

__all__ = ["Address", "RedisUrl", "format_address"]

Address: TypeAlias = tuple[str, int]
"""Host and port at which clients reach a server; an IPv6 address without brackets."""

_USES_TLS: Final[Mapping[str, bool]] = {"redis": False, "rediss": True, "valkey": False, "valkeys": True}
MAX_PORT: Final = 65_535
_REDIS_PORT: Final = 6379
_SENTINEL_PORT: Final = 26379
_STREAMS: Final = "+streams"
"""What stands behind the scheme of a URL of pub/sub where the same servers' streams are used in its place."""
_ENCODE: Final = "percent-encode @ : / ? # % [ ] , inside user name and password"


def format_address(address: Address) -> str:
    """Return an address as a URL has it."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@frozen(kw_only=True)
class RedisUrl:
    """`scheme://user:password@host1:1,host2:2/path?query`, which no standard parser takes; its `repr` holds no secret.

    Args:
        scheme: In lower case.
        uses_tls: Whether the scheme asks for TLS.
        login: What stands before the `@`, still percent-encoded; empty without.
        hosts: In the URL's order; none in a `unix://` URL.
        path: With its leading slash, or empty; the socket's in a `unix://` URL.
        query: Its options, decoded.
        database: At the end of the path; a `db` of the query stands there alone.
        service: What the sentinels call the master; empty in other URLs.
    """

    scheme: str
    uses_tls: bool
    login: str = field(repr=False)
    hosts: tuple[Address, ...]
    path: str
    query: Mapping[str, str] = field(repr=False)
    database: int | None = None
    service: str = ""

    @property
    def other_scheme(self) -> str:
        """The scheme that differs in TLS alone: `rediss` for `redis`, `redis+sentinel` for `rediss+sentinel`."""
        kind, sign, suffix = re.split("([-+]|$)", self.scheme, maxsplit=1)
        return f"{kind.removesuffix('s') if self.uses_tls else f'{kind}s'}{sign}{suffix}"

    @classmethod
    def parse(cls, url: str) -> RedisUrl:
        """Parse the URL of one server, or of its socket.

        Raises:
            ConfigurationError: It is not one. The message quotes no part of it: anything may be a piece of a password.
        """
        parsed = cls._parse(url, [*_USES_TLS, "unix"], _REDIS_PORT)
        if parsed.scheme == "unix":
            if parsed.hosts or len(parsed.path) < len("/x"):
                raise ConfigurationError("a unix:// URL holds an absolute path and no host: unix:///run/redis.sock")
            return parsed
        found = re.fullmatch("/?([0-9]*)", parsed.path)
        form = f"a {parsed.scheme}:// URL holds one host and may hold a database: {parsed.scheme}://host:6379/0"
        if len(parsed.hosts) != 1:
            raise ConfigurationError(f"{form}; several hosts go with redis-cluster:// and redis+sentinel://")
        if found is None:
            raise ConfigurationError(f"{form}; what stands behind the host and a slash is its number")
        return evolve(parsed, database=int(found[1]) if found[1] else None)

    @classmethod
    def parse_streams(cls, url: str) -> RedisUrl:
        """Parse the URL of one server whose streams are used; raise as `parse`."""
        return _over_streams(cls.parse(_without_streams(url)))

    @classmethod
    def parse_sentinel_streams(cls, url: str) -> RedisUrl:
        """Parse the URL of a service that sentinels watch, whose streams are used; raise as `parse`."""
        return _over_streams(cls.parse_sentinel(_without_streams(url)))

    @classmethod
    def parse_cluster_streams(cls, url: str) -> RedisUrl:
        """Parse the URL of a cluster whose streams are used; raise as `parse`."""
        return _over_streams(cls.parse_cluster(_without_streams(url)))

    @classmethod
    def parse_cluster(cls, url: str) -> RedisUrl:
        """Parse the URL of a cluster; raise as `parse`."""
        parsed = cls._parse(url, [f"{base}-cluster" for base in _USES_TLS], _REDIS_PORT)
        if parsed.path not in {"", "/"}:
            raise ConfigurationError(f"a {parsed.scheme}:// URL holds hosts and no path: a cluster has one database")
        return parsed

    @classmethod
    def parse_sentinel(cls, url: str) -> RedisUrl:
        """Parse the URL of a service that sentinels watch; raise as `parse`."""
        parsed = cls._parse(url, [f"{base}+sentinel" for base in _USES_TLS], _SENTINEL_PORT)
        found = re.fullmatch("/([^/]+)(?:/([0-9]+))?", parsed.path)
        if found is None:
            raise ConfigurationError(
                f"a {parsed.scheme}:// URL holds the name of a service and may hold a database: "
                f"{parsed.scheme}://host1:{_SENTINEL_PORT},host2:{_SENTINEL_PORT}/service/0"
            )
        return evolve(parsed, service=unquote(found[1]), database=int(found[2]) if found[2] else None)

    @classmethod
    def _parse(cls, url: str, schemes: list[str], default_port: int) -> RedisUrl:
        scheme, _, rest = url.strip().partition("://")
        scheme = scheme.lower()
        if scheme not in schemes:
            raise ConfigurationError(f"the URL must start with {'://, '.join(schemes)}://")
        before, _, query = rest.partition("?")
        authority, slash, path = before.partition("/")
        login, _, hosts = authority.rpartition("@")
        try:
            pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
            addresses = [_parse_host(host, default_port) for host in hosts.split(",")] if hosts else []
            malformed = "#" in rest or "@" in login + path + query or len(dict(pairs)) < len(pairs)
        except ValueError:
            pairs, addresses, malformed = [], [], True
        if malformed and "@" not in path + query and any(map(_has_wrong_port, hosts.split(","))):
            raise ConfigurationError(
                f"the {scheme}:// URL is malformed: a host's port, behind its colon, is a number from 1 to 65535; "
                f"{_ENCODE}"
            )
        if malformed or (not addresses and scheme != "unix"):
            raise ConfigurationError(
                f"the {scheme}:// URL is malformed: it must hold a host and may hold a port, and each option once; "
                f"{_ENCODE}"
            )
        return cls(
            scheme=scheme,
            uses_tls=_USES_TLS.get(re.split("[-+]", scheme)[0], False),
            login=login,
            hosts=tuple(addresses),
            path=slash + path,
            query=dict(pairs),
        )

    @property
    def credentials(self) -> dict[str, str]:
        """What the login holds of `username` and `password`, decoded."""
        user, _, password = self.login.partition(":")
        found = {"username": unquote(user), "password": unquote(password)}
        return {name: value for name, value in found.items() if value}

    def __str__(self) -> str:
        """Return the URL as it may be shown: without password and query."""
        # A lone user name may be a misplaced password.
        user, colon, _ = self.login.partition(":")
        login = (f"{user}:***@" if colon else "***@") if self.login else ""
        return f"{self.scheme}://{login}{','.join(map(format_address, self.hosts))}{self.path}"


def _without_streams(url: str) -> str:
    """Return the URL of the same servers whose pub/sub is used."""
    scheme, separator, rest = url.strip().partition("://")
    return f"{scheme.lower().removesuffix(_STREAMS)}{separator}{rest}"


def _over_streams(url: RedisUrl) -> RedisUrl:
    """Return the URL of the same servers' streams."""
    return evolve(url, scheme=f"{url.scheme}{_STREAMS}")


def _has_wrong_port(host: str) -> bool:
    """Return whether what follows a host's colon is no port."""
    name, _, port = host.rpartition(":")
    return bool(name) and "]" not in port and not (port.isdecimal() and 0 < int(port) <= MAX_PORT)


def _parse_host(host: str, default_port: int) -> Address:
    parts = urlsplit(f"//{host.strip()}")
    if not parts.hostname or parts.port == 0:
        raise ValueError
    return unquote(parts.hostname), parts.port or default_port
