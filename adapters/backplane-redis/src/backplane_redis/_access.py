"""How a server is reached, for advice on passwords and encryption: `Access`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from attrs import frozen

from backplane_redis._url import Address, RedisUrl

__all__ = ["Access"]

_LOOPBACK: Final = re.compile(r"localhost|127\..*|::1")


@frozen(kw_only=True)
class Access:
    """How the server is reached.

    Args:
        is_local: Whether it is on this machine: nobody else reads the line.
        uses_tls: Whether the line is encrypted.
        has_login: Whether this client has said who it is.
    """

    is_local: bool
    uses_tls: bool
    has_login: bool

    @classmethod
    def of(cls, url: RedisUrl, address: Address | None, options: Mapping[str, Any]) -> Access:
        """Return how the server at an address is reached; None: over its socket."""
        return cls(
            is_local=address is None or _LOOPBACK.fullmatch(address[0]) is not None,
            uses_tls=url.uses_tls,
            has_login=any(options.get(name) is not None for name in ("username", "password", "credential_provider")),
        )
