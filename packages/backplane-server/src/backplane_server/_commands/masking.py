"""A broker's URL for people: `mask_url`."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["MASK", "mask_url"]

MASK: Final = "***"

_USER: Final = re.compile(r"[A-Za-z0-9_.-]+(?=:)")
_HARMLESS: Final = frozenset(
    {"address_map", "ca", "client_name", "db", "dont_randomize", "ignore_discovered_servers", "protocol", "replicas"}
    | {"retain_bytes", "retain_entries", "retain_s", "socket_connect_timeout", "socket_keepalive", "ssl_ca_certs"}
    | {"ssl_cert_reqs", "ssl_check_hostname", "storage", "tls_hostname"}
)
"""Parameters of a query that are shown; any other may be a secret."""


def mask_url(url: str) -> str:
    """Return a URL without its secrets: the password, a token, and what the query holds besides harmless options.

    In a password `/`, `?` or `#` may be unescaped, which no URL parser expects: so all before the last `@` is removed.
    """
    scheme, separator, rest = url.strip().partition("://")
    if not separator:
        return MASK  # not a URL, so it may be a secret
    credentials, at, place = rest.rpartition("@")
    user = _USER.match(credentials)
    shown = f"{user[0]}:{MASK}@" if user else f"{MASK}@" if at else ""
    place, question, query = place.partition("?")
    return f"{scheme}://{shown}{place}{question}{'&'.join(map(_mask_parameter, query.split('&'))) if query else ''}"


def _mask_parameter(parameter: str) -> str:
    name, equals, value = parameter.partition("=")
    return parameter if name in _HARMLESS or not value else f"{name}{equals}{MASK}"
