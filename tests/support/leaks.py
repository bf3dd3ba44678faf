"""What a test leaves to the garbage collector: `find_leaks`."""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import Final

from tests.support.selection import folder_of

__all__ = ["find_leaks", "opens_connections"]

OPEN_CONNECTIONS: Final = frozenset(
    {
        "asgi",
        "channels",
        "ends",
        "faults",
        "hostile",
        "interop",
        "litestar",
        "nats",
        "pods",
        "redis",
        "server",
        "socketio",
    }
)
"""Folders of `tests/product` whose tests open sockets; the contract's checks collect for themselves."""


def opens_connections(path: Path) -> bool:
    """Return whether the tests of a file open sockets, by its folder."""
    family, _, rest = folder_of(path).partition("/")
    return family == "product" and rest.partition("/")[0] in OPEN_CONNECTIONS


def find_leaks() -> list[str]:
    """Collect, and return what was found open or failed to end: sockets, transports, coroutines.

    Asked after each test, so that the test fails that left them, not an innocent one that runs when the collector
    comes by.
    """
    found: list[str] = []

    def record(unraisable: sys.UnraisableHookArgs) -> None:
        found.append(f"{unraisable.exc_value} ({unraisable.object!r})")

    previous, sys.unraisablehook = sys.unraisablehook, record
    try:
        gc.collect()
    finally:
        sys.unraisablehook = previous
    # What is here after a test stays, as pytest's reports do: by the thousandth, to go through them took 30 ms.
    gc.freeze()
    return found
