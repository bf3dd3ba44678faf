"""The logs of a broker in memory: `Logs`."""

from __future__ import annotations

from attrs import define, field, frozen

from backplane_core.transport import Frame

__all__ = ["Log", "Logs", "Place"]


@frozen
class Entry:
    """One entry of a log.

    Args:
        id: Unique among all entries of the broker, and larger than all before it, whatever the logs forgot.
        payload: The frame's.
    """

    id: int
    payload: bytes


@define(eq=False)
class Log:
    """The log of one channel.

    Args:
        entries: What it still has.
        added: How many it ever had, less those that it forgot.
        last_id: Of the last entry that it had.
    """

    entries: list[Entry] = field(factory=list[Entry])
    added: int = 0
    last_id: int = 0

    @property
    def gone(self) -> int:
        """How many entries were trimmed from its beginning."""
        return self.added - len(self.entries)

    def has(self, place: Place) -> bool:
        """Return whether it has the entry of a place."""
        index = place.number - self.gone - 1
        return 0 <= index < len(self.entries) and self.entries[index].id == place.id

    def knows(self, place: Place) -> bool:
        """Return whether a place is in it, or was before its beginning was trimmed."""
        return 0 <= place.number <= self.gone or self.has(place)

    def page(self, begin: int, end: int) -> list[tuple[bytes, str]]:
        """Return the payloads and cursors of the entries behind the `begin`th, up to the `end`th, that it still has."""
        first = max(begin, self.gone)
        entries = self.entries[first - self.gone : max(0, end - self.gone)]
        return [(entry.payload, str(Place(first + place, entry.id))) for place, entry in enumerate(entries, 1)]


@frozen
class Place:
    """A place in a log: behind the entry that was its `number`th, with that id."""

    number: int
    id: int

    @classmethod
    def parse(cls, cursor: str) -> Place:
        """Return the place of a cursor.

        Raises:
            ValueError: It is none.
        """
        number, _, id_ = cursor.partition("-")
        return cls(int(number), int(id_))

    def __str__(self) -> str:
        return f"{self.number}-{self.id}"


@define(eq=False)
class Logs:
    """The logs of one broker, by channel.

    Args:
        by_channel: The logs.
        held: Channels that no link may read now.
        loses_confirmations: Whether links die before they learn of what they added.
        last_id: Of the last entry of all.
    """

    by_channel: dict[str, Log] = field(factory=dict[str, Log])
    held: set[str] = field(factory=set[str])
    loses_confirmations: bool = False
    last_id: int = 0

    def get(self, channel: str) -> Log:
        """Return the log of a channel, which begins with its first use."""
        return self.by_channel.setdefault(channel, Log())

    def add(self, frame: Frame) -> str:
        """Add a frame to its log, and return its cursor."""
        log = self.get(frame[0])
        self.last_id += 1
        log.entries.append(Entry(self.last_id, frame[1]))
        log.added += 1
        log.last_id = self.last_id
        return str(Place(log.added, self.last_id))
