"""Bytes from Redis, parsed into replies: `ReplyParser`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any, Final

import hiredis

__all__ = ["SLICE_BYTES", "ReplyParser"]

SLICE_BYTES: Final = 16 * 1024
"""What hiredis gets at once. After each KiB of replies it moves everything behind them to the front of its buffer, so
with a whole read of 256 KiB it would spend two thirds of its time on that."""

_NO_MORE: Final = object()
"""What hiredis returns when no whole reply is left. An object of our own: False and None are values of RESP3."""


class ReplyParser:
    """Parses what one connection brings, as far as it is taken: what follows the last reply taken is not looked at."""

    def __init__(self) -> None:
        reader = hiredis.Reader(notEnoughData=_NO_MORE)
        self._feed = reader.feed
        self._next_reply = reader.gets

    def parse(self, data: bytes) -> Iterator[Any]:
        """Return the replies that are complete with these bytes. Take all of them before the next call.

        Raises:
            ProtocolError: On iteration: the bytes are no RESP.
        """
        if len(data) <= SLICE_BYTES:
            return self._parse_slice(data, 0)
        return chain.from_iterable(self._parse_slice(data, start) for start in range(0, len(data), SLICE_BYTES))

    def _parse_slice(self, data: bytes, start: int) -> Iterator[Any]:
        self._feed(data, start, min(SLICE_BYTES, len(data) - start))
        return iter(self._next_reply, _NO_MORE)
