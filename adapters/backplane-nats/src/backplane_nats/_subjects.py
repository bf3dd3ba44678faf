"""A channel's name on NATS: `to_subject`."""

from __future__ import annotations

import re
from typing import Final

from backplane_core import ConfigurationError

__all__ = ["to_subject"]

_CHANNEL: Final = re.compile(r"[A-Za-z0-9_@=-]+(?::[A-Za-z0-9_@=-]+)*", re.ASCII)


def to_subject(channel: str) -> str:
    """Return the NATS subject of a channel: `a:b` becomes `a.b`; no channel becomes a wildcard.

    Raises:
        ConfigurationError: The name holds a character that a subject must not hold.
    """
    if not _CHANNEL.fullmatch(channel):
        raise ConfigurationError(f"a channel is made of [A-Za-z0-9_@=-] separated by ':', not {channel[:64]!r}")
    return channel.replace(":", ".")
