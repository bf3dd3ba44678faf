"""What the code of several libraries has in common."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any

__all__ = ["WaitingSender", "reading"]


@asynccontextmanager
async def reading(coroutines: Iterable[Coroutine[Any, Any, None]]) -> AsyncGenerator[None]:
    """Run these, a task each, until the body is done; if one ends or fails before, so does the body.

    Raises:
        ExceptionGroup: One of them ended.
    """
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_endless(coroutine)) for coroutine in coroutines]
        yield
        for task in tasks:
            task.cancel()


async def _endless(coroutine: Coroutine[Any, Any, None]) -> None:
    await coroutine
    raise RuntimeError("a receiver's stream ended")


class WaitingSender:
    """A sender whose publish returns once the broker has the event."""

    async def settle(self, _: int, /) -> None:
        """Nothing is left to wait for."""
