"""A NATS URL and `connection_kwargs`, parsed and checked: `Settings`. No message quotes a password or token."""

from __future__ import annotations

import inspect
import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from attrs import evolve, field, frozen
from backplane_core import ConfigurationError
from backplane_core.sockets import AddressMap
from nats.aio.client import Client, RawCredentials

from backplane_nats._tls import TlsFiles

__all__ = ["REPORTS_LAME_DUCK", "Server", "Settings", "to_subject"]

_SCHEMES: Final = ("nats", "tls")
_IGNORE: Final = "ignore_discovered_servers"
_MAP: Final = "address_map"
_NO_MAP: Final = AddressMap()
_FILES: Final = ("ca", "cert", "key")
_TEXTS: Final = (*_FILES, _MAP, "name", "tls_hostname")
_SWITCHES: Final = (_IGNORE, "dont_randomize", "tls_handshake_first")
_QUERY: Final = tuple(sorted({*_TEXTS, *_SWITCHES, "creds", "nkey"}))
_FORMS: Final = f"{{nats|tls}}://[user:password@|token@]host[:port][,...][?option=value&...], with {', '.join(_QUERY)}"
_ENCODE: Final = "percent-encode user, password and token (quote(text, safe=''))"
_CHANNEL: Final = re.compile(r"[A-Za-z0-9_@=-]+(?::[A-Za-z0-9_@=-]+)*", re.ASCII)
_HOST: Final = re.compile(r"[A-Za-z0-9._:%-]+", re.ASCII)
_SEED: Final = re.compile(r"S[A-Z][A-Z2-7]{56}", re.ASCII)

_RECONNECTS: Final = "the backplane replaces dead links itself; nats-py's own reconnecting hides gaps"
_CALLBACKS: Final = "the backplane reports these through on_state, on_gap and its observer"
_BUFFERS: Final = "the backplane batches, bounds and confirms what is sent"
_OWNED: Final = {
    "servers": "the URL names the servers",
    "allow_reconnect": _RECONNECTS,
    "max_reconnect_attempts": _RECONNECTS,
    "reconnect_time_wait": _RECONNECTS,
    "reconnect_to_server_handler": _RECONNECTS,
    "reconnected_cb": _RECONNECTS,
    "error_cb": _CALLBACKS,
    "disconnected_cb": _CALLBACKS,
    "closed_cb": _CALLBACKS,
    "connect_timeout": "use connect_timeout_s of the backplane",
    "ping_interval": "use probe_interval_s of the backplane",
    "max_outstanding_pings": "use probe_interval_s of the backplane",
    "no_echo": "a pod knows that it can hear by hearing its own beats",
    "pending_size": _BUFFERS,
    "flusher_queue_size": _BUFFERS,
    "flush_timeout": _BUFFERS,
    "drain_timeout": "use drain(timeout_s) of the backplane",
    "ws_connection_headers": "WebSocket servers are not supported",
    "skip_subject_validation": "it would let a channel name break the protocol",
}
_TLS_OPTIONS: Final = ("tls", "tls_handshake_first", "tls_hostname")
_PARAMETERS: Final = inspect.signature(Client.connect).parameters
REPORTS_LAME_DUCK: Final = "lame_duck_mode_cb" in _PARAMETERS
"""Whether this nats-py reports that a server is in lame duck mode: from 2.15 on."""
_ALLOWED: Final = tuple(sorted({*_PARAMETERS} - {"self", *_OWNED}))
_STRINGS_ONLY: Final = frozenset(
    name for name in ("user", "password", "token") if _PARAMETERS[name].annotation == "Optional[str]"
)
"""Options that can't be callables with this nats-py: token can from 2.13 on, user and password from 2.16 on."""


def to_subject(channel: str) -> str:
    """Return the NATS subject of a channel: `a:b` becomes `a.b`; no channel becomes a wildcard.

    Raises:
        ConfigurationError: The name holds a character that a subject must not hold.
    """
    if not _CHANNEL.fullmatch(channel):
        raise ConfigurationError(f"a channel is made of [A-Za-z0-9_@=-] separated by ':', not {channel[:64]!r}")
    return channel.replace(":", ".")


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


