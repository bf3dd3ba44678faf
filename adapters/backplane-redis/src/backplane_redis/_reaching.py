"""How servers are reached, known and logged in to, apart from what redis-py's connections are made with: `Reaching`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Self, cast

from attrs import evolve, field, frozen
from backplane_core import ConfigurationError
from backplane_core.sockets import AddressMap

from backplane_redis._url import RedisUrl

__all__ = ["Reaching"]

_HOSTNAME: Final = "tls_hostname"
_RENEW: Final = "renew_credentials_s"
_MAP: Final = "address_map"


@frozen(kw_only=True)
class Reaching:
    """What a URL and `connection_kwargs` say of it, and what is left of them.

    Args:
        url: Without these options in its query.
        given: The caller's `connection_kwargs`, without these options.
        addresses: Where announced addresses can be reached.
        tls_hostname: The name that each certificate must hold; None: that of the address.
        renew_s: Seconds after which live connections authenticate again; None: if the provider announces it.
    """

    url: RedisUrl
    given: Mapping[str, Any] = field(repr=False)
    addresses: AddressMap
    tls_hostname: str | None
    renew_s: float | None

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
            announces: Whether these servers announce addresses. If not, `address_map` is left, and is unknown there.
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
        )


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
