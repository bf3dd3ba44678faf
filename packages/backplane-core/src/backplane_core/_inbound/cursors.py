"""How far this pod has read each log, kept over its links: `Cursors`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from attrs import define, field

from backplane_core.transport import Frame, Lost

__all__ = ["Cursors"]


@define(eq=False)
class Cursors:
    """The places in the logs behind which the next link resumes, on a durable transport.

    The invariant: every entry up to a channel's cursor has reached this pod's sinks, or is in a gap that was reported,
    or was there before this pod began to listen. So a cursor moves once a frame has been handed to all of its sinks,
    never when it is read. What lies behind it comes again with the next link, and copies are dropped by number.

    An example. A pod reads entries 5, 6 and 7 of a channel, and the link dies while 6 is being handed out. 6 reaches
    the rest of its sinks, the cursor is 6, and the next link begins with 7.

    It exists because a link used to begin with what came next: each restart of a broker cost every connection a gap.

    Args:
        places: The cursors, by channel.
    """

    places: dict[str, str] = field(factory=dict[str, str], init=False)

    def began(self, asked: Mapping[str, str], begun: Mapping[str, str]) -> None:
        """Record where a link began to read.

        Args:
            asked: The cursors that it was given.
            begun: Where it began. Frames may have come meanwhile: those have moved their cursors on.
        """
        for channel, cursor in begun.items():
            if self.places.get(channel) == asked.get(channel):
                self.places[channel] = cursor

    def passing(self, batch: Iterable[Frame | Lost]) -> Iterator[Frame | Lost]:
        """Yield a batch; a frame's cursor counts once the next frame is asked for, as it is done with by then."""
        places = self.places
        for frame in batch:
            yield frame
            if type(frame) is tuple and len(frame) == 3:  # noqa: PLR2004 -- channel, payload, cursor
                places[frame[0]] = frame[2]

    def cover(self, channels: Collection[str]) -> bool:
        """Return whether it is known for each of these channels where to resume."""
        return bool(channels) and all(channel in self.places for channel in channels)

    def after(self, channels: Iterable[str]) -> dict[str, str]:
        """Return the cursors of those channels that have one."""
        return {channel: self.places[channel] for channel in channels if channel in self.places}
