"""Commands as they go over the wire, in RESP: `pack_command`, and `pack_head` for those that carry a frame."""

from __future__ import annotations

from typing import Final

__all__ = ["MAX_HEADS", "pack_command", "pack_head"]

MAX_HEADS: Final = 4096
"""Channels whose packed PUBLISH is kept: some 100 bytes each, and a fleet's busy channels are far fewer."""


def pack_command(*words: str | bytes) -> bytes:
    """Return a command in RESP, as it goes over the wire."""
    encoded = [word if isinstance(word, bytes) else word.encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in encoded])


def pack_head(command: str, channel: str) -> bytes:
    """Return what each command begins with that publishes on this channel, up to the payload's length."""
    return b"*3" + pack_command(command, channel)[2:] + b"$"
