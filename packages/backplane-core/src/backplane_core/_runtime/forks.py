"""A forked child shares its parent's sockets: what must not be used there is told so, before any code of the child."""

from __future__ import annotations

import os
import weakref
from typing import Final, Protocol

__all__ = ["call_in_child"]


class Forked(Protocol):
    """What wants to know that it is in a child now."""

    def forked(self) -> None:
        """This is the child: touch nothing that the parent uses."""
        ...


_alive: Final[weakref.WeakSet[Forked]] = weakref.WeakSet()


def call_in_child(owner: Forked) -> None:
    """Call `owner.forked()` in every child that is forked from now on; does not keep the owner alive."""
    _alive.add(owner)


def _tell_all() -> None:
    for owner in list(_alive):
        owner.forked()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_tell_all)
