"""A package index on this machine: `Index`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from attrs import frozen

__all__ = ["Index"]


@frozen
class Index:
    """A running pypiserver.

    Args:
        upload_url: Where files are uploaded to.
        folder: Where it keeps them.
    """

    upload_url: str
    folder: Path

    @property
    def simple_url(self) -> str:
        """What installers read."""
        return f"{self.upload_url}simple/"

    def files(self) -> Sequence[str]:
        """Return the names of what was uploaded, oldest first."""
        return [path.name for path in sorted(self.folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)]
