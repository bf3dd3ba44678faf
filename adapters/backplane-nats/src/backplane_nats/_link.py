"""One live NATS connection: `NatsLink`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, ClassVar, Final, TypeVar

import nats.errors
from attrs import evolve
from backplane_core import Frame, Lost, Proven, Refusal, RefusedError, TransportError
from backplane_core.sockets import Confirmation, Inbox
from nats.aio.client import Client

from backplane_nats._client import close_now, get_tasks, is_clustered
from backplane_nats._client_io import ClientIO
from backplane_nats._errors import explain
from backplane_nats._inline_io import make_inline_io
from backplane_nats._public_io import PublicIO
from backplane_nats._settings import REPORTS_LAME_DUCK
from backplane_nats._split_watch import SplitWatch
from backplane_nats._written import Written, parse_denial

__all__ = ["AnnouncingNatsLink", "NatsLink"]

ROUTE_LAG_S: Final = 2.0
"""How long a frame may take from one node of a cluster to the next, of which a node's PONG says nothing. A longer lag
is not covered; the nodes themselves give up a silent route only after many seconds."""

_Item = TypeVar("_Item")


_ALONE: Final = Proven(received_until=None, replicated_until=None)


class NatsLink:
    """One live connection to a NATS server. Made by `NatsTransport.open`; core replaces it when it dies.

    Delivery: at most once, in the server's order per publisher. A PONG confirms subscriptions and sends.

    Args:
        client: Not connected yet.
        where: The server, without secrets.
        watch: Notices that the server was cut off from its cluster; None: nobody does.
        inbox: Takes the frames; None: one of its own.
    """

    reads_headers: ClassVar[bool] = False
    """Whether the headers of a message are put in front of its payload, or left out."""

    def __init__(self, client: Client, where: str, watch: SplitWatch | None, inbox: Inbox | None = None) -> None:
        self._client = client
        self._where = where
        self._inbox = Inbox() if inbox is None else inbox
        self._io: ClientIO = PublicIO(client, self._inbox, reads_headers=self.reads_headers)
        self._unconfirmed: set[Confirmation] = set()
        self._failure: TransportError | None = None
        self._is_open = False
        self._asked_to_leave = asyncio.Event()
        self._watch = watch
        self._watching: asyncio.Task[None] | None = None
        self.is_split = False
        """Whether it died because its server was cut off from the larger part of its cluster."""
        # When the last confirmed send was written.
        self._written_at = time.monotonic()

    def __repr__(self) -> str:
        state = "dead" if self._failure is not None else "live" if self._is_open else "connecting"
        return (
            f"<NatsLink {self._where} {state}, {self._io.channels} channels, "
            f"{len(self._unconfirmed)} confirmations due>"
        )

    async def connect(self, options: Mapping[str, Any]) -> None:
        """Connect the client, once, and watch it from then on.

        Args:
            options: nats-py's `connect` options.

        Raises:
            Exception: What nats-py raises; pass it to `explain`.
        """
        on_lame_duck: Callable[[], Awaitable[None]] | None = options.get("lame_duck_mode_cb")

        async def asked_to_leave() -> None:
            self._asked_to_leave.set()
            if on_lame_duck is not None:
                await on_lame_duck()

        callbacks: dict[str, Any] = {
            "error_cb": self._on_error,
            "disconnected_cb": self._on_end,
            "closed_cb": self._on_end,
        }
        if REPORTS_LAME_DUCK:
            callbacks["lame_duck_mode_cb"] = asked_to_leave
        await self._client.connect(**{**options, **callbacks})
        # No turn of the loop has passed: the client's tasks exist, but have not run yet.
        tasks = get_tasks(self._client)
        if not self._client.is_connected:
            # nats-py takes the end of the stream for the answer to its first PING, and the read loop of older versions
            # would then spin on it for ever.
            for task in tasks:
                task.cancel()
            raise nats.errors.UnexpectedEOF
        self._io = make_inline_io(self._client, self._inbox, reads_headers=self.reads_headers) or self._io
        self._is_open = True
        for task in tasks:
            task.add_done_callback(lambda _: self._end(self._client.last_error))

    async def _on_error(self, error: Exception) -> None:
        if not self._is_open:
            # Raised here it ends `connect`; otherwise nats-py would try the same server again and again.
            raise error
        if isinstance(error, nats.errors.UnexpectedEOF):
            # The server's last -ERR, if there was one, says more.
            error = self._client.last_error or error
        denial = parse_denial(str(error))
        if denial is not None and self._io.deny(denial, in_lower_case=True):
            return
        # A permission that was taken away is reported only here and leaves the connection up: a link that went on would
        # be deaf without anybody knowing. All else is about one message's headers, which nobody reads.
        if isinstance(error, (nats.errors.Error, OSError)):
            self._end(error)

    def watch_cluster(self) -> None:
        """Die from now on if the server is cut off from its cluster. Call it once nothing can cancel the opening."""
        if self._watch is not None:
            self._watching = asyncio.create_task(self._leave_if_split(self._watch), name="backplane-nats-split")

    async def _leave_if_split(self, watch: SplitWatch) -> None:
        await watch.wait_split()
        if self._failure is None:
            self.is_split = True
            self._failure = TransportError(
                f"{self._where} is cut off from the larger part of its cluster: what is published here reaches no pod "
                "there"
            )
        self._end(None)

    async def _on_end(self) -> None:
        if self._is_open:
            self._end(self._client.last_error)

    def _end(self, error: BaseException | None) -> None:
        if self._failure is None:
            self._failure = self._explain(error)
        self._inbox.close()
        # nats-py never ends the PINGs of a connection that is gone. A copy, since a caller may go on within `give`.
        for confirmation in [*self._unconfirmed]:
            confirmation.set(False)

    def _explain(self, error: BaseException | None) -> TransportError:
        """Return the error to raise for one of nats-py's."""
        return explain(error, self._where)

    def raise_if_dead(self) -> None:
        """Raise why the link is dead, if it is."""
        if self._failure is not None:
            # A new one each time: the same object raised in several tasks would collect all their tracebacks.
            raise type(self._failure)(str(self._failure), retryable=self._failure.retryable)

    async def _confirm(self, write: Callable[[Sequence[_Item]], Awaitable[Written]], items: Sequence[_Item]) -> None:
        """Write, and return once the server's PONG came."""
        self.raise_if_dead()
        try:
            written = await write(items)
        except nats.errors.MaxPayloadError:
            raise
        except RuntimeError:  # uvloop, on a closed transport
            refused = explain(None, self._where)
        except (nats.errors.Error, OSError) as error:
            refused = explain(error, self._where)
        else:
            confirmation = written.confirmation
            self._unconfirmed.add(confirmation)
            if self._failure is not None:
                confirmation.set(False)
            try:
                await confirmation
            finally:
                self._unconfirmed.discard(confirmation)
            # Also when the PONG did come: an error too many costs a copy, one too few loses frames.
            self.raise_if_dead()
            if self._client.is_connected:
                if written.refused:
                    raise RefusedError(sorted(written.refused, key=_place))
                return
            # flush() of a dead client returns as if all were well.
            refused = explain(self._client.last_error, self._where)
        self.raise_if_dead()
        raise refused

    async def subscribe(self, channels: Sequence[str]) -> None:
        """Return once the server has subscribed all of these; frames published from then on arrive.

        Raises:
            TransportError: The link is dead.
            RefusedError: This user may not subscribe to some of them; all others are subscribed.
        """
        await self._confirm(self._io.subscribe, channels)

    async def unsubscribe(self, channels: Sequence[str]) -> None:
        """Return once the server sends nothing more for these.

        Raises:
            TransportError: The link is dead.
        """
        await self._confirm(self._io.unsubscribe, channels)

    async def send(self, frames: Sequence[Frame]) -> None:
        """Write all frames in order; return once the server has taken them all.

        Raises:
            TransportError: The link is dead.
            RefusedError: Some frames are too large, or this user may not publish there; all others were taken.
        """
        written_at = time.monotonic()
        try:
            await self._confirm(self._io.send, frames)
        except nats.errors.MaxPayloadError:
            pass
        else:
            self._written_at = written_at
            return
        await self._send_what_fits(frames)  # out here, without `__context__`

    async def _send_what_fits(self, frames: Sequence[Frame]) -> None:
        """Send the frames that the server has no limit for, and refuse the others."""
        limit = self._client.max_payload
        places = [place for place, frame in enumerate(frames) if len(frame[1]) <= limit]
        reason = f"{self._where} takes {limit} bytes at most (its max_payload)"
        refusals = [Refusal(index=place, reason=reason) for place in range(len(frames)) if place not in set(places)]
        try:
            await self.send([frames[place] for place in places])
        except RefusedError as error:
            refusals += [evolve(refusal, index=places[refusal.index]) for refusal in error.refusals]
        raise RefusedError(sorted(refusals, key=_place))

    def proven(self) -> Proven:
        """Return until when what was confirmed had reached the other nodes too; a server alone has nothing in doubt.

        A node that dies takes no more with it than was on its way, so it does not count as deposed. One that was cut
        off from its cluster does.
        """
        if not is_clustered(self._client):
            return _ALONE
        lost_at = None if self._watch is None else self._watch.lost_at
        until = self._written_at if lost_at is None else min(self._written_at, lost_at)
        return Proven(received_until=None, replicated_until=until - ROUTE_LAG_S, deposed=self.is_split)

    async def receive(self) -> AsyncIterator[list[Frame | Lost]]:
        """Yield what arrived, one list per wake-up; raise when the link is dead and all was yielded.

        Raises:
            TransportError: The link is dead; the message says why.
        """
        while True:
            if batch := await self._inbox.take():
                yield batch
            else:
                self.raise_if_dead()

    async def aclose(self) -> None:
        """Close the socket and wait for nats-py's tasks; takes two seconds at most, whatever the server does."""
        if self._failure is None:
            self._failure = TransportError(f"the link to {self._where} was closed")
        self._end(None)
        async with AsyncExitStack() as stack:  # each, even if this is cancelled at another one
            stack.push_async_callback(self._io.aclose)
            stack.push_async_callback(close_now, self._client)
            if self._watching is not None:
                self._watching.cancel()
                stack.push_async_callback(asyncio.wait, [self._watching])


def _place(refusal: Refusal) -> int:
    return refusal.index


class AnnouncingNatsLink(NatsLink):
    """A link over a nats-py that passes on that the server is in lame duck mode."""

    async def leaving(self) -> str:
        """Return once the server announces lame duck mode: it will close this link soon."""
        await self._asked_to_leave.wait()
        return f"{self._where} is in lame duck mode"
