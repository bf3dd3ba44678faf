"""Cookies of a request: `read_cookies`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

__all__ = ["read_cookies"]

_ESCAPED: Final = re.compile(r"\\(?:([0-3][0-7]{2})|(.))")


def read_cookies(headers: Iterable[str]) -> dict[str, str]:
    """Return the cookies of these `Cookie` headers; what is malformed is left out, and costs the others nothing.

    In one pass, which `http.cookies` of older Pythons is not: there a header of 64 KB holds the event loop for seconds.
    """
    cookies: dict[str, str] = {}
    for header in headers:
        for part in header.split(";"):
            name, equals, value = part.partition("=")
            if equals and (name := name.strip()):
                cookies[name] = _unquoted(value.strip())
    return cookies


def _unquoted(value: str) -> str:
    """Return a value without the quotes and escapes that Python's servers write."""
    if len(value) < 2 or value[0] != '"' or value[-1] != '"':  # noqa: PLR2004 -- the two quotes
        return value
    return _ESCAPED.sub(lambda found: chr(int(found[1], 8)) if found[1] else found[2], value[1:-1])
