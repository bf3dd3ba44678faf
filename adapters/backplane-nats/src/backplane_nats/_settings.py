"""What a NATS URL and `connection_kwargs` say together, checked: `Settings`. No message quotes a password or token."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast

from attrs import field, frozen
from backplane_core import ConfigurationError
from backplane_core.sockets import AddressMap
from nats.aio.client import Client, RawCredentials

from backplane_nats._tls import TlsFiles
from backplane_nats._url import ADDRESS_MAP, FILES, IGNORE_DISCOVERED, Server, parse_query, parse_servers

__all__ = ["REPORTS_LAME_DUCK", "Settings"]

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
        servers = parse_servers(base)
        options = {**_check(connection_kwargs or {})}
        given = {name for server in servers for name in server.credentials}
        found = parse_query(query)
        discovers = not found.pop(IGNORE_DISCOVERED, False)
        files = TlsFiles(*[found.pop(name, None) for name in FILES])
        files.check()
        if files != TlsFiles() and options.get("tls") is not None:
            raise ConfigurationError("the NATS URL's query and connection_kwargs both configure 'tls': give it once")
        if ADDRESS_MAP in found and address_map is not None:
            raise ConfigurationError(f"the NATS URL's query and the option {ADDRESS_MAP} both map addresses: give one")
        addresses = AddressMap.parse(found.pop(ADDRESS_MAP, address_map))
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
