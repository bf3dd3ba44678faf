"""From a host's name to a connected socket: `Dialer` tries the addresses of a name at the same time."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections import OrderedDict
from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import Any, Final, TypeAlias

__all__ = ["Dialer"]

BETWEEN_ATTEMPTS_S: Final = 0.25
"""How long an address has before the next one is tried as well; what RFC 8305 (happy eyeballs) recommends."""

MAX_ADDRESSES: Final = 16
"""Addresses tried in one attempt: with the wait between them, some four seconds."""

MAX_NAMES: Final = 256
"""Names whose last address is remembered: more than a cluster announces."""

_Address: TypeAlias = "tuple[int, tuple[Any, ...]]"  # family, and what `connect` of such a socket takes


class Dialer:
    """Opens TCP connections by name, for one transport.

    A load balancer, a headless service and a host with broken IPv6 have several addresses, of which one may swallow
    packets: tried one after the other, the first would use up all the time. So each address has a quarter of a second
    before the next one is tried as well, and the first that connects is taken. A node may also accept connections and
    then say nothing, which only the caller learns: so the next connection to a name begins with another address.

    asyncio's own `happy_eyeballs_delay` does the first half; uvloop has none, and neither begins elsewhere.
    """

    def __init__(self) -> None:
        self._taken: OrderedDict[tuple[str, int], _Address] = OrderedDict()

    async def open(self, host: str, port: int) -> socket.socket:
        """Return a connected socket, which does not block.

        Args:
            host: A name or an address.
            port: From 1 to 65535.

        Raises:
            OSError: No address could be connected to; says which were tried. A `ConnectionRefusedError` if all refused.
            socket.gaierror: The name has no address.

        Cancellation: leaves no socket behind.
        """
        addresses = self._in_turn((host, port), _interleave(await _look_up(host, port)))
        race = _Race(addresses[:MAX_ADDRESSES])
        try:
            address, connected = await race.run()
        finally:
            await race.end()
        self._taken.pop((host, port), None)
        if len(self._taken) >= MAX_NAMES:
            self._taken.popitem(last=False)
        if len(addresses) > 1:
            self._taken[host, port] = address
        return connected

    def _in_turn(self, name: tuple[str, int], addresses: list[_Address]) -> list[_Address]:
        """Return the addresses, those behind the one that was taken last first."""
        taken = self._taken.get(name)
        if taken not in addresses:
            return addresses
        behind = addresses.index(taken) + 1
        return [*addresses[behind:], *addresses[:behind]]


async def _look_up(host: str, port: int) -> list[_Address]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except RuntimeError as error:
        if "shutdown" not in str(error):
            raise
        # The loop's threads are gone, as `off_loop` explains.
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(family, place) for family, _, _, _, place in found]


class _Race:
    """One attempt at several addresses.

    Args:
        addresses: In the order in which they are tried.
    """

    def __init__(self, addresses: Sequence[_Address]) -> None:
        self._addresses = addresses
        self._running: dict[asyncio.Task[socket.socket], _Address] = {}
        self._failures: list[tuple[_Address, OSError]] = []

    async def run(self) -> tuple[_Address, socket.socket]:
        """Return the first address that connects, and its socket."""
        waiting = [*reversed(self._addresses)]
        while waiting or self._running:
            if waiting:
                address = waiting.pop()
                self._running[asyncio.create_task(_connect(*address))] = address
            done, _ = await asyncio.wait(
                self._running, timeout=BETWEEN_ATTEMPTS_S if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                error = task.exception()
                if error is None:
                    return self._running.pop(task), task.result()
                if not isinstance(error, OSError):
                    raise error
                self._failures.append((self._running.pop(task), error))
        raise self._failure()

    async def end(self) -> None:
        """Give up the attempts that are left, and wait for their end."""
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)
        for task in self._running:
            if not task.cancelled() and task.exception() is None:
                task.result().close()  # it connected in the very moment

    def _failure(self) -> OSError:
        if len(self._failures) == 1:
            return self._failures[0][1]
        numbers = {error.errno for _, error in self._failures}
        texts = [f"{place[0]}: {error.strerror or type(error).__name__}" for (_, place), error in self._failures]
        return OSError(numbers.pop() if len(numbers) == 1 else errno.EHOSTUNREACH, "; ".join(texts))


def _interleave(addresses: Sequence[_Address]) -> list[_Address]:
    """Return each address once, the families in turns: a broken IPv6 breaks all addresses of its kind."""
    by_family: dict[int, list[_Address]] = {}
    for address in dict.fromkeys(addresses):
        by_family.setdefault(address[0], []).append(address)
    return [address for address in chain.from_iterable(zip_longest(*by_family.values())) if address is not None]


async def _connect(family: int, place: tuple[Any, ...]) -> socket.socket:
    connecting = socket.socket(family, socket.SOCK_STREAM)
    try:
        connecting.settimeout(0)
        await asyncio.get_running_loop().sock_connect(connecting, place)
    except BaseException:
        connecting.close()
        raise
    return connecting
