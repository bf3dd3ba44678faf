"""Libraries that only some subjects need: `library` imports one by name, untyped, or says where it comes from.

A worker imports only what its own subject needs. All clients together would take longer than many a turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

__all__ = ["LibraryMissing", "library", "loop_factory", "need_peers"]

_PEERS: Final = ("socketio", "channels_redis", "broadcaster", "litestar")


class LibraryMissing(RuntimeError):  # noqa: N818 -- reads better
    """A library of the dependency group `bench` is not installed."""


def library(name: str) -> Any:  # noqa: ANN401 -- checkers run where it is not installed
    """Return this module.

    Raises:
        LibraryMissing: It is not installed; the message says how to get it.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise LibraryMissing(f"{error.name} is not installed: run this with `uv run --group bench …`") from None


def need_peers() -> None:
    """Return if all libraries that we compare with are there: better now than after some minutes.

    Raises:
        LibraryMissing: One is not.
    """
    for name in _PEERS:
        library(name)


def loop_factory(loop: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what makes such an event loop, "asyncio" or "uvloop".

    Raises:
        LibraryMissing: There is no uvloop.
    """
    factory: Callable[[], asyncio.AbstractEventLoop]
    factory = asyncio.new_event_loop if loop == "asyncio" else library("uvloop").new_event_loop
    return factory
