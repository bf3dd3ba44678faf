"""The links that a move has open, each of which is closed once: `OpenLinks`."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Final

from backplane_core._link.handover_options import HandoverOptions
from backplane_core._link.next_link import NextLink
from backplane_core._link.proof import check_link
from backplane_core._runtime.faults import log_fault
from backplane_core._runtime.logging import logger
from backplane_core._runtime.tasks import run_bounded
from backplane_core.errors import ConfigurationError, TransportError
from backplane_core.transport import Link

__all__ = ["OpenLinks"]

CLOSE_S: Final = 1.0
"""A broker that leaves, or is frozen, must not hold up the move."""


class OpenLinks:
    """Opens the links that are moved to, and leaves none of them open.

    Args:
        link: The first link.
        moving: What a move needs.
    """

    def __init__(self, link: Link, moving: HandoverOptions) -> None:
        self._moving = moving
        self._open: dict[Link, NextLink | None] = {link: None}
        self._closing: set[asyncio.Task[None]] = set()

    async def open_next(self) -> Link | None:
        """Return a new link, which `add` must be given next; None if there is none now."""
        try:
            async with asyncio.timeout(self._moving.patience.timeout_s):
                link = await self._moving.transport.open()
        except (TransportError, TimeoutError):
            return None  # if the old link dies in the meantime, that is reported as usual
        except Exception as error:  # noqa: BLE001 -- as the supervisor does
            log_fault("the transport failed", error)
            return None
        try:
            check_link(self._moving.transport.traits, link)
        except ConfigurationError as error:
            logger.error("can't move: %s", error)
            await run_bounded(link.aclose(), CLOSE_S)
            return None
        return link

    def add(self, next_link: NextLink) -> None:
        """Own a link that is read from now on."""
        self._open[next_link.link] = next_link

    async def close(self, link: Link) -> None:
        """Close one of the links."""
        del self._open[link]
        closing = asyncio.create_task(run_bounded(link.aclose(), CLOSE_S))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
        await asyncio.shield(closing)  # it is called once: if this is cancelled, `aclose` waits for it

    async def aclose(self) -> None:
        """Close all of them, each even if this is cancelled while closing another."""
        async with AsyncExitStack() as stack:
            if self._closing:
                stack.push_async_callback(asyncio.wait, [*self._closing])
            for link, next_link in self._open.items():
                stack.push_async_callback(run_bounded, link.aclose(), CLOSE_S)
                if next_link is not None:
                    stack.push_async_callback(next_link.stop)
