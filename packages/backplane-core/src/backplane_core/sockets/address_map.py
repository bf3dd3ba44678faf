"""Where the addresses that a broker announces can be reached: `AddressMap`, for NAT, port forwards and containers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, Self

from attrs import field, frozen

from backplane_core.errors import ConfigurationError

__all__ = ["AddressMap"]

_ALLOWED: Final = (
    "address_map maps announced addresses to reachable ones: 10.0.0.5:6379=localhost:7001,10.0.0.6=gateway, "
    "or a mapping of such texts; an address is host or host:port, with an IPv6 host in brackets if a port follows"
)
_ADDRESS: Final = re.compile(
    r"(?:\[([0-9A-Fa-f:.%]+)\]|([^\s:=,\[\]/@?#]+))(?::(\d{1,5}))?|([0-9A-Fa-f]*:[0-9A-Fa-f:.]+)"
)
_MAX_PORT: Final = 65535


@frozen
class AddressMap:
    """Maps an address that a broker announces to the one at which this process reaches it.

    Args:
        entries: By host and port; by host and None for all ports of a host. A target without a port keeps it.
    """

    entries: Mapping[tuple[str, int | None], tuple[str, int | None]] = field(factory=dict[Any, Any])

    @classmethod
    def parse(cls, value: Mapping[str, str] | str | None) -> Self:
        """Return the map that an option holds.

        Args:
            value: `announced=reachable`, several separated by commas; or a mapping of such texts. None: an empty one.

        Raises:
            ConfigurationError: It is not of that form.
        """
        if value is None:
            return cls()
        if isinstance(value, str):
            pairs = [part.partition("=")[::2] for part in value.split(",")]
        elif isinstance(value, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance] -- callers without a type checker
            pairs = [*value.items()]
        else:
            raise ConfigurationError(_ALLOWED)
        entries: dict[tuple[str, int | None], tuple[str, int | None]] = {}
        for announced, reachable in pairs:
            known, target = _parse(announced), _parse(reachable)
            if known in entries or (known[1] is None and target[1] is not None):
                raise ConfigurationError(f"{_ALLOWED}; each once, and a host alone maps to a host alone")
            entries[known] = target
        return cls(entries)

    def reachable(self, host: str, port: int) -> tuple[str, int]:
        """Return where an announced address can be reached; what the map does not name is reached where it is.

        Args:
            host: As announced, an IPv6 address without brackets.
            port: As announced.
        """
        name = host.lower()
        target = self.entries.get((name, port)) or self.entries.get((name, None))
        return (host, port) if target is None else (target[0], target[1] or port)

    def __bool__(self) -> bool:
        return bool(self.entries)


def _parse(text: object) -> tuple[str, int | None]:
    found = _ADDRESS.fullmatch(text.strip()) if isinstance(text, str) else None
    if found is None:
        raise ConfigurationError(_ALLOWED)
    port = int(found[3]) if found[3] else None
    if port is not None and not 0 < port <= _MAX_PORT:
        raise ConfigurationError(_ALLOWED)
    return (found[1] or found[2] or found[4]).lower(), port
