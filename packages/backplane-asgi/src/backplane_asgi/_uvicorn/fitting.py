"""Whether uvicorn's classes still are what was built upon: none of it is promised."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

__all__ = ["fits"]

logger: Final = logging.getLogger("backplane")


class Missing:
    """Stands for an attribute that is not there."""


_warned: Final[set[str]] = set()


def fits(found: object, needed: Mapping[str, type]) -> bool:
    """Return whether an object of uvicorn's has attributes of these types; if not, say so once."""
    missing: list[str] = []
    for name, kind in needed.items():
        value = getattr(found, name, Missing)
        if value is Missing or not isinstance(value, kind):
            missing.append(name)
    text = ", ".join(sorted(missing))
    if missing and text not in _warned:
        _warned.add(text)
        logger.warning("this uvicorn has no %s: its sockets are served as on any server, frames are not shared", text)
    return not missing
