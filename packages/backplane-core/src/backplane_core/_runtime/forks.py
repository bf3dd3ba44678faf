"""A forked child shares its parent's sockets: what must not be used there is notified before any code of the child."""

from __future__ import annotations

import os
import weakref
from typing import Final, Protocol

__all__ = ["call_in_child"]


class Forked(Protocol):
    """A part of a backplane that must behave differently in a child."""

    def forked(self) -> None:
        """Record that this is the child, which must touch nothing that the parent uses."""
        ...


_alive: Final[weakref.WeakSet[Forked]] = weakref.WeakSet()


def call_in_child(*parts: Forked) -> None:
    """Call `forked()` on each of these in every child that is forked from now on; do not keep them alive."""
    _alive.update(parts)


def _call_all() -> None:
    for part in list(_alive):
        part.forked()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_call_all)
