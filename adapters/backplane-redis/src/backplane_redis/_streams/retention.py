"""The commands that keep a stream to its size and age: `size_questions`, `trims`.

Redis trims whole nodes of a stream, so that it keeps a little more.
"""

from __future__ import annotations

from typing import Any, Final

from backplane_core import Retention

from backplane_redis._commands import pack_command
from backplane_redis._streams.place import parse_id

__all__ = ["LOOK_EVERY_S", "size_questions", "trims"]

LOOK_EVERY_S: Final = 5.0
"""How often a writer looks at the size and the age of the streams that it writes to: that is four commands each."""

SAMPLES: Final = "5"
"""Nodes that Redis looks at to estimate the size of a stream."""


def size_questions(channel: str) -> list[bytes]:
    """Return what to ask of a stream to trim it."""
    return [pack_command("MEMORY", "USAGE", channel, "SAMPLES", SAMPLES), pack_command("XLEN", channel)]


def trims(limits: Retention, channel: str, last_id: str, usage: Any, length: Any) -> list[bytes]:  # noqa: ANN401 -- replies
    """Return the commands that trim a stream to its size and age.

    Args:
        limits: The size and the age.
        channel: The stream's.
        last_id: Of its newest entry, which has the server's time.
        usage: The answer to the first question.
        length: The answer to the second.
    """
    commands: list[bytes] = []
    if limits.max_bytes is not None and isinstance(usage, int) and isinstance(length, int) and usage > limits.max_bytes:
        keep = max(1, length * limits.max_bytes // usage)
        commands.append(pack_command("XTRIM", channel, "MAXLEN", "~", str(keep)))
    oldest_ms = parse_id(last_id)[0] - int((limits.age_s or 0) * 1000)
    if limits.age_s is not None and oldest_ms > 0:
        commands.append(pack_command("XTRIM", channel, "MINID", "~", str(oldest_ms)))
    return commands
