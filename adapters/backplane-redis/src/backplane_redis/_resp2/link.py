"""`TwoConnectionLink`: a link over RESP2, where a connection that is subscribed can't publish."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing, suppress
from secrets import token_hex

from attrs import evolve
from backplane_core import AuthenticationError, Frame, Lost, Proven, RefusedError, TransportError

from backplane_redis._connection import LinkConnection
from backplane_redis._greeting import RESP2
from backplane_redis._limits import Limits
from backplane_redis._opening import Connector
from backplane_redis._resp2.echo import Echo
from backplane_redis._resp2.half import Half
from backplane_redis._standing import Standing
from backplane_redis._url import Address
from backplane_redis._verdicts import root_of

__all__ = ["TwoConnectionLink"]


class TwoConnectionLink:
    """One link, made of a connection that publishes and one that brings messages: when one dies, so does the link.

    Each of them is a `RedisLink` that is used in one direction. The second one is opened with the first subscription:
    who only publishes has no use for it, and a server that closes idle connections would close it. An `Echo` goes out
    on the first and comes back on the second, and is all that proves how far the link has heard everything: behind a
    name, or a proxy, the two may even lead to different nodes.

    In RESP2 a subscribed connection may not authenticate again. So credentials are renewed on the first alone, and when
    the server ends the other one, the link is replaced.

    Args:
        connection: Open, and not read from yet; it will publish.
        connector: Opens the other one.
        address: Where to; None: to the socket that the options name.
        where: The server's address, for people.
        standing: What the node said of itself.
        limits: What is known of how large a message may be.
    """

    def __init__(  # noqa: PLR0917 -- one caller
        self,
        connection: LinkConnection,
        connector: Connector,
        address: Address | None,
        where: str,
        standing: Standing,
        limits: Limits,
    ) -> None:
        self._publishing = Half(connection, where, standing, limits, self)
        self._connector = connector
        self._address = address
        self._where = where
        self._limits = limits
        self._opened_at = time.monotonic()
        self._subscribed: Half | None = None
        # None until its channel is heard.
        self._echo: Echo | None = None
        self._opening = asyncio.Lock()
        # Set once there is a second connection to be read, or will never be one.
        self._is_settled = asyncio.Event()
        self._answers: asyncio.Task[None] | None = None
        # Whether the consumer is at work on a list.
        self._is_taking = False
        self._first_dead: Half | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} publishing {self._publishing!r}, subscribed {self._subscribed!r}>"

    async def subscribe(self, channels: Sequence[str]) -> None:
        """Return once Redis confirmed every channel; the first time, open the connection for them.

        Raises:
            TransportError: The link is dead, or the connection can't be opened.
            AuthenticationError: The server refused the credentials, or a channel of the link's own.
            RefusedError: The user may not hear some of them; all others are confirmed.
        """
        if channels:
            half = await self._open_subscribed(channels[0])
            await half.subscribe(channels)

    async def unsubscribe(self, channels: Sequence[str]) -> None:
        """Return once Redis confirmed that the link no longer hears any of the channels."""
        if self._subscribed is not None:
            await self._subscribed.unsubscribe(channels)

    async def send(self, frames: Sequence[Frame]) -> None:
        """Write all frames in one go; return once Redis answered each PUBLISH, and for its role if that was due.

        Raises:
            TransportError: The link is dead.
            RefusedError: Redis refused some frames, and took all others; or it died of the last of them.

        Cancellation: as that of `RedisLink.send`.
        """
        echo, now = self._echo, time.monotonic()
        if echo is not None and frames and echo.is_due(now):
            echo.asked(now)
            # Nobody waits for its confirmation: what counts is that it comes back.
            await self._publishing.write("PUBLISH", [(echo.channel, b"1")], echo.data)
        await self._publishing.send(frames)

    def proven(self) -> Proven:
        """Return until when every message was received, and until when the node was certainly the right one."""
        half, echo = self._subscribed, self._echo
        if half is not None and echo is not None and not self._is_taking and not half.has_frames:
            echo.taken()
        received_until = self._opened_at if echo is None else echo.heard_at
        return evolve(self._publishing.proven(), received_until=received_until)

    async def receive(self) -> AsyncIterator[list[Frame | Lost]]:
        """Yield what arrived, one list per read; while the caller is busy the socket is paused."""
        self._answers = asyncio.create_task(self._read_answers(), name="backplane-answers")
        try:
            await self._is_settled.wait()
            if self._subscribed is not None:
                async with aclosing(self._subscribed.receive()) as lists:
                    async for frames in lists:
                        self._is_taking = True
                        yield frames
                        self._is_taking = False
            raise self.error()
        finally:
            self._publishing.die("its reader stopped")

    async def aclose(self) -> None:
        """Close both sockets at once; pending calls raise, no task is left."""
        self._publishing.die("it was closed")
        async with AsyncExitStack() as stack:  # each, even if this is cancelled, or fails, at another one
            if self._answers is not None:
                self._answers.cancel()
                stack.push_async_callback(asyncio.wait, [self._answers])
            for half in (self._publishing, self._subscribed):
                if half is not None:
                    stack.push_async_callback(half.aclose)

    # What a half reports

    def half_died(self, half: Half) -> None:
        """Mark the link dead: one of its connections is gone."""
        if self._first_dead is None:
            self._first_dead = half
            for other in (self._publishing, self._subscribed):
                if other is not None and other is not half:
                    other.die_with(half)
            self._is_settled.set()

    def echoed(self) -> None:
        """Record that an echo came back, or a message of a channel that was left just before."""
        if self._echo is not None:
            self._echo.arrived()

    def error(self) -> TransportError:
        """Return why the link is dead."""
        return (self._first_dead or self._publishing).error()

    async def _open_subscribed(self, channel: str) -> Half:
        """Return the connection for messages; the first time, open it, and hear the echo's channel there."""
        async with self._opening:
            half = self._subscribed or await self._connect()
            if self._echo is None:
                echo = Echo(f"{root_of(channel)}:@{token_hex(8)}", self._opened_at)
                try:
                    await half.hear_apart(echo.channel)
                except RefusedError as refused:
                    reason = refused.refusals[0].reason
                else:
                    self._echo = echo
                    return half
                raise AuthenticationError(reason)
            return half

    async def _connect(self) -> Half:
        if self._first_dead is not None:
            raise self.error()
        connection = await self._connector.open(self._address, protocol=RESP2)
        if self._first_dead is not None:  # meanwhile, and aclose() may be over
            await connection.disconnect(nowait=True)
            raise self.error()
        connection.credentials = None
        half = self._subscribed = Half(connection, self._where, Standing(None, time.monotonic()), self._limits, self)
        half.start_reading()
        self._is_settled.set()
        return half

    async def _read_answers(self) -> None:
        with suppress(TransportError):  # the link is dead, for a reason that it has kept
            async for _ in self._publishing.receive():
                pass  # nothing is subscribed there
