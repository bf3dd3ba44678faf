"""Where a reader is in a stream, and what became of that place, sans-IO: `Place`, `StreamInfo`."""

from __future__ import annotations

from typing import Any, Final, Self, cast

from attrs import frozen
from backplane_core import Lost

__all__ = ["GREATEST", "MAX_ID_PART", "ZERO", "Id", "Place", "StreamInfo", "format_id", "parse_id"]

Id = tuple[int, int]
"""An entry's id: milliseconds and a number."""

ZERO: Final[Id] = (0, 0)
"""Before all entries: where the reader of an empty stream begins."""

MAX_ID_PART: Final = 2**64 - 1
"""The largest number in an id."""

GREATEST: Final[Id] = (MAX_ID_PART, MAX_ID_PART)


def parse_id(text: bytes | str) -> Id:
    """Return an id as two numbers, which compare as Redis compares ids."""
    plain = text.decode() if isinstance(text, bytes) else text
    first, _, second = plain.partition("-")
    return int(first), int(second or 0)


def format_id(id_: Id) -> str:
    """Return an id as Redis writes it."""
    return f"{id_[0]}-{id_[1]}"


@frozen
class Place:
    """A place in a stream: behind the entry with this id, which was its `number`th.

    Redis counts what was ever added to a stream (`entries-added`), so the number says how many are gone that were not
    read. An id alone does not.

    Args:
        id: The entry's.
        number: How many entries were added up to it.
    """

    id: Id
    number: int

    @classmethod
    def parse(cls, cursor: str) -> Self:
        """Return the place of a cursor."""
        id_, _, number = cursor.partition("/")
        return cls(parse_id(id_), int(number or 0))

    def __str__(self) -> str:
        return f"{format_id(self.id)}/{self.number}"

    @property
    def redis_id(self) -> str:
        """The id as Redis writes it."""
        return format_id(self.id)


@frozen(kw_only=True)
class StreamInfo:
    """What `XINFO STREAM` says of a stream; of one that is not there, that it never had an entry.

    Args:
        added: How many entries were ever added.
        length: How many it has.
        last_id: The id of the last one that was added.
        first_id: The id of the first one that it has; None: it has none.
    """

    added: int = 0
    length: int = 0
    last_id: Id = ZERO
    first_id: Id | None = None

    @classmethod
    def parse(cls, reply: Any) -> Self | None:  # noqa: ANN401 -- whatever Redis sends
        """Return what the reply says; None if it is of a server that does not count what is added."""
        if isinstance(reply, list):
            flat = cast("list[object]", reply)
            fields: dict[Any, Any] = dict(zip(flat[::2], flat[1::2], strict=False))
        else:
            fields = reply
        if b"entries-added" not in fields:
            return None
        return cls(
            added=fields[b"entries-added"],
            length=fields[b"length"],
            last_id=parse_id(fields[b"last-generated-id"]),
            first_id=parse_id(first[0]) if (first := fields.get(b"first-entry")) else None,
        )

    @property
    def gone(self) -> int:
        """How many of its entries are not there any longer."""
        return self.added - self.length

    @property
    def end(self) -> Place:
        """The place behind its last entry."""
        return Place(self.last_id, self.added)

    def went_back(self, place: Place, *, is_there: bool) -> bool:
        """Return whether the stream has fewer entries than it had, or others, so that the place is not in it.

        A place may be there in a stream that was deleted: somebody wrote to it again, and the reader read that. Its
        number tells.

        Args:
            place: Where a reader was.
            is_there: Whether the entry of this place was there, a moment before this was asked.
        """
        if is_there:
            return place.number > self.added
        return place.number > self.gone or place.id > self.last_id

    def trimmed(self, channel: str, place: Place) -> Lost | None:
        """Return what was trimmed before it was read; None: nothing was."""
        missed = self.gone - place.number
        if missed <= 0:
            return None
        reason = f"the stream was trimmed: {missed} entries were gone before this pod read them"
        return Lost(channel, reason, missed, cause="trimmed")
