"""What an error reply to a command of a live link is about: one channel or frame, or the whole link: `judge`."""

from __future__ import annotations

import re
from typing import Final

from attrs import frozen

__all__ = ["Verdict", "grants", "is_about_size", "is_lacking_command", "judge", "root_of"]

PUBLISHES: Final = frozenset(("PUBLISH", "SPUBLISH"))
SUBSCRIBES: Final = frozenset(("SUBSCRIBE", "SSUBSCRIBE"))

_CHANNEL: Final = re.compile(r"NOPERM\b.*\baccess (?:a|one of the) channel", re.IGNORECASE)
"""Redis 6 speaks of one of the channels used as arguments, 7 and later of a channel."""
_TOO_LONG: Final = re.compile(r"(?:ERR )?Protocol error: invalid bulk length")
_MAX_REQUEST: Final = re.compile(r"ERR max request size exceeded(?:.*?\bLimit: (\d{1,12}) bytes)?")
_UNKNOWN: Final = re.compile(r"ERR unknown command", re.IGNORECASE)


@frozen(kw_only=True)
class Verdict:
    """A refusal of one operand of a command.

    Args:
        said: The broker's reason: its own words where they can hold no payload, otherwise its code.
        is_denied: Whether the user lacks a permission for the channel.
        ends_link: Whether the server closes the connection behind this reply.
        max_bytes: The limit that the reply states for a whole request; None: it states none.
        is_size: Whether every frame of that size is refused.
    """

    said: str
    is_denied: bool = False
    ends_link: bool = False
    max_bytes: int | None = None
    is_size: bool = False


def judge(command: str, text: str) -> Verdict | None:
    """Return what an error reply says of one operand; None: it is about the whole link.

    Args:
        command: What was sent.
        text: The reply. It is not shown but for words that stand here: a server may quote what it was sent.
    """
    if command in PUBLISHES | SUBSCRIBES and _CHANNEL.match(text):
        return Verdict(said="NOPERM", is_denied=True)
    if command not in PUBLISHES:
        return None
    if _TOO_LONG.match(text):
        said = "Protocol error: invalid bulk length, which proto-max-bulk-len limits"
        return Verdict(said=said, ends_link=True, is_size=True)
    if found := _MAX_REQUEST.match(text):
        limit = None if found[1] is None else int(found[1])
        said = "ERR max request size exceeded" + ("" if limit is None else f", the limit is {limit} bytes")
        return Verdict(said=said, max_bytes=limit, is_size=True)
    if text.startswith("ERR ") and not _UNKNOWN.match(text):
        return Verdict(said="ERR")
    return None


def is_about_size(text: str) -> bool:
    """Return whether an error reply says that a message is too large."""
    return bool(_TOO_LONG.match(text) or _MAX_REQUEST.match(text))


def is_lacking_command(text: str) -> bool:
    """Return whether an error reply says that the user may not send a command, whatever its channel is."""
    return text.startswith("NOPERM") and not _CHANNEL.match(text)


def grants(channel: str) -> str:
    """Return the channel patterns that a user needs for this channel and all others of its fleet."""
    root = root_of(channel)
    return f"&{root} and &{root}:*"


def root_of(channel: str) -> str:
    """Return the name that all channels of a fleet begin with."""
    return channel.partition(":@")[0]
