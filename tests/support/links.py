"""A link around another."""

from __future__ import annotations

from typing import Any

__all__ = ["LinkAround"]


class LinkAround:
    """A link that does as the one in it, but for what a test replaces."""

    def __init__(self, link: Any) -> None:
        self._link = link

    def __getattr__(self, name: str) -> Any:
        return getattr(self._link, name)
