"""How large a message a server takes, as far as it says so: `Limits`."""

from __future__ import annotations

from typing import Any, Final

import hiredis
from attrs import evolve
from backplane_core import Traits

from backplane_redis._connection import LinkConnection

__all__ = ["LEAST_BYTES", "MAX_PAYLOAD_BYTES", "Limits", "with_limit"]

MAX_PAYLOAD_BYTES: Final = 512 * 1024 * 1024
"""Redis' proto-max-bulk-len, unless its operator changed it."""

LEAST_BYTES: Final = 1_000_000
"""Neither option can be below 1 MiB, so a link that died with less on its way did not die of its size."""

COMMAND_BYTES: Final = 1_024
"""What a request holds besides its payload: the command, the channel, lengths."""

_OPTIONS: Final = ("proto-max-bulk-len", "client-query-buffer-limit")


class Limits:
    """What one transport knows of its server's limits. A server states none at the start, so they are learned.

    An error reply names the frame that was too large, and sometimes the limit. Where the server just hangs up on a
    large frame, the next link asks CONFIG once: not earlier, since few users may, and each refusal stands in ACL LOG.
    """

    def __init__(self) -> None:
        self.max_payload_bytes: int = MAX_PAYLOAD_BYTES
        """The largest payload that was not refused yet."""
        self._is_due = False
        self._was_asked = False

    def refused(self, size: int, max_request_bytes: int | None) -> None:
        """Record that a frame was refused for its size.

        Args:
            size: Its payload's, in bytes.
            max_request_bytes: The limit that the server stated for a whole request; None: none.
        """
        self._lower(size - 1)
        if max_request_bytes is not None:
            self._lower(max_request_bytes - COMMAND_BYTES)

    def died(self, largest: int) -> None:
        """Record that the server hung up with frames on their way, the largest of which had so many bytes."""
        if largest >= LEAST_BYTES and not self._was_asked:
            self._is_due = True

    async def ask(self, connection: LinkConnection) -> None:
        """Ask a server for its limits, if a link may have died of them. One that refuses to say is not asked again.

        Raises:
            RedisError: It closed the connection.
        """
        if not self._is_due:
            return
        self._is_due, self._was_asked = False, True
        for option in _OPTIONS:
            reply = await connection.ask("CONFIG", "GET", option)
            if isinstance(reply, hiredis.ReplyError):
                return
            limit = _value(reply)
            if limit:
                self._lower(limit - COMMAND_BYTES)

    def _lower(self, limit: int) -> None:
        self.max_payload_bytes = max(1, min(self.max_payload_bytes, limit))


def with_limit(traits: Traits, limits: Limits) -> Traits:
    """Return a transport's traits with the limit that is known now: the same ones, as long as it is theirs."""
    if traits.max_payload_bytes == limits.max_payload_bytes:
        return traits
    return evolve(traits, max_payload_bytes=limits.max_payload_bytes)


def _value(reply: Any) -> int | None:  # noqa: ANN401 -- whatever Redis sends
    values: list[object] = [*reply.values()] if isinstance(reply, dict) else [*reply][1:2]
    found = values[0] if values else None
    text = found.decode() if isinstance(found, bytes) else str(found)
    return int(text) if text.isdecimal() else None
