"""Text that may hold a URL, without the user and the password in it."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["hide_credentials"]

_CREDENTIALS: Final = re.compile(r"(?<=//)[^/?#\s]*@")


def hide_credentials(text: str) -> str:
    """Return a text in which no URL names who it is for: `redis://***@host` for `redis://user:password@host`."""
    return _CREDENTIALS.sub("***@", text)
