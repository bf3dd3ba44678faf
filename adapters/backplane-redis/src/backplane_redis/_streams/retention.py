"""How much a stream keeps: `Retention`."""

from __future__ import annotations

from typing import Any, Final

from attrs import frozen
from backplane_core import ConfigurationError

from backplane_redis._commands import pack_command
from backplane_redis._streams.place import parse_id

__all__ = ["LOOK_EVERY_S", "Retention", "make_retention"]

LOOK_EVERY_S: Final = 5.0
"""How often a writer looks at the size and the age of the streams that it writes to: that is four commands each."""

LEAST_BYTES: Final = 65_536
"""Less would not hold the events of a moment."""

SAMPLES: Final = "5"
"""Nodes that Redis looks at to estimate the size of a stream."""


@frozen(kw_only=True)
class Retention:
    """How much each lane's stream keeps; whichever limit is reached first.

    Redis trims whole nodes of a stream, so that it keeps a little more.

    Args:
        entries: How many entries.
        max_bytes: How many bytes of the server's memory; None: as many as those entries take.
        age_s: How old an entry gets, in seconds of the server's clock; None: any age.
    """

    entries: int
    max_bytes: int | None
    age_s: float | None

    def questions(self, channel: str) -> list[bytes]:
        """Return what to ask of a stream to trim it."""
        return [pack_command("MEMORY", "USAGE", channel, "SAMPLES", SAMPLES), pack_command("XLEN", channel)]

    def trims(self, channel: str, last_id: str, usage: Any, length: Any) -> list[bytes]:  # noqa: ANN401 -- replies
        """Return the commands that trim a stream to its size and age.

        Args:
            channel: The stream's.
            last_id: Of its newest entry, which has the server's time.
            usage: The answer to the first question.
            length: The answer to the second.
        """
        commands: list[bytes] = []
        if self.max_bytes is not None and isinstance(usage, int) and isinstance(length, int) and usage > self.max_bytes:
            keep = max(1, length * self.max_bytes // usage)
            commands.append(pack_command("XTRIM", channel, "MAXLEN", "~", str(keep)))
        oldest_ms = parse_id(last_id)[0] - int((self.age_s or 0) * 1000)
        if self.age_s is not None and oldest_ms > 0:
            commands.append(pack_command("XTRIM", channel, "MINID", "~", str(oldest_ms)))
        return commands


def make_retention(entries: int | str, max_bytes: int | str | None, age_s: float | str | None) -> Retention:
    """Return the retention for these options, each of which may be text.

    Raises:
        ConfigurationError: One is not allowed; says what is.
    """
    try:
        kept = _whole(entries, 1)
        retention = Retention(
            entries=kept,
            max_bytes=None if max_bytes is None else _whole(max_bytes, LEAST_BYTES),
            age_s=None if age_s is None else _seconds(age_s),
        )
    except (TypeError, ValueError):
        pass
    else:
        return retention
    # Out here, where no `__context__` carries what was given.
    raise ConfigurationError(
        f"retain_entries is a whole number of at least 1; retain_bytes a whole number of bytes of at least "
        f"{LEAST_BYTES}, or None; retain_s a number of seconds above 0, or None"
    )


def _whole(value: object, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str) or int(value) < least:
        raise TypeError
    return int(value)


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str) or not 0 < float(value) < float("inf"):
        raise TypeError
    return float(value)
