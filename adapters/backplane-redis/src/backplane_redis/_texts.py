"""Options that stand as text in a URL's query: `parse_option`."""

from __future__ import annotations

import inspect
import socket
from collections.abc import Sequence
from typing import Any, Final

from redis.asyncio.connection import URL_QUERY_ARGUMENT_PARSERS, SSLConnection

__all__ = ["TLS_OPTIONS", "BadText", "parse_option", "parse_switch"]

TLS_OPTIONS: Final = tuple(name for name in inspect.signature(SSLConnection).parameters if name[:4] == "ssl_")
"""What this redis-py takes; it has more of them with each version."""

_SWITCH: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_CERT_REQS: Final = ("none", "optional", "required")
_KEEPALIVE: Final = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT")


class BadText(ValueError):  # noqa: N818 -- it never leaves the adapter
    """A text is none of those that are allowed; says which are, and not what it was."""


def parse_option(name: str, text: str) -> Any:  # noqa: ANN401 -- whatever redis-py takes
    """Return an option's value.

    Args:
        name: The option's.
        text: Decoded.

    Raises:
        BadText: It has no such value.
    """
    if name == "client_name":
        return text or None
    if name in {"socket_keepalive", "ssl_check_hostname", "ssl_validate_ocsp", "ssl_validate_ocsp_stapled"}:
        return parse_switch(text)
    if name == "ssl_cert_reqs":
        return _one_of(text.lower(), _CERT_REQS)
    if name == "socket_keepalive_options":
        return _parse_keepalive(text)
    if name == "credential_provider":
        raise BadText("an object, which goes into connection_kwargs")
    try:
        return URL_QUERY_ARGUMENT_PARSERS.get(name, str)(text)
    except (TypeError, ValueError):
        pass
    raise BadText("a number" if name in {"db", "socket_connect_timeout"} else "what redis-py takes")


def parse_switch(text: str) -> bool:
    """Return what a text for yes or no means; raise `BadText` for any other."""
    return _SWITCH[_one_of(text.lower(), tuple(_SWITCH))]


def _one_of(text: str, allowed: Sequence[str]) -> str:
    if text not in allowed:
        raise BadText(", ".join(allowed))
    return text


def _parse_keepalive(text: str) -> dict[int, int]:
    """Return `TCP_KEEPIDLE:60,TCP_KEEPINTVL:10,TCP_KEEPCNT:3` as the socket module has it; each is optional."""
    found: dict[int, int] = {}
    for part in text.split(","):
        name, _, value = part.strip().partition(":")
        if name not in _KEEPALIVE or not hasattr(socket, name) or not value.isdecimal():
            raise BadText("TCP_KEEPIDLE:60,TCP_KEEPINTVL:10,TCP_KEEPCNT:3 (seconds, seconds, probes), or some of these")
        found[getattr(socket, name)] = int(value)
    return found
