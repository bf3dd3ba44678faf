"""Commands as they go over the wire, in RESP: `pack_command`, and `PublishPacker` for those that carry a frame."""

from __future__ import annotations

from backplane_core.sockets import FramePacker

__all__ = ["PublishPacker", "pack_command", "pack_head"]


def pack_command(*words: str | bytes) -> bytes:
    """Return a command in RESP, as it goes over the wire."""
    encoded = [word if isinstance(word, bytes) else word.encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in encoded])


def pack_head(*words: str | bytes) -> bytes:
    """Return a command of these words and one more, up to the length of that."""
    whole = pack_command(*words, b"")
    return whole.removesuffix(b"0\r\n\r\n")


class PublishPacker(FramePacker):
    """Packs frames as commands of their own.

    Args:
        command: PUBLISH or SPUBLISH.
    """

    def __init__(self, command: str) -> None:
        super().__init__()
        self._command = command

    def head(self, channel: str) -> bytes:
        """Return the command up to the payload's length."""
        return pack_head(self._command, channel)
