"""Reads what is in the logs already, over the link that there is: `LogPages`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from backplane_core._log.repeats import LogRepeats
from backplane_core._protocol.frame import Head, read_head
from backplane_core._protocol.signing import SignatureError, Signer
from backplane_core.errors import EnvelopeError, TransportError
from backplane_core.transport import DurableLink, Frame, Lost

__all__ = ["Entry", "LogPages"]

PAGE_BYTES: Final = 1024 * 1024
"""About what one page brings at most: nothing else goes over the link meanwhile."""
MAX_PAGE: Final = 512
MIN_PAGE: Final = 8

Entry = tuple[str, Head | None]
"""A cursor, and what is there; None: nothing that any pod of this fleet wrote."""


class LogPages:
    """Reads pages of logs, and from their entries the heads.

    Args:
        signer: Verifies what comes in; None: it is taken as it is.
        repeats: Knows events that are in a log more than once.
        max_frame_bytes: Larger frames are passed over.
        concurrency: Readers at a time.
    """

    def __init__(self, signer: Signer | None, repeats: LogRepeats, max_frame_bytes: int, concurrency: int) -> None:
        self.turns = asyncio.Semaphore(concurrency)
        """Held by those who read."""
        self.repeats = repeats
        self._signer = signer
        self._max_frame_bytes = max_frame_bytes
        self._link: DurableLink | None = None
        self._opened = asyncio.Event()
        self._limit = MIN_PAGE * 8

    @property
    def is_open(self) -> bool:
        """Whether there is a link that can be asked."""
        return self._link is not None

    def opened(self, link: DurableLink) -> None:
        """Record that a link can be asked."""
        self._link = link
        self._opened.set()

    def lost(self) -> None:
        """Record that the link is gone."""
        self._link = None
        self._opened.clear()

    async def wait(self) -> None:
        """Return once a link can be asked."""
        await self._opened.wait()

    async def read(
        self, channel: str, *, after: str | None = None, before: str | None = None
    ) -> tuple[Lost | None, list[Entry]]:
        """Return a page: what is gone before it, and its entries.

        Raises:
            TransportError: There is no link, or it is dead.
        """
        link = self._link
        if link is None:
            raise TransportError("there is no link to read the log over")
        page = await link.read(channel, self._limit, after=after, before=before)
        lost = page[0] if page and isinstance(page[0], Lost) else None
        frames = [item for item in page if not isinstance(item, Lost)]
        self._adapt(frames)
        return lost, [(frame[2], self._head(channel, frame[1])) for frame in frames if len(frame) == 3]  # noqa: PLR2004

    def _adapt(self, frames: Sequence[Frame]) -> None:
        if frames:
            size = sum([len(frame[1]) for frame in frames])
            self._limit = min(MAX_PAGE, max(MIN_PAGE, min(2 * self._limit, PAGE_BYTES * len(frames) // max(1, size))))

    def _head(self, channel: str, payload: bytes) -> Head | None:
        if len(payload) > self._max_frame_bytes:
            return None
        try:
            # However old it is: the log has it.
            plain = payload if self._signer is None else self._signer.verify(channel, payload, is_old=True)
            return self.repeats.seen(read_head(plain))
        except (EnvelopeError, SignatureError):
            return None
