"""Keeps streams to their size, by what is asked along with entries: `Upkeep`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import hiredis
from backplane_core import Retention

from backplane_redis._streams.retention import LOOK_EVERY_S, size_questions, trims
from backplane_redis._streams.session import logger

__all__ = ["Upkeep"]


class Upkeep:
    """What a writer asks to keep its streams to their size and age.

    It goes out in the same writes as entries do, questions with one and trims with the next: a round trip of its own
    would hold up the confirmation of a send, which core takes for a broker that confirms nothing.

    Args:
        retention: How much a stream keeps.
        where: The server's address, for people.
        now: The monotonic clock.
    """

    def __init__(self, retention: Retention, where: str, now: float) -> None:
        self._retention = retention
        self._where = where
        self._look_at = now + LOOK_EVERY_S
        self._may_look = True
        # Streams that were written to since somebody looked at their size.
        self._grown: set[str] = set()
        # What the questions that went out last are about.
        self._asked: Sequence[str] = ()
        self._trims: list[bytes] = []

    def added(self, channels: Collection[str]) -> None:
        """Record that there are new entries in these streams."""
        self._grown.update(channels)

    def next(self, now: float) -> Sequence[bytes]:
        """Return what to ask along with the next entries: often nothing."""
        due, self._trims, self._asked = self._trims, [], ()
        if due or now < self._look_at or not self._may_look:
            return due
        self._look_at = now + LOOK_EVERY_S
        self._asked = sorted(self._grown)
        self._grown.clear()
        return [question for channel in self._asked for question in size_questions(channel)]

    def take(self, replies: Sequence[Any], last_ids: Mapping[str, str]) -> None:
        """Take the replies to that.

        Args:
            replies: One for each.
            last_ids: The ids of the last entries, by stream.
        """
        for number, channel in enumerate(self._asked):
            usage, length = replies[2 * number : 2 * number + 2]
            self._trims += trims(self._retention, channel, last_ids[channel], usage, length)
        refused = next((reply for reply in replies if isinstance(reply, hiredis.ReplyError)), None)
        if refused is not None and str(refused).startswith("NOPERM"):
            # Asked once: each refusal stands in the server's ACL LOG.
            self._may_look = False
            self._trims = []
            logger.warning(
                "Redis at %s lets nobody see how large the streams are: retain_bytes and retain_s have no effect; "
                "grant +memory|usage +xlen +xtrim",
                self._where,
            )
