"""From a batch of frames to the bytes of one write: `FramePacker`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final

from backplane_core.transport import Frame

__all__ = ["FramePacker"]

MAX_HEADS: Final = 4_096
"""Channels whose head is kept: some 100 bytes each, and a fleet's busy channels are far fewer."""

_LINE_END: Final = b"\r\n"
_LENGTHS: Final = [b"%d\r\n" % size for size in range(4_096)]
"""The lines of usual sizes, 150 KiB once per process."""
_KEPT_LENGTHS: Final = len(_LENGTHS)


class FramePacker(ABC):
    """Packs frames for a protocol of lines that says a payload's length before it and has a line end behind it.

    NATS carries a frame so: `PUB jobs 5`, a line end, `hello`, a line end. The frames of a channel have everything up
    to the length in common. So that is packed once, and a batch is one join over what it is made of: 0.15 µs for a
    frame of 300 bytes, against 0.26 µs for a formatted piece per frame.
    """

    def __init__(self) -> None:
        # By channel, each with the end of the line before it.
        self._heads: dict[str, bytes] = {}

    @abstractmethod
    def head(self, channel: str) -> bytes:
        """Return what each frame on a channel begins with, up to its length, such as `PUB jobs `.

        Args:
            channel: A name as in `Link.subscribe`.
        """

    def pack(self, frames: Sequence[Frame], tail: bytes = b"") -> bytes:
        """Return the bytes of these frames.

        Args:
            frames: In order.
            tail: What follows on them.
        """
        known, lengths = self._heads.get, _LENGTHS
        parts: list[bytes] = []
        add = parts.extend
        for frame in frames:
            payload = frame[1]
            size = len(payload)
            length = lengths[size] if size < _KEPT_LENGTHS else b"%d\r\n" % size
            add((known(frame[0]) or self._new_head(frame[0]), length, payload))
        if not parts:
            return tail
        parts[0] = parts[0].removeprefix(_LINE_END)
        parts += _LINE_END, tail
        return b"".join(parts)

    def _new_head(self, channel: str) -> bytes:
        if len(self._heads) >= MAX_HEADS:
            self._heads.clear()
        head = self._heads[channel] = _LINE_END + self.head(channel)
        return head
