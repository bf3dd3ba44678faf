"""Small helpers for supervised tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

__all__ = ["retrieve_error", "run_bounded"]


async def run_bounded(coroutine: Coroutine[Any, Any, None], timeout_s: float) -> None:
    """Run a clean-up to its end or its deadline; what it raises no longer matters. Cancellation passes through."""
    with suppress(Exception):
        async with asyncio.timeout(timeout_s):
            await coroutine


def retrieve_error(future: asyncio.Future[Any]) -> None:
    """Take an error that nobody waits for any longer, so that asyncio does not log it."""
    if not future.cancelled():
        future.exception()
