"""What this process hears on the channels that it is subscribed to: `Stream`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack
from typing import Final

from backplane_core import BackplaneError, BaseBackplane, Connection, Event, Gap, Target

from backplane_litestar._frames import unwrap

__all__ = ["Stream", "target_of"]

KIND: Final = "litestar_channel"

MAX_PENDING: Final = 10_000
"""Messages that may wait for the plugin's task, which takes all that wait in one turn of the loop."""
MAX_PENDING_BYTES: Final = 64 * 1024 * 1024
"""The same in bytes: 64 of the largest size."""


def target_of(channel: str) -> Target:
    """Return what a channel is on the bus.

    Raises:
        InvalidTargetError: The name is empty, or takes over 1,024 bytes of UTF-8.
    """
    return Target(KIND, channel)


class Stream:
    """One connection for all channels of this process; the plugin spreads what comes to its subscribers.

    Channels that are subscribed to while it is closed are heard once it is open.

    Args:
        gap: What each channel gets where messages may be missing; None: nothing, and the log warns of them.
    """

    def __init__(self, gap: bytes | None) -> None:
        self._gap = gap
        self._targets: dict[str, Target] = {}
        self._backplane: BaseBackplane | None = None
        self._connection: Connection | None = None
        self._stack = AsyncExitStack()
        self._opened = asyncio.Event()

    async def open(self, backplane: BaseBackplane) -> None:
        """Attach the connection.

        Raises:
            ClosedError: The backplane is closed.
        """
        await self._attach(backplane)
        self._backplane = backplane
        self._opened.set()

    async def close(self) -> None:
        """Detach the connection, which ends `events`; a no-op if there is none."""
        self._backplane = self._connection = None
        self._opened.set()  # for those who wait for a start that has failed
        self._opened = asyncio.Event()
        await self._stack.aclose()

    async def _attach(self, backplane: BaseBackplane) -> None:
        """Attach a connection in the place of the last one, without waiting for what the broker says of channels."""
        await self._stack.aclose()
        self._connection = await self._stack.enter_async_context(
            backplane.connection(
                max_pending=MAX_PENDING, max_pending_bytes=MAX_PENDING_BYTES, overflow="drop_oldest", direct=False
            )
        )
        for target in self._targets.values():
            backplane.associate_nowait(self._connection.conn_id, target)

    async def subscribe(self, channels: Iterable[str]) -> None:
        """Add channels, and return once the broker has confirmed them; at once while it is away.

        Raises:
            InvalidTargetError: The name of one is not allowed; none was added.
            TargetDeniedError: The broker does not let this process hear one; that one was not added.
        """
        targets = {channel: target_of(channel) for channel in channels}
        self._targets |= targets
        backplane, connection = self._backplane, self._connection
        if backplane is None or connection is None:
            return
        confirming = [backplane.associate(connection.conn_id, target) for target in targets.values()]
        answers = await asyncio.gather(*confirming, return_exceptions=True)
        refusals = {channel: it for channel, it in zip(targets, answers, strict=True) if isinstance(it, BaseException)}
        for channel in refusals:
            self._targets.pop(channel, None)
        for refusal in refusals.values():
            raise refusal

    async def unsubscribe(self, channels: Iterable[str]) -> None:
        """Remove channels: nothing of them comes any longer, not even what is queued. An unknown one is a no-op."""
        for channel in channels:
            target = self._targets.pop(channel, None)
            if target is not None and self._backplane is not None and self._connection is not None:
                await self._backplane.dissociate(self._connection.conn_id, target)

    async def events(self) -> AsyncGenerator[tuple[str, bytes]]:
        """Yield each payload with its channel, once for each of its channels; end when closed, and never raise.

        If an order to the fleet closes the connection, another takes its place, and each channel gets a gap.
        """
        if self._connection is None:
            await self._opened.wait()
        while (connection := self._connection) is not None:
            try:
                async for item in self._items(connection):
                    for channel, payload in self._read(item):
                        if channel in self._targets:
                            yield channel, payload
            except BackplaneError:
                pass  # it has ended
            if not await self._replace(connection):
                return
            for channel, payload in self._gaps():
                yield channel, payload

    def _items(self, connection: Connection) -> AsyncIterator[Event | Gap] | Connection:
        # Where nobody takes gaps, the log of core warns of them.
        return connection if self._gap is None else connection.items()

    async def _replace(self, connection: Connection) -> bool:
        """Attach another connection in the place of one that has ended; return whether there is one."""
        if self._backplane is None or self._connection is not connection:
            return self._connection is not None
        try:
            await self._attach(self._backplane)
        except BackplaneError:  # closed by its owner
            return False
        return True

    def _read(self, item: Event | Gap) -> Sequence[tuple[str, bytes]]:
        """Return the payload of an event for each channel that it names."""
        if isinstance(item, Gap):
            # One that is open has not ended: another follows, and until then nobody could load what is missing.
            return () if item.is_open else self._gaps()
        target = item.target
        if target is None or target.kind != KIND:  # everyone's: of others who share the bus
            return ()
        if item.json[:1] == b"[" and (unwrapped := unwrap(item.json)) is not None:
            channels, payload = unwrapped
            return [(channel, payload) for channel in channels]
        return ((target.id, item.json),)

    def _gaps(self) -> Sequence[tuple[str, bytes]]:
        return () if self._gap is None else [(channel, self._gap) for channel in self._targets]