@frozen(kw_only=True)
class Settings:
    """Which servers to connect to, and how.

    Args:
        servers: In the URL's order.
        options: Of nats-py's `connect`, from the query and `connection_kwargs`.
        files: What TLS is configured with by the query.
        addresses: Where announced servers can be reached.
        discovers: Whether servers that the cluster announces are tried as well.
    """

    servers: tuple[Server, ...]
    options: Mapping[str, Any] = field(repr=False)
    files: TlsFiles = field(factory=TlsFiles)
    addresses: AddressMap = field(factory=AddressMap)
    discovers: bool = True

    @classmethod
    def parse(
        cls,
        url: str,
        connection_kwargs: Mapping[str, Any] | None,
        address_map: Mapping[str, str] | str | None = None,
    ) -> Settings:
        """Parse and check all of them. Files are read only to check that they are there and of the right form.

        Raises:
            ConfigurationError: Something is wrong. The message says what is allowed and shows no secret.
        """
        base, _, query = url.partition("?")
        servers = _servers(base)
        options = {**_check(connection_kwargs or {})}
        given = {name for server in servers for name in server.credentials}
        found = _from_query(query)
        discovers = not found.pop(_IGNORE, False)
        files = TlsFiles(*[found.pop(name, None) for name in _FILES])
        files.check()
        if files != TlsFiles() and options.get("tls") is not None:
            raise ConfigurationError("the NATS URL's query and connection_kwargs both configure 'tls': give it once")
        if _MAP in found and address_map is not None:
            raise ConfigurationError(f"the NATS URL's query and the option {_MAP} both map addresses: give one")
        addresses = AddressMap.parse(found.pop(_MAP, address_map))
        for name, value in found.items():
            if name in options:
                raise ConfigurationError(f"the NATS URL's query and connection_kwargs both set {name!r}: give it once")
            options[name] = value
        if twice := sorted(given & options.keys()):
            raise ConfigurationError(f"the NATS URL and connection_kwargs both set {', '.join(twice)}: give it once")
        settings = cls(servers=servers, options=options, files=files, addresses=addresses, discovers=discovers)
        settings.connect_options()
        return settings

    def requires_tls(self, server: Server) -> bool:
        """Return whether nothing may be sent to a server without TLS: by its scheme, or because TLS was configured."""
        configured = self.files != TlsFiles() or any(self.options.get(name) for name in _TLS_OPTIONS)
        return server.scheme == "tls" or configured

    def connect_options(self) -> dict[str, Any]:
        """Return the options with the credential files read; again on each call, since such files are rotated.

        Raises:
            ConfigurationError: A file is missing or not of the right form. The message names its path.
        """
        options = dict(self.options)
        creds = options.get("user_credentials")
        if isinstance(creds, (str, Path)):
            options["user_credentials"] = creds = RawCredentials(_read(creds, "NATS credentials"))
        elif isinstance(creds, tuple):
            _ = [_read(path, "NATS credentials") for path in cast("tuple[object, ...]", creds)]
        # nats-py looks for these lines in a loop that never ends, and blocks the process, when one is missing.
        if isinstance(creds, RawCredentials) and not all(
            mark in creds for mark in ("BEGIN NATS USER JWT", "BEGIN USER NKEY SEED")
        ):
            raise ConfigurationError("the NATS credentials (creds, user_credentials) hold no user JWT and seed")
        if (path := options.pop("nkeys_seed", None)) is not None:
            options["nkeys_seed_str"] = _read(path, "nkey seed")
        if (seed := options.get("nkeys_seed_str")) is not None:
            options["nkeys_seed_str"] = seed = str(seed).strip()
            if not _SEED.fullmatch(seed):
                raise ConfigurationError("the nkey seed (nkey, nkeys_seed, nkeys_seed_str) doesn't have the form SU...")
        return options


def _read(path: object, what: str) -> str:
    try:
        return Path(str(path)).read_text("utf-8")
    except OSError as error:
        reason = error.strerror
    except ValueError:
        reason = "not a text file"
    raise ConfigurationError(f"the {what} file {str(path)!r} can't be read: {reason}")


def _check(kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    for name, value in kwargs.items():
        if why := _OWNED.get(name):
            raise ConfigurationError(f"connection_kwargs can't set {name!r}: {why}. Allowed: {', '.join(_ALLOWED)}")
        if name not in _ALLOWED:
            raise ConfigurationError(f"nats-py's connect has no option {name!r}. Allowed: {', '.join(_ALLOWED)}")
        if name in {"discovered_server_cb", "lame_duck_mode_cb"} and not inspect.iscoroutinefunction(value):
            raise ConfigurationError(f"connection_kwargs[{name!r}] must be an async function")
        if name in _STRINGS_ONLY and callable(value):
            raise ConfigurationError(f"connection_kwargs[{name!r}] can't be a callable with this nats-py: upgrade it")
    return kwargs


def _from_query(query: str) -> dict[str, Any]:
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


def _servers(base: str) -> tuple[Server, ...]:
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
    return tuple(servers)


def _server(url: str) -> Server:
    try:
        split = urlsplit(url)
        port = split.port
    except ValueError:
        # urlsplit's own message quotes what may be a password.
        split, port = SplitResult("", "", "", "", ""), None
    if split.scheme not in _SCHEMES or not _HOST.fullmatch(split.hostname or ""):
        raise ConfigurationError(f"a server of the NATS URL has no valid host and port; {_ENCODE}. Form: {_FORMS}")
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
