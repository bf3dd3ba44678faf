"""Shares the entries of streams out among workers: `JetStreamQueues`.

A queue is a stream with one durable pull consumer, from which the workers of all pods take. An entry that is handed out
is its worker's until it is acknowledged, or `ack_wait` is over.

What is done stays in the stream for `KEPT_S`, so that a pod whose link died can tell whether the server still has what
it confirmed: an entry that is missing at the end was lost, and goes there again. So the stream is no work queue in
JetStream's sense, which would delete it at once.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

from attrs import define, field
from backplane_core import Delivery, Lost, TransportError

from backplane_nats._jetstream.api import ApiError, JetStreamApi, parse_answer
from backplane_nats._jetstream.connection import ANSWER_S, JetStreamConnection
from backplane_nats._jetstream.definition import QUEUE_BYTES, QUEUE_ENTRIES, stream_name
from backplane_nats._subjects import to_subject

__all__ = ["JetStreamQueues"]

_API: Final = "$JS.API"
CONSUMER: Final = "backplane"

NO_SUCH_CONSUMER: Final = 10014
MAX_HELD: Final = 10_000
"""Jobs of a queue that all workers together may have at a time."""

KEPT_S: Final = 180.0
"""How long what is done stays: no pod sends anything again that is older than half of its `origin_ttl_s`, 150 s."""

KEPT_AT_LEAST_S: Final = 20.0
"""The same in a stream that is half full: a pod sends again what was confirmed in its last `resend_s`, 10 s."""

TIDY_EVERY_S: Final = 5.0
"""How often the workers of a pod look whether there is something to purge."""

_NANO: Final = 1_000_000_000
_PLAIN_REPLY: Final = 9
"""Words in the address for an acknowledgement; with the domain and the account there are more."""


@define(eq=False)
class Queue:
    """One queue, as this link sees it.

    Args:
        floors: Up to which entry all was done, and when that was seen, in seconds of the monotonic clock.
        tidy_at: When to look again.
    """

    floors: deque[tuple[float, int]] = field(factory=deque[tuple[float, int]])
    tidy_at: float = field(factory=lambda: time.monotonic() + TIDY_EVERY_S)


class JetStreamQueues:
    """Hands out, extends and ends the entries of queues.

    Args:
        connection: Is asked.
        api: Makes streams.
    """

    def __init__(self, connection: JetStreamConnection, api: JetStreamApi) -> None:
        self._connection = connection
        self._api = api
        self._queues: dict[str, Queue] = {}

    async def open(self, channel: str, lease_s: float) -> bool:
        """Make the stream and its consumer unless they are there; return whether the consumer was.

        Raises:
            TransportError: The link is dead, or JetStream refuses.
        """
        await self._api.ensure([channel])
        name = f"{stream_name(channel)}.{CONSUMER}"
        info = await self._ask(channel, f"CONSUMER.INFO.{name}")
        was_there = not isinstance(info, ApiError)
        if isinstance(info, ApiError) and info.code != NO_SUCH_CONSUMER:
            raise self._api.error(info, channel)
        config = {
            "durable_name": CONSUMER,
            "ack_policy": "explicit",
            "ack_wait": int(lease_s * _NANO),
            "deliver_policy": "all",
            "replay_policy": "instant",
            "max_deliver": -1,
            "max_ack_pending": MAX_HELD,
        }
        made = await self._ask(
            channel, f"CONSUMER.DURABLE.CREATE.{name}", {"stream_name": stream_name(channel), "config": config}
        )
        if isinstance(made, ApiError):
            raise self._api.error(made, channel)
        self._queues.setdefault(channel, Queue())
        return was_there

    async def take(self, channel: str, limit: int, *, wait_s: float) -> Sequence[Delivery | Lost]:
        """Return entries that nobody has; see `QueueLink.take`.

        Raises:
            TransportError: The link is dead, or the consumer is gone.
        """
        queue, now = self._queues[channel], time.monotonic()
        if now >= queue.tidy_at:
            queue.tidy_at = now + TIDY_EVERY_S
            await self._tidy(channel, queue)
        taken = await self._pull(channel, [{"batch": 1, "expires": int(wait_s * _NANO)}], wait_s)
        if taken and limit > 1:
            taken += await self._pull(channel, [{"batch": 1, "no_wait": True}] * (limit - 1), 0.0)
        return taken

    async def _pull(self, channel: str, requests: Sequence[Mapping[str, object]], wait_s: float) -> list[Delivery]:
        subject = f"{_API}.CONSUMER.MSG.NEXT.{stream_name(channel)}.{CONSUMER}"
        questions = [(subject, json.dumps(request).encode()) for request in requests]
        try:
            async with asyncio.timeout(wait_s + ANSWER_S):
                answers = await self._connection.request(questions, to_subject(channel))
        except TimeoutError:
            raise TransportError(f"JetStream at {self._connection.where} hands out no jobs: has it a leader?") from None
        taken: list[Delivery] = []
        for message, address in answers:
            if address.startswith("$JS.ACK."):
                taken.append(self._delivery(channel, message, address))
            elif not message.startswith((b"NATS/1.0 404", b"NATS/1.0 408")) and not taken:
                raise self._gone(channel)
        return taken

    def _delivery(self, channel: str, message: bytes, address: str) -> Delivery:
        words = address.split(".")
        if message.startswith(b"NATS/1.0"):
            message = message[message.find(b"\r\n\r\n") + 4 :]
        attempt = words[4 if len(words) == _PLAIN_REPLY else 6]
        token = f"{self._api.tags.get(channel, '')} {address}"
        return Delivery(token=token, payload=message, attempt=int(attempt) if attempt.isdecimal() else 1)

    async def extend(self, channel: str, tokens: Sequence[str]) -> None:
        """Say that work goes on; see `QueueLink.extend`."""
        await self._answer(channel, tokens, b"+WPI")

    async def give_back(self, channel: str, token: str, *, delay_s: float) -> None:
        """Let another one have an entry; see `QueueLink.give_back`."""
        delay = b' {"delay":%d}' % int(delay_s * _NANO) if delay_s else b""
        await self._answer(channel, [token], b"-NAK" + delay)

    async def finish(self, channel: str, tokens: Sequence[str]) -> None:
        """Acknowledge entries; see `QueueLink.finish`."""
        await self._answer(channel, tokens, b"+ACK")

    async def _answer(self, channel: str, tokens: Sequence[str], word: bytes) -> None:
        """Say something of entries, and return once the server has confirmed that.

        A stream that was made again has other entries under the same numbers: what is said of the old ones is dropped.
        """
        tag = self._api.tags.get(channel, "")
        addresses = [address for stream, _, address in [token.partition(" ") for token in tokens] if stream == tag]
        for answer in await self._connection.ask_jetstream([(address, word) for address in addresses]):
            if answer.startswith(b"NATS/1.0 503"):
                raise self._gone(channel)

    async def _tidy(self, channel: str, queue: Queue) -> None:
        """Purge what was done a while ago, and more of what is done if the stream has half of what it may.

        The invariant: nothing is purged that is not done. The floor is the entry up to which all is, and only grows.
        """
        name = stream_name(channel)
        consumer = await self._ask(channel, f"CONSUMER.INFO.{name}.{CONSUMER}")
        stream = await self._ask(channel, f"STREAM.INFO.{name}")
        if isinstance(consumer, ApiError) or isinstance(stream, ApiError):
            return  # the next pull finds that out
        now, state = time.monotonic(), stream["state"]
        queue.floors.append((now, int(consumer["ack_floor"]["stream_seq"])))
        is_half_full = state["messages"] > QUEUE_ENTRIES // 2 or state["bytes"] > QUEUE_BYTES // 2
        floor = 0
        kept_s = KEPT_AT_LEAST_S if is_half_full else KEPT_S
        while queue.floors and now - queue.floors[0][0] > kept_s:
            _, floor = queue.floors.popleft()
        if floor >= int(state["first_seq"]):
            await self._ask(channel, f"STREAM.PURGE.{name}", {"seq": floor + 1})

    def _gone(self, channel: str) -> TransportError:
        return TransportError(f"the queue {channel!r} at {self._connection.where} has no consumer: was it deleted?")

    async def _ask(self, channel: str, subject: str, request: object = None) -> Mapping[str, Any] | ApiError:
        payload = b"" if request is None else json.dumps(request).encode()
        [message] = await self._connection.ask_jetstream([(f"{_API}.{subject}", payload)])
        answer = parse_answer(message)
        if isinstance(answer, ApiError) and not answer.code:
            raise self._api.error(answer, channel)
        return answer
