"""Asks JetStream about streams: `JetStreamApi`."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from attrs import define, field, frozen
from backplane_core import TransportError

from backplane_nats._jetstream.connection import JetStreamConnection
from backplane_nats._jetstream.definition import StreamDefinition, stream_name
from backplane_nats._jetstream.place import Entry, StreamState, as_mark, split_entry

__all__ = ["ApiError", "JetStreamApi", "explain_silence"]

_API: Final = "$JS.API"

NO_SUCH_STREAM: Final = 10059
NO_SUCH_MESSAGE: Final = 10037
EXISTS_OTHERWISE: Final = 10058
OVERLAPS: Final = 10065
OFF: Final = (10039, 10076)
UNCHANGEABLE: Final = (10052, 10069, 10074)
"""Configurations that this server always refuses: invalid ones, and replicas without a cluster."""


@frozen
class ApiError:
    """What the server answered in place of what it was asked for.

    Args:
        code: Its own number for it; 0: nobody answers on that subject.
        description: Its words.
    """

    code: int
    description: str


def parse_answer(message: bytes) -> Mapping[str, Any] | ApiError:
    """Return what an answer of JetStream says."""
    if message.startswith(b"NATS/1.0"):  # a status, and nothing else has headers
        return ApiError(0, "nobody answers")
    try:
        answer: Any = json.loads(message)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        return ApiError(-1, "the answer is none of JetStream")
    found = cast("dict[str, Any]", answer)
    error: Any = found.get("error")
    if error is not None:
        return ApiError(int(error.get("err_code", -1)), str(error.get("description", "")))
    return found


def explain_silence(connection: JetStreamConnection) -> TransportError:
    """Return what it means that nobody answers a question to JetStream."""
    where = connection.where
    if connection.has_jetstream:
        return TransportError(f"JetStream does not answer at {where}: it is starting, or off for this account")
    return TransportError(f"JetStream is off at {where}: switch it on, or use nats://", retryable=False)


@define(eq=False)
class JetStreamApi:
    """Makes, adjusts and reads streams over one connection.

    Args:
        connection: Asks.
        definition: What streams have to be.
        tags: By which the streams that are known differ from others of their names, by channel.
    """

    connection: JetStreamConnection
    definition: StreamDefinition
    tags: dict[str, str] = field(factory=dict[str, str], init=False)

    async def ensure(self, channels: Sequence[str]) -> Mapping[str, StreamState]:
        """Make the streams of these channels, or adjust them; return what they are like.

        Raises:
            TransportError: The link is dead, JetStream is off, or a stream is another one than it has to be.
        """
        found = await self._find(channels)
        states: dict[str, StreamState] = {}
        changes: list[tuple[str, str, dict[str, Any]]] = []
        for channel, info in found.items():
            if info is None:
                changes.append((channel, "CREATE", self.definition.config(channel)))
                continue
            config = info["config"]
            if (difference := self.definition.differs(channel, config)) is not None:
                raise self._misfit(channel, difference)
            if (adjusted := self.definition.adjusted(channel, config)) is not None:
                changes.append((channel, "UPDATE", adjusted))
            states[channel] = StreamState.parse(info)
        for channel, info in (await self._change(changes)).items():
            states[channel] = StreamState.parse(info)
        self.tags |= {channel: state.tag for channel, state in states.items()}
        return states

    async def states(self, channels: Sequence[str]) -> Mapping[str, StreamState | None]:
        """Return what the streams of these channels are like; None: there is none.

        Raises:
            TransportError: The link is dead, or JetStream does not answer.
        """
        found = await self._find(channels)
        return {channel: None if info is None else StreamState.parse(info) for channel, info in found.items()}

    async def _find(self, channels: Sequence[str]) -> Mapping[str, Mapping[str, Any] | None]:
        questions = [(f"{_API}.STREAM.INFO.{stream_name(channel)}", b"") for channel in channels]
        found: dict[str, Mapping[str, Any] | None] = {}
        for channel, message in zip(channels, await self.connection.ask_jetstream(questions), strict=True):
            answer = parse_answer(message)
            if not isinstance(answer, ApiError):
                found[channel] = answer
            elif answer.code == NO_SUCH_STREAM:
                found[channel] = None
            else:
                raise self.error(answer, channel)
        return found

    async def _change(self, changes: Sequence[tuple[str, str, dict[str, Any]]]) -> Mapping[str, Mapping[str, Any]]:
        questions = [
            (f"{_API}.STREAM.{verb}.{stream_name(channel)}", json.dumps(config).encode())
            for channel, verb, config in changes
        ]
        made: dict[str, Mapping[str, Any]] = {}
        for (channel, verb, _), message in zip(changes, await self.connection.ask_jetstream(questions), strict=True):
            answer = parse_answer(message)
            if not isinstance(answer, ApiError):
                made[channel] = answer
            elif answer.code == EXISTS_OTHERWISE and verb == "CREATE":
                # Another pod made it meanwhile, with other limits.
                raise TransportError(f"the stream {stream_name(channel)!r} was made by another pod just now")
            else:
                raise self.error(answer, channel)
        return made

    def _misfit(self, channel: str, difference: str) -> TransportError:
        return TransportError(
            f"the stream {stream_name(channel)!r} at {self.connection.where} is not as it has to be: {difference}. "
            "Delete it, or take another channel",
            retryable=False,
        )

    def error(self, error: ApiError, channel: str) -> TransportError:
        """Return the error to raise for an answer."""
        name, where, said = stream_name(channel), self.connection.where, error.description
        if not error.code:
            return explain_silence(self.connection)
        if error.code in OFF:
            return TransportError(f"JetStream is off at {where}, or for this account: {said}", retryable=False)
        if error.code == OVERLAPS:
            reason = f"another stream keeps what belongs to {name!r}: delete it, or take another channel"
            return TransportError(f"JetStream at {where}: {reason}", retryable=False)
        return TransportError(
            f"JetStream at {where} refused the stream {name!r}: {said} ({error.code})",
            retryable=error.code not in UNCHANGEABLE,
        )

    async def entries(self, channel: str, sequences: Sequence[int]) -> Mapping[int, Entry]:
        """Return the entries with these numbers, as far as some node has them.

        Any node of a cluster that keeps the stream may answer, also one that is behind: see `entries_of_leader`.

        Raises:
            TransportError: The link is dead, or JetStream does not answer.
        """
        subject = f"{_API}.DIRECT.GET.{stream_name(channel)}"
        messages = await self.connection.ask_jetstream([(subject, b'{"seq":%d}' % sequence) for sequence in sequences])
        found: dict[int, Entry] = {}
        for message in messages:
            entry = split_entry(message)
            if entry is not None:
                found[entry.sequence] = entry
            elif message.startswith(b"NATS/1.0 503"):
                raise explain_silence(self.connection)
        return found

    async def entries_of_leader(self, places: Sequence[tuple[str, int]]) -> list[Entry | None]:
        """Return the entries at these places, as the leaders of their streams have them; None: it is gone.

        Args:
            places: Channels and numbers.

        Raises:
            TransportError: The link is dead, or JetStream does not answer.
        """
        questions = [
            (f"{_API}.STREAM.MSG.GET.{stream_name(channel)}", b'{"seq":%d}' % sequence) for channel, sequence in places
        ]
        entries: list[Entry | None] = []
        for (channel, sequence), message in zip(places, await self.connection.ask_jetstream(questions), strict=True):
            answer = parse_answer(message)
            if not isinstance(answer, ApiError):
                found = answer["message"]
                entries.append(Entry(sequence, as_mark(str(found["time"])), base64.b64decode(found.get("data", ""))))
            elif answer.code in {NO_SUCH_MESSAGE, NO_SUCH_STREAM}:
                entries.append(None)
            else:
                raise self.error(answer, channel)
        return entries
