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
"""Names whose addresses are remembered: more than a cluster announces."""

_Address: TypeAlias = "tuple[int, tuple[Any, ...]]"  # family, and what `connect` of such a socket takes


class Dialer:
    """Opens TCP connections by name, for one transport, which send what is written at once (`TCP_NODELAY`).

    A load balancer, a headless service and a host with broken IPv6 have several addresses, of which one may swallow
    packets: tried one after the other, the first would use up all the time. So each address has a quarter of a second
    before the next one is tried as well, and the first that connects is taken. A node may also accept connections and
    then say nothing, which only the caller learns: so the next connection to a name begins with another address.

    asyncio's own `happy_eyeballs_delay` does the first half; uvloop has none, and neither begins elsewhere.

    A name is resolved in a thread. While the interpreter ends none can be started, and still a publisher has to send
    what it accepted, through another link if its broker is restarted just then: the addresses of last time are used.
    """

    def __init__(self) -> None:
        # By name: its addresses, the one that was taken last at the end.
        self._known: OrderedDict[tuple[str, int], Sequence[_Address]] = OrderedDict()

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
        name = host, port
        addresses = await self._resolve(name)
        race = _Race(addresses[:MAX_ADDRESSES])
        try:
            address, connected = await race.run()
        except BaseException:
            await race.end()
            raise
        try:
            await race.end()
        except BaseException:
            connected.close()
            raise
        self._remember(name, _behind(address, addresses))
        return connected

    async def _resolve(self, name: tuple[str, int]) -> Sequence[_Address]:
        """Return the addresses of a name, in the order in which they are to be tried."""
        known = self._known.get(name, ())
        try:
            found = await asyncio.get_running_loop().getaddrinfo(*name, type=socket.SOCK_STREAM)
        except RuntimeError as error:
            if known:
                return known
            if "shutdown" not in str(error):
                raise
            # The loop's threads are gone, as `off_loop` explains, and nobody else needs the loop any longer.
            found = socket.getaddrinfo(*name, type=socket.SOCK_STREAM)
        addresses = _interleave([(family, place) for family, _, _, _, place in found])
        return _behind(known[-1], addresses) if known and known[-1] in addresses else addresses

    def _remember(self, name: tuple[str, int], addresses: Sequence[_Address]) -> None:
        self._known.pop(name, None)
        if len(self._known) >= MAX_NAMES:
            self._known.popitem(last=False)
        self._known[name] = addresses[-MAX_ADDRESSES:]


def _behind(taken: _Address, addresses: Sequence[_Address]) -> Sequence[_Address]:
    """Return the addresses, those behind this one first, and it last."""
    behind = addresses.index(taken) + 1
    return [*addresses[behind:], *addresses[:behind]]


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
        """Give up the attempts that are left, and wait for their end.

        Cancellation: closes what they still connect, no matter who waits.
        """
        for task in self._running:
            task.add_done_callback(_close_connected)
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)

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


def _close_connected(task: asyncio.Task[socket.socket]) -> None:
    """Close a socket that was connected in the very moment in which its attempt was given up."""
    if not task.cancelled() and task.exception() is None:
        task.result().close()


async def _connect(family: int, place: tuple[Any, ...]) -> socket.socket:
    connecting = socket.socket(family, socket.SOCK_STREAM)
    try:
        connecting.settimeout(0)
        # asyncio does this for a socket that names its protocol, as this one does not: without it a small write waits
        # until the other side has acknowledged the one before, 40 ms where it delays that.
        connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(connecting, place)
    except BaseException:
        connecting.close()
        raise
    return connecting
