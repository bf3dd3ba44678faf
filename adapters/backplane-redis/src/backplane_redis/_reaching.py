"""How servers are reached, known and logged in to, apart from what redis-py's connections are made with: `Reaching`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, Self, cast

from attrs import evolve, field, frozen
from backplane_core import ConfigurationError
from backplane_core.sockets import AddressMap

from backplane_redis._greeting import RESP2
from backplane_redis._url import RedisUrl

__all__ = ["Reaching"]

_HOSTNAME: Final = "tls_hostname"
_RENEW: Final = "renew_credentials_s"
_MAP: Final = "address_map"
_PROTOCOL: Final = "protocol"


@frozen(kw_only=True)
class Reaching:
    """What a URL and `connection_kwargs` say of it, and what is left of them.

    Args:
        url: Without these options in its query.
        given: The caller's `connection_kwargs`, without these options.
        addresses: Where announced addresses can be reached.
        tls_hostname: The name that each certificate must hold; None: that of the address.
        renew_s: Seconds after which live connections authenticate again; None: if the provider announces it.
        protocol: The only version of RESP that will do; None: 3, or else 2.
    """

    url: RedisUrl
    given: Mapping[str, Any] = field(repr=False)
    addresses: AddressMap
    tls_hostname: str | None
    renew_s: float | None
    protocol: Literal[2, 3] | None

    @classmethod
    def parse(
        cls,
        url: RedisUrl,
        given: Mapping[str, Any] | None,
        *,
        announces: bool,
        address_map: Mapping[str, str] | str | None = None,
    ) -> Self:
        """Take these options out of a URL and `connection_kwargs`.

        Args:
            url: Parsed.
            given: The caller's `connection_kwargs`.
            announces: Whether these servers announce addresses. If not, `address_map` is left, and is unknown there. If
                they do, a link needs RESP3.
            address_map: The transport's own option.

        Raises:
            ConfigurationError: One is given twice, or wrong.
        """
        query, rest = dict(url.query), dict(given or {})
        renew_s = _seconds(url, query.pop(_RENEW, rest.pop(_RENEW, None)))
        if renew_s is not None and rest.get("credential_provider") is None:
            raise ConfigurationError(f"{url}: {_RENEW} goes with a credential_provider")
        hostname: Any = rest.pop(_HOSTNAME, None)
        hostname = query.pop(_HOSTNAME, hostname)
        if hostname is not None and (not url.uses_tls or not isinstance(hostname, str) or not hostname):
            raise ConfigurationError(f"{url}: {_HOSTNAME} is the name that certificates must hold, for URLs with TLS")
        protocol = _version(url, query.pop(_PROTOCOL, rest.pop(_PROTOCOL, None)))
        if announces and protocol == RESP2:
            raise ConfigurationError(f"{url} needs RESP3: {_PROTOCOL}=2 goes with the URL of one server, redis://")
        if announces and _MAP in query:
            if address_map is not None:
                raise ConfigurationError(f"{url} and the option {_MAP} both map addresses: give one")
            address_map = query.pop(_MAP)
        return cls(
            url=evolve(url, query=query),
            given=rest,
            addresses=AddressMap.parse(address_map),
            tls_hostname=hostname,
            renew_s=renew_s,
            protocol=protocol,
        )


def _version(url: RedisUrl, value: object) -> Literal[2, 3] | None:
    if value is None:
        return None
    if str(value) not in {"2", "3"}:
        raise ConfigurationError(f"{url}: {_PROTOCOL} is 2 or 3, a version of RESP")
    return 2 if str(value) == "2" else 3


def _seconds(url: RedisUrl, value: object) -> float | None:
    if value is None:
        return None
    try:
        seconds = float(cast("str", value))
    except (TypeError, ValueError):
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ConfigurationError(f"{url}: {_RENEW} is a number of seconds above 0")
    return seconds
