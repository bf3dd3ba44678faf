"""Where a reader is in a stream, and what became of that place, sans-IO: `Place`, `Entry`, `StreamState`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, Self
from zlib import crc32

from attrs import define, frozen

__all__ = ["Entry", "Place", "StreamState", "as_mark", "make_mark", "parse_time", "split_entry"]

# As every server so far writes them, which spares two searches; the payload follows.
_USUAL: Final = re.compile(
    rb"NATS/1\.0\r\nNats-Stream: [^\r]+\r\nNats-Subject: [^\r]+\r\nNats-Sequence: (\d{1,19})\r\n"
    rb"Nats-Time-Stamp: ([0-9TZ:.+-]{1,40})\r\n(?:Nats-Last-Sequence: \d+\r\n|Nats-Num-Pending: \d+\r\n)*\r\n"
)
_SEQUENCE: Final = re.compile(rb"\r\nNats-Sequence: (\d{1,19})\r\n")
_TIME: Final = re.compile(rb"\r\nNats-Time-Stamp: ([0-9TZ:.+-]{1,40})\r\n")
_MOMENT: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:[._](\d{1,9}))?Z", re.ASCII)
_MARK: Final = re.compile(r"|-[0-9a-f]{8}|[0-9TZ:_-]{20,30}", re.ASCII)
_TAG: Final = re.compile(r"[0-9a-f]{8}", re.ASCII)
_SEQUENCE_TEXT: Final = re.compile(r"\d{1,19}", re.ASCII)
_NO_TIME: Final = ""


def make_mark(payload: bytes) -> str:
    """Return what a payload is recognized by, where the time of its entry is not known."""
    return f"-{crc32(payload):08x}"


def as_mark(time: str) -> str:
    """Return the server's word for a moment as it stands in a cursor, which has no dot."""
    return time.replace(".", "_")


def parse_time(text: str) -> int:
    """Return a moment, with a dot or as a mark, in nanoseconds since 1970; 0 if it is none."""
    found = _MOMENT.fullmatch(text)
    if found is None:
        return 0
    seconds = datetime.fromisoformat(found[1]).replace(tzinfo=UTC).timestamp()
    return int(seconds) * 1_000_000_000 + int((found[2] or "").ljust(9, "0"))


@define
class Entry:
    """One entry of a stream.

    Args:
        sequence: Its number in the stream.
        time: When it was added, see `as_mark`.
        payload: The frame's.
    """

    sequence: int
    time: str
    payload: bytes

    def fits(self, mark: str) -> bool:
        """Return whether this may be the entry with that mark: its time, or what its payload is recognized by."""
        if not mark:
            return True
        if mark.startswith("-"):
            return make_mark(self.payload) == mark
        return parse_time(self.time) == parse_time(mark)


def split_entry(message: bytes) -> Entry | None:
    """Return the entry that a message with headers of the server carries; None if it has none of these.

    Args:
        message: Headers and payload.
    """
    usual = _USUAL.match(message)
    if usual is not None:
        sequence, time = usual.groups()
        return Entry(int(sequence), time.replace(b".", b"_").decode(), message[usual.end() :])
    return _split_unusual(message)


def _split_unusual(message: bytes) -> Entry | None:
    """Return the entry of a message whose publisher gave it headers too, or whose server writes them otherwise."""
    end = message.find(b"\r\n\r\n") + 4
    sequence = _SEQUENCE.search(message, 0, end)
    if sequence is None or not message.startswith(b"NATS/1.0"):
        return None
    time = _TIME.search(message, 0, end)
    return Entry(int(sequence[1]), _NO_TIME if time is None else as_mark(time[1].decode()), message[end:])


@frozen
class Place:
    """A place in a stream: behind the entry with this number.

    A number alone does not say that an entry is still the one that it was: a stream that lost its end gives the same
    numbers again, and so does one that somebody deleted and made again.

    Args:
        sequence: The entry's number; 0 is the begin of a stream.
        mark: What the entry is recognized by, see `Entry.fits`; empty: by nothing.
        stream: By which the stream differs from one of the same name that was there before; see `StreamState.tag`.
    """

    sequence: int
    mark: str
    stream: str

    @classmethod
    def parse(cls, cursor: str) -> Self:
        """Return the place of a cursor.

        Raises:
            ValueError: It is none.
        """
        sequence, mark, stream = cursor.split("/")
        if not (_SEQUENCE_TEXT.fullmatch(sequence) and _MARK.fullmatch(mark) and _TAG.fullmatch(stream)):
            raise ValueError("not a cursor of a stream")
        return cls(int(sequence), mark, stream)

    def __str__(self) -> str:
        return f"{self.sequence}/{self.mark}/{self.stream}"


@frozen(kw_only=True)
class StreamState:
    """What the server says of a stream.

    Args:
        first: The number of the first entry that it has, or will have.
        last: That of the last one that was added; 0: none ever was.
        last_time: When that was, see `as_mark`.
        created: When the stream was made, as the server writes it.
    """

    first: int
    last: int
    last_time: str
    created: str

    @classmethod
    def parse(cls, info: Mapping[str, Any]) -> Self:
        """Return what an answer to `STREAM.INFO`, `CREATE` or `UPDATE` says."""
        state = info["state"]
        last = int(state["last_seq"])
        first = int(state["first_seq"])
        has_any = bool(state["messages"])
        return cls(
            first=first if has_any else last + 1,
            last=last,
            last_time=as_mark(str(state.get("last_ts", _NO_TIME))) if has_any else _NO_TIME,
            created=str(info["created"]),
        )

    @property
    def tag(self) -> str:
        """By which this stream differs from another one of its name."""
        return f"{crc32(self.created.encode()):08x}"

    @property
    def end(self) -> Place:
        """The place behind its last entry."""
        return Place(self.last, self.last_time, self.tag)
