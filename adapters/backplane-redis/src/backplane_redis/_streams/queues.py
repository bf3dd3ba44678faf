"""Shares the entries of streams out among workers: `StreamQueues`.

A queue is a stream with one consumer group. An entry that is handed out is pending in the group until it is
acknowledged; one that was pending for as long as a lease is claimed for somebody else. All pods are one consumer of the
group: who has an entry matters to nobody, since the time for which it was idle says whether its worker lives; and a
consumer that is deleted takes what is pending for it along, in silence.

What is done stays in the stream for `KEPT_S`, so that a pod whose link died can tell whether the server still has what
it confirmed: an entry that is missing was lost, and goes there again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final, cast

import hiredis
from attrs import define, field
from backplane_core import Delivery, Lost, TransportError

from backplane_redis._commands import pack_command
from backplane_redis._streams.entries import read_payload
from backplane_redis._streams.place import format_id, parse_id
from backplane_redis._streams.session import Session
from backplane_redis._streams.session_source import SessionSource

__all__ = ["KEPT_S", "MAX_BYTES", "MAX_ENTRIES", "StreamQueues", "count_unfinished"]

GROUP: Final = "backplane"
CONSUMER: Final = "pods"

MAX_ENTRIES: Final = 100_000
MAX_BYTES: Final = 64 * 1024 * 1024
"""What a queue takes of unfinished jobs; as many as an outbox, and twice its bytes."""

KEPT_S: Final = 180.0
"""How long what is done stays: no pod sends anything again that is older than half of its `origin_ttl_s`, 150 s."""

KEPT_AT_LEAST_S: Final = 20.0
"""The same in a stream that has too much: a pod sends again what was confirmed in its last `resend_s`, 10 s."""

LOOK_EVERY_S: Final = 0.5
"""How often a worker that waits looks for what others left; a busy one as well."""

TIDY_EVERY_S: Final = 5.0
"""How often the workers of a pod look whether there is something to trim."""


@define(eq=False)
class Queue:
    """One queue, as this link sees it.

    Args:
        lease_ms: After how long what is pending may be claimed.
        session: Waits for entries; None: nobody did yet.
        look_at: When to look for what others left, in seconds of the monotonic clock.
        tidy_at: When to trim, in seconds of the monotonic clock.
        opening: Held by the one who opens the session.
    """

    lease_ms: int
    session: Session | None = None
    opening: asyncio.Lock = field(factory=asyncio.Lock)
    look_at: float = 0.0
    tidy_at: float = field(factory=lambda: time.monotonic() + TIDY_EVERY_S)


class StreamQueues:
    """Hands out, extends and ends the entries of queues.

    Args:
        asker: Is asked for all that is answered at once.
        sessions: Opens a connection for each queue, as a read that waits holds up all others on its own.
    """

    def __init__(self, asker: Session, sessions: SessionSource) -> None:
        self._asker = asker
        self._sessions = sessions
        self._queues: dict[str, Queue] = {}
        self._is_closed = False

    async def open(self, channel: str, lease_s: float) -> bool:
        """Make the group unless there is one, and return whether there was.

        Raises:
            TransportError: The connection is dead, or the stream can't be used.
        """
        [reply] = await self._asker.ask(pack_command("XGROUP", "CREATE", channel, GROUP, "0", "MKSTREAM"))
        was_there = isinstance(reply, hiredis.ReplyError)
        if was_there and not str(reply).startswith("BUSYGROUP"):
            raise self._refusal("XGROUP", channel, reply)
        self.use(channel, lease_s)
        return was_there

    def use(self, channel: str, lease_s: float) -> None:
        """Record that a queue may be used, whose group there is, or `take` says that there is none."""
        if channel not in self._queues:
            self._queues[channel] = Queue(int(lease_s * 1000))

    async def take(self, channel: str, limit: int, *, wait_s: float) -> Sequence[Delivery | Lost]:
        """Return what others left, or what is new; see `QueueLink.take`.

        Raises:
            TransportError: A connection is dead, or the group is gone.
        """
        queue = self._queues[channel]
        now = time.monotonic()
        if now >= queue.tidy_at:
            queue.tidy_at = now + TIDY_EVERY_S
            await self._tidy(channel)
        if now >= queue.look_at:
            queue.look_at = now + LOOK_EVERY_S
            if left := await self._claim(channel, queue.lease_ms, limit):
                queue.look_at = 0.0  # there may be more
                return left
        session = await self._session(queue)
        [reply] = await session.ask(
            pack_command(
                *("XREADGROUP", "GROUP", GROUP, CONSUMER, "COUNT", str(limit)),
                *("BLOCK", str(max(1, int(wait_s * 1000))), "STREAMS", channel, ">"),
            )
        )
        if isinstance(reply, hiredis.ReplyError):
            raise self._refusal("XREADGROUP", channel, reply)
        if not reply:
            return ()
        pages: dict[bytes, list[Any]] = dict(reply)  # a map in RESP3, a list of pairs in RESP2
        return [
            Delivery(token=id_.decode(), payload=read_payload(fields), attempt=1)
            for entries in pages.values()
            for id_, fields in entries
        ]

    async def _session(self, queue: Queue) -> Session:
        """Return the connection that waits for a queue's entries: if it died alone, another one."""
        async with queue.opening:
            if queue.session is not None and queue.session.is_dead:
                dead, queue.session = queue.session, None
                await dead.aclose()
            if queue.session is None:
                session = await self._sessions.open()
                if self._is_closed:
                    await session.aclose()
                queue.session = session
            return queue.session

    async def aclose(self) -> None:
        """Close what was opened for queues, at once; what waits there raises."""
        self._is_closed = True
        async with AsyncExitStack() as stack:  # each, even if this is cancelled at another one
            for queue in self._queues.values():
                if queue.session is not None:
                    stack.push_async_callback(queue.session.aclose)

    async def _claim(self, channel: str, lease_ms: int, limit: int) -> list[Delivery | Lost]:
        """Return entries that have been pending for a lease, the oldest first."""
        [pending] = await self._asker.ask(
            pack_command("XPENDING", channel, GROUP, "IDLE", str(lease_ms), "-", "+", str(limit))
        )
        if isinstance(pending, hiredis.ReplyError):
            raise self._refusal("XPENDING", channel, pending)
        attempts = {row[0]: row[3] for row in pending}
        if not attempts:
            return []
        [claimed] = await self._asker.ask(pack_command("XCLAIM", channel, GROUP, CONSUMER, str(lease_ms), *attempts))
        if isinstance(claimed, hiredis.ReplyError):
            raise self._refusal("XCLAIM", channel, claimed)
        taken = [
            Delivery(token=entry[0].decode(), payload=read_payload(entry[1]), attempt=attempts[entry[0]] + 1)
            for entry in claimed
            if entry is not None and entry[1] is not None
        ]
        found = {one.token.encode() for one in taken}
        return [*await self._find_deleted(channel, [id_ for id_ in attempts if id_ not in found]), *taken]

    async def _find_deleted(self, channel: str, ids: Sequence[bytes]) -> list[Lost]:
        """Return which of these somebody deleted; the others another pod has claimed meanwhile."""
        if not ids:
            return []
        replies = await self._asker.ask(*[pack_command("XRANGE", channel, id_, id_, "COUNT", "1") for id_ in ids])
        gone = [id_ for id_, reply in zip(ids, replies, strict=True) if reply == []]
        if not gone:
            return []
        await self.finish(channel, [id_.decode() for id_ in gone])
        reason = f"{len(gone)} entries of the stream were handed out, and somebody deleted them"
        return [Lost(channel, reason, len(gone), cause="trimmed")]

    async def extend(self, channel: str, tokens: Sequence[str]) -> None:
        """Begin the leases of these entries again; see `QueueLink.extend`."""
        await self._ask("XCLAIM", channel, GROUP, CONSUMER, "0", *tokens, "JUSTID")

    async def give_back(self, channel: str, token: str, *, delay_s: float) -> None:
        """Make the rest of an entry's lease as long as the delay; see `QueueLink.give_back`."""
        queue = self._queues[channel]
        idle_ms = max(0, queue.lease_ms - int(delay_s * 1000))
        await self._ask("XCLAIM", channel, GROUP, CONSUMER, "0", token, "IDLE", str(idle_ms), "JUSTID")
        if not delay_s:
            queue.look_at = 0.0

    async def finish(self, channel: str, tokens: Sequence[str]) -> None:
        """Acknowledge these entries; see `QueueLink.finish`."""
        await self._ask("XACK", channel, GROUP, *tokens)

    async def _ask(self, command: str, channel: str, *words: str) -> Any:  # noqa: ANN401 -- whatever Redis sends
        [reply] = await self._asker.ask(pack_command(command, channel, *words))
        if isinstance(reply, hiredis.ReplyError):
            raise self._refusal(command, channel, reply)
        return reply

    async def _tidy(self, channel: str) -> None:
        """Trim what was done a while ago, and more of what is done if the stream has too much.

        The invariant: nothing is trimmed that somebody has, or that nobody had yet. Both limits only grow, so what they
        say is true for as long as it takes to trim.
        """
        summary, groups, length, usage, clock = await self._asker.ask(
            pack_command("XPENDING", channel, GROUP),
            pack_command("XINFO", "GROUPS", channel),
            pack_command("XLEN", channel),
            pack_command("MEMORY", "USAGE", channel, "SAMPLES", "5"),
            pack_command("TIME"),
        )
        own = _find_group(groups)
        if own is None or isinstance(summary, hiredis.ReplyError):
            return  # the next read finds that out
        milliseconds, number = parse_id(own[b"last-delivered-id"])
        floor = (milliseconds, number + 1)
        if summary[0]:
            floor = min(floor, parse_id(summary[1]))
        is_full = (isinstance(length, int) and length > MAX_ENTRIES) or (isinstance(usage, int) and usage > MAX_BYTES)
        if isinstance(clock, list):
            kept_s = KEPT_AT_LEAST_S if is_full else KEPT_S
            floor = min(floor, (int((int(cast("list[bytes]", clock)[0]) - kept_s) * 1000), 0))
        if floor > (0, 0):
            await self._asker.ask(pack_command("XTRIM", channel, "MINID", format_id(floor)))

    def _refusal(self, command: str, channel: str, reply: Any) -> TransportError:  # noqa: ANN401 -- whatever Redis sends
        text = str(reply)
        if text.startswith(("NOGROUP", "UNBLOCKED")):
            return TransportError(f"the queue {channel!r} of Redis at {self._asker.where} was deleted")
        return self._asker.refusal(command, channel, text)


def _find_group(reply: Any) -> dict[Any, Any] | None:  # noqa: ANN401 -- whatever Redis sends
    """Return what `XINFO GROUPS` says of the group of the workers; None: there is none."""
    groups = cast("list[object]", reply) if isinstance(reply, list) else []
    for group in groups:
        if isinstance(group, list):  # RESP2
            flat = cast("list[object]", group)
            fields: dict[Any, Any] = dict(zip(flat[::2], flat[1::2], strict=False))
        else:
            fields = dict(cast("Mapping[Any, Any]", group))
        if fields.get(b"name") == GROUP.encode():
            return fields
    return None


def count_unfinished(groups: Any, length: Any) -> int:  # noqa: ANN401 -- whatever Redis sends
    """Return how many entries of a queue are not done; an upper bound where the server does not know.

    Args:
        groups: The reply to `XINFO GROUPS`.
        length: The reply to `XLEN`.
    """
    most = length if isinstance(length, int) else 0
    own = _find_group(groups) or {}
    lag, pending = own.get(b"lag"), own.get(b"pending")
    return min(most, lag + pending) if isinstance(lag, int) and isinstance(pending, int) else most
