"""A URL of several hosts, `scheme://user:password@host1:1,host2:2/path?query`, which no standard parser takes."""

from __future__ import annotations

from typing import TypeAlias
from urllib.parse import SplitResult, parse_qsl, urlsplit

from attrs import field, frozen
from backplane_core import ConfigurationError

__all__ = ["Address", "Hosts", "shown"]

Address: TypeAlias = tuple[str, int]
"""Host and port; an IPv6 address without brackets."""


def shown(address: Address) -> str:
    """Return an address as people write it."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@frozen(kw_only=True)
class Hosts:
    """The parts of a URL of several hosts; its `repr` holds no secret.

    Args:
        scheme: In lower case.
        login: What stands before the `@`, which is included; empty without.
        addresses: In the URL's order.
        path: With its leading slash, or empty.
        query: As it stands there.
    """

    scheme: str
    login: str = field(repr=False)
    addresses: tuple[Address, ...]
    path: str
    query: str = field(repr=False)

    @classmethod
    def of(cls, url: str, default_port: int) -> Hosts:
        """Parse a URL.

        Raises:
            ConfigurationError: It is malformed. Nothing of it is quoted: a piece of the password may stand anywhere.
        """
        scheme, _, rest = url.strip().partition("://")
        netloc, path, query = _parts(rest)
        login, at, hosts = netloc.rpartition("@")
        try:
            addresses = tuple([_address(host, default_port) for host in hosts.split(",")])
            malformed = "#" in rest or "@" in login + path + query
        except ValueError:
            addresses, malformed = (), True
        if malformed:
            raise ConfigurationError(
                f"the {scheme.lower()}:// URL is malformed: it holds hosts, separated by commas, and may hold their "
                "ports; percent-encode @ : / ? # % [ ] , inside user name and password"
            )
        return cls(scheme=scheme.lower(), login=login + at, addresses=addresses, path=path, query=query)

    @property
    def url(self) -> str:
        """The URL as it may be shown: without password, and without its query."""
        # A lone user name may be a misplaced password.
        user, colon, _ = self.login.partition(":")
        login = (f"{user}:***@" if colon else "***@") if self.login else ""
        return f"{self.scheme}://{login}{','.join(map(shown, self.addresses))}{self.path}"

    @property
    def options(self) -> dict[str, str]:
        """The query, decoded."""
        return dict(parse_qsl(self.query, keep_blank_values=True))


def _parts(rest: str) -> tuple[str, str, str]:
    before, _, query = rest.partition("?")
    netloc, slash, path = before.partition("/")
    return netloc, slash + path, query


def _address(host: str, default_port: int) -> Address:
    parts: SplitResult = urlsplit(f"redis://{host.strip()}")
    if not parts.hostname or parts.port == 0:
        raise ValueError
    return parts.hostname, parts.port or default_port
