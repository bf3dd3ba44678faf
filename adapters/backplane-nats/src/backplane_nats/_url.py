"""A NATS URL: the servers that it names, and the options of its query. No message quotes a password or token."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from attrs import evolve, field, frozen
from backplane_core import ConfigurationError
from backplane_core.sockets import AddressMap

__all__ = ["ADDRESS_MAP", "FILES", "IGNORE_DISCOVERED", "Server", "parse_query", "parse_servers"]

ADDRESS_MAP: Final = "address_map"
FILES: Final = ("ca", "cert", "key")
IGNORE_DISCOVERED: Final = "ignore_discovered_servers"

_SCHEMES: Final = ("nats", "tls")
_NO_MAP: Final = AddressMap()
_TEXTS: Final = (*FILES, ADDRESS_MAP, "name", "tls_hostname")
_SWITCHES: Final = (IGNORE_DISCOVERED, "dont_randomize", "tls_handshake_first")
_QUERY: Final = tuple(sorted({*_TEXTS, *_SWITCHES, "creds", "nkey"}))
_FORMS: Final = f"{{nats|tls}}://[user:password@|token@]host[:port][,...][?option=value&...], with {', '.join(_QUERY)}"
_ENCODE: Final = "percent-encode user, password and token (quote(text, safe=''))"
_HOST: Final = re.compile(r"[A-Za-z0-9._:%-]+", re.ASCII)


@frozen
class Server:
    """One server. `str()` and `repr()` show no password and no token.

    Args:
        scheme: `nats`, or `tls`, which insists on TLS.
        host: A name or an IP address; IPv6 without brackets.
        port: 1 to 65535.
        credentials: `user` and `password`, or `token`, or nothing.
        tls_name: The name that its certificate must hold, if not its host's.
    """

    scheme: str
    host: str
    port: int
    credentials: Mapping[str, str] = field(repr=False)
    tls_name: str | None = None

    def neighbour(self, address: str, addresses: AddressMap = _NO_MAP) -> Server | None:
        """Return a server that this one announces; all else is as here. None if it announces no address.

        Args:
            address: As announced.
            addresses: Where announced servers can be reached.
        """
        try:
            found = _server(f"{self.scheme}://{address}")
        except ConfigurationError:
            return None
        if found.credentials:
            return None
        # Certificates seldom name an IP address, so the announced one must show the name that the URL's author trusts.
        trusted = self.tls_name or (None if _is_ip(self.host) else self.host)
        name = trusted if _is_ip(found.host) else None
        host, port = addresses.reachable(found.host, found.port)
        return evolve(found, host=host, port=port, credentials=self.credentials, tls_name=name)

    @property
    def address(self) -> str:
        """The server's URL without credentials."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    def __str__(self) -> str:
        login = f"{self.credentials['user']}:***@" if "user" in self.credentials else "***@" * bool(self.credentials)
        return self.address.replace("://", f"://{login}", 1)


def parse_servers(base: str) -> tuple[Server, ...]:
    """Return the servers of a URL, in its order.

    Args:
        base: What comes before the query.

    Raises:
        ConfigurationError: It is not of the form that the message shows.
    """
    scheme, found, _ = base.partition("://")
    if scheme not in _SCHEMES or not found:
        hint = ": WebSocket servers are not supported" if scheme in {"ws", "wss"} else ""
        raise ConfigurationError(f"a NATS URL starts with nats:// or tls://{hint}. Form: {_FORMS}")
    servers: list[Server] = []
    for part in base.split(","):
        server = _server(part if "://" in part else f"{scheme}://{part}")
        if "://" not in part and not server.credentials:
            # `nats://u:p@a,b` names one cluster, so b has the same user.
            server = Server(server.scheme, server.host, server.port, servers[-1].credentials)
        servers.append(server)
    if len({server.scheme for server in servers}) > 1:
        raise ConfigurationError("the NATS URL's servers disagree, nats:// and tls://: take tls:// for all of them")
    return tuple(servers)


def _server(url: str) -> Server:
    try:
        split = urlsplit(url)
        port = split.port
    except ValueError:
        # urlsplit's own message quotes what may be a password.
        split, port = SplitResult("", "", "", "", ""), None
    if split.scheme not in _SCHEMES or not _HOST.fullmatch(split.hostname or ""):
        raise ConfigurationError(
            "a server of the NATS URL has no valid host, or a port that is no number from 1 to 65535; "
            f"{_ENCODE}. Form: {_FORMS}"
        )
    if split.path not in {"", "/"} or split.fragment or port == 0:
        raise ConfigurationError(f"a server of the NATS URL has a path, fragment or port 0; {_ENCODE}. Form: {_FORMS}")
    credentials: dict[str, str] = {}
    if split.password is not None:
        credentials = {"user": unquote(split.username or ""), "password": unquote(split.password)}
    elif split.username:
        credentials = {"token": unquote(split.username)}
    if credentials and not next(iter(credentials.values())):
        raise ConfigurationError(f"a server of the NATS URL has a password but no user. Form: {_FORMS}")
    return Server(split.scheme, split.hostname or "", port or 4222, credentials)


def parse_query(query: str) -> dict[str, Any]:
    """Return the options of a URL's query, by their names in nats-py where it has them.

    Raises:
        ConfigurationError: One is unknown, empty or given twice.
    """
    if "@" in query:
        # The "?" is part of a password: naming the rest would print a piece of it.
        raise ConfigurationError(f"the NATS URL has an '@' after its '?': {_ENCODE}")
    found: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in _QUERY or not value or name in found:
            raise ConfigurationError(
                f"the NATS URL's query option {name!r} is unknown, empty or given twice. Allowed: {', '.join(_QUERY)}"
            )
        found[name] = value
    if "creds" in found and "nkey" in found:
        raise ConfigurationError("the NATS URL's query has both creds and nkey: give one")
    options: dict[str, Any] = {name: found[name] for name in _TEXTS if name in found}
    options |= {name: _parse_switch(name, found[name]) for name in _SWITCHES if name in found}
    if path := found.get("creds"):
        options["user_credentials"] = path
    if path := found.get("nkey"):
        options["nkeys_seed"] = path
    return options


def _parse_switch(name: str, switch: str) -> bool:
    if switch not in {"true", "false"}:
        raise ConfigurationError(f"the NATS URL's {name} must be true or false")
    return switch == "true"


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
