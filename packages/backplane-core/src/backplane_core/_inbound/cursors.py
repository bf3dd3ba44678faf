"""How far this pod has read each log, kept over its links: `Cursors`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from attrs import define, field

from backplane_core._log.mirror import Mirror
from backplane_core._protocol.own_frames import OwnFrames
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
        own: How this pod's own frames are recognized.
        head_bytes: The size of what stands before a frame that is signed.
        mirror: Keeps what passes; None: this pod has no connections.
        places: The cursors, by channel.
    """

    own: OwnFrames
    head_bytes: int = 0
    mirror: Mirror | None = None
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
                if self.mirror is not None:
                    self.mirror.began(channel, cursor)

    def passing(self, batch: Iterable[Frame | Lost]) -> Iterator[Frame | Lost]:
        """Yield a batch; a frame's cursor counts once the next frame is asked for, as it is done with by then."""
        places, mirror = self.places, self.mirror
        for frame in batch:
            if type(frame) is not tuple or len(frame) != 3:  # noqa: PLR2004 -- channel, payload, cursor
                yield frame
                continue
            channel, payload, cursor = frame
            if mirror is None:
                yield frame
                places[channel] = cursor
                continue
            mirror.cursor = cursor
            yield frame
            if payload.startswith(self.own.prefix, self.head_bytes):
                mirror.echo(channel, payload[self.head_bytes :])
            places[channel] = cursor
            mirror.passed(channel, cursor)

    def cover(self, channels: Collection[str]) -> bool:
        """Return whether it is known for each of these channels where to resume."""
        return bool(channels) and all(channel in self.places for channel in channels)

    def after(self, channels: Iterable[str]) -> dict[str, str]:
        """Return the cursors of those channels that have one."""
        return {channel: self.places[channel] for channel in channels if channel in self.places}
