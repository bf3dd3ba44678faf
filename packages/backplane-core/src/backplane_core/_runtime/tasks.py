"""Small helpers for supervised tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

__all__ = ["run_bounded"]


async def run_bounded(coroutine: Coroutine[Any, Any, None], timeout_s: float) -> None:
    """Run a clean-up to its end or its deadline; what it raises no longer matters. Cancellation passes through."""
    with suppress(Exception):
        async with asyncio.timeout(timeout_s):
            await coroutine
