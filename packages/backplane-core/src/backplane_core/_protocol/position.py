"""Where a client is in the logs of its fleet, and the text that stands for it, sans-IO: `Position`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import blake2s
from typing import Final, Self, TypeAlias

from attrs import define, field, frozen

__all__ = ["Ahead", "EventMark", "EventPlace", "Position", "PositionCodec", "origin_key"]

MAX_TEXT: Final = 4_096
"""Characters of an id that are looked at: it comes from a client, in a header."""
MAX_AHEAD: Final = 128
"""Senders that may be ahead of the log at once, in one id."""

CURSOR: Final = r"[A-Za-z0-9:/_-]{0,64}"
_TEXT: Final = re.compile(
    rf"1\.([0-9a-f]{{8}})\.({CURSOR}(?:\.{CURSOR})*)((?:~\d{{1,6}}:[0-9a-f]{{12}}:\d{{1,20}})*)"
    rf"(?:!(\d{{1,6}}):([0-9a-f]{{12}}):(\d{{1,20}}))?"
)

Ahead: TypeAlias = Mapping[tuple[int, str], int]
"""By lane and sender (`origin_key`): the last number of that sender that a client got there, though its place in the
log is behind `Position.cursors`."""


@lru_cache(maxsize=4096)
def origin_key(origin: str) -> str:
    """Return a short name for the origin of a pod, which others may choose freely."""
    return blake2s(origin.encode(), digest_size=6).hexdigest()


def _common_start(texts: Sequence[str]) -> str:
    """Return what all of these begin with: a lane's cursor differs from another's in its last digits, mostly."""
    least, greatest = min(texts), max(texts)
    for place, letter in enumerate(least):
        if letter != greatest[place]:
            return least[:place]
    return least


@define(eq=False)
class Position:
    """How far a client has got, in the logs of all lanes.

    A pod hands its own events to its connections before any log has them. So one cursor per lane is not enough: the
    numbers of those events are in `ahead`, until the pod has read them in the log.

    An example. A client on pod `p` has read lane 2 up to entry 100, and was handed numbers 46 to 50 of `p` there, which
    the log does not have yet. It moves to another pod, with (100, and `p`: 50). The log goes on with 46 of `p`, 9 of
    `q`, 47 of `p`: it gets 9 of `q`, and then 51 of `p`.

    Args:
        cursors: By lane: the last entry that was passed; empty where none is known.
        ahead: See `Ahead`.
    """

    cursors: Sequence[str]
    ahead: Ahead = field(factory=dict[tuple[int, str], int])


@frozen
class EventMark:
    """The last event that a client got at a position.

    Args:
        lane: The lane of its frame.
        sender: The `origin_key` of its sender.
        seq: Its number; 0: it has none, and is the entry at the lane's cursor.
    """

    lane: int
    sender: str
    seq: int


@define(eq=False)
class PositionCodec:
    """Writes positions of one fleet as text, and reads such text, which anyone may have made up.

    Args:
        fleet: The name of the fleet's channel.
        lanes: How many logs it has.
    """

    fleet: str
    lanes: int
    _head: str = field(init=False)

    def __attrs_post_init__(self) -> None:
        mark = blake2s(f"{self.lanes} {self.fleet}".encode(), digest_size=4).hexdigest()
        self._head = f"1.{mark}."

    def encode(self, position: Position, mark: EventMark | None = None) -> str:
        """Return an id: printable ASCII without spaces, fit for a header and a line of a stream."""
        text = self._encode(position)
        return text if mark is None else f"{text}!{mark.lane}:{mark.sender}:{mark.seq}"

    def _encode(self, position: Position) -> str:
        cursors = list(position.cursors)
        shared = _common_start(cursors)
        text = self._head + ".".join([shared, *[cursor[len(shared) :] for cursor in cursors]])
        if not position.ahead:
            return text
        ahead = list(position.ahead.items())[-MAX_AHEAD:]
        return text + "".join([f"~{lane}:{key}:{seq}" for (lane, key), seq in ahead])

    def decode(self, text: str) -> Position | None:
        """Return the position of an id; None: it is none of this fleet's."""
        found = self.decode_marked(text)
        return None if found is None else found[0]

    def decode_marked(self, text: str) -> tuple[Position, EventMark | None] | None:
        """Return the position of an id, and its event if it has one; None: it is not an id of this fleet."""
        if len(text) > MAX_TEXT or not text.isascii() or not text.startswith(self._head):
            return None
        found = _TEXT.fullmatch(text)
        if found is None:
            return None
        shared, *rests = found[2].split(".")
        if len(rests) != self.lanes:
            return None
        ahead: dict[tuple[int, str], int] = {}
        for part in found[3].split("~")[1:]:
            lane, key, seq = part.split(":")
            if int(lane) >= self.lanes or len(ahead) >= MAX_AHEAD:
                return None
            ahead[int(lane), key] = int(seq)
        mark: EventMark | None = None
        if found[4] is not None:
            mark = EventMark(int(found[4]), found[5], int(found[6]))
            if mark.lane >= self.lanes:
                return None
        return Position(tuple([shared + rest for rest in rests]), ahead), mark

    @classmethod
    def of(cls, channels: Sequence[str]) -> Self:
        """Return the codec for a fleet on these channels, the shared one first."""
        return cls(channels[0], len(channels))


@define(eq=False)
class EventPlace:
    """Where an event stands in the stream of the connections that got it; its text is made once somebody asks.

    Args:
        codec: Writes it.
        position: How far they have got with it.
        lane: The lane of its frame; -1 if it has none.
        sender: The `origin_key` of its sender.
        seq: Its number; 0 if it has none.
    """

    codec: PositionCodec
    position: Position
    lane: int = -1
    sender: str = ""
    seq: int = 0
    _text: str | None = field(default=None, init=False)

    def __str__(self) -> str:
        if self._text is None:
            mark = EventMark(self.lane, self.sender, self.seq) if self.lane >= 0 else None
            self._text = self.codec.encode(self.position, mark)
        return self._text
