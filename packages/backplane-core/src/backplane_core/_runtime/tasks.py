"""Small helpers for supervised tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

__all__ = ["retrieve_error", "run_bounded"]


async def run_bounded(coroutine: Coroutine[Any, Any, None], timeout_s: float) -> None:
    """Run a clean-up to its end or its deadline; what it raises no longer matters.

    A pod is often closed in the very moment in which its link dies, so a clean-up is cancelled while it runs. It may be
    another's, who writes the socket's end behind an await: it must not be stopped there, as nobody closes that socket
    later.

    Args:
        coroutine: The clean-up.
        timeout_s: How long it may take, in seconds; it is cancelled then.

    Cancellation: the clean-up goes on to its end or its deadline, and then the cancellation is raised.
    """
    cleaning = asyncio.create_task(_end_in_time(coroutine, timeout_s), name="backplane-clean-up")
    cancelled: asyncio.CancelledError | None = None
    while not cleaning.done():
        try:
            await asyncio.wait({cleaning})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


async def _end_in_time(coroutine: Coroutine[Any, Any, None], timeout_s: float) -> None:
    with suppress(Exception):
        async with asyncio.timeout(timeout_s):
            await coroutine


def retrieve_error(future: asyncio.Future[Any]) -> None:
    """Take an error that nobody waits for any longer, so that asyncio does not log it."""
    if not future.cancelled():
        future.exception()
