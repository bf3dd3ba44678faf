"""Addresses that swallow packets, and names that have several addresses."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final

import pytest

__all__ = ["deaf_address", "resolve"]

_QUEUED: Final = 8
"""More than a backlog of 0 takes: what comes later gets no answer, as behind a firewall that drops packets."""


@contextmanager
def deaf_address(host: str, port: int = 0) -> Generator[int]:
    """Serve an address where connecting never ends, on a free port or on this one; yield which."""
    with socket.create_server((host, port), backlog=0) as server:
        port = server.getsockname()[1]
        waiting = [socket.socket() for _ in range(_QUEUED)]
        try:
            for one in waiting:
                one.settimeout(0)
                one.connect_ex((host, port))
            with socket.socket() as probe:
                probe.settimeout(0.2)
                try:
                    probe.connect((host, port))
                except TimeoutError:
                    pass
                else:
                    raise AssertionError(f"{host} is not deaf: it took another connection")
            yield port
        finally:
            for one in waiting:
                one.close()


def resolve(monkeypatch: pytest.MonkeyPatch, name: str, *addresses: str) -> None:
    """Let a name have these addresses, in this order, in the loop that runs; all other names stay what they are."""
    loop = asyncio.get_running_loop()
    original = loop.getaddrinfo

    async def getaddrinfo(host: Any, port: Any, **options: Any) -> Any:
        if host != name:
            return await original(host, port, **options)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, int(port))) for address in addresses]

    if type(loop).__module__.startswith("uvloop"):
        monkeypatch.setattr(asyncio, "get_running_loop", lambda: _Resolving(loop, getaddrinfo))
    else:
        monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)


class _Resolving:
    """uvloop's loop, whose methods can't be replaced."""

    def __init__(self, loop: asyncio.AbstractEventLoop, getaddrinfo: Any) -> None:
        self._loop = loop
        self.getaddrinfo = getaddrinfo

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)
