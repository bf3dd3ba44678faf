"""Small helpers for tasks whose end must be known."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, cast

__all__ = ["error_location", "first_leaf", "run_bounded"]


async def run_bounded(coroutine: Coroutine[Any, Any, None], timeout_s: float) -> None:
    """Run a clean-up to its end or its deadline; what it raises matters no more. Cancellation passes through."""
    with suppress(Exception):
        async with asyncio.timeout(timeout_s):
            await coroutine


def first_leaf(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first error of a task group that is not a group itself."""
    error = group.exceptions[0]
    if isinstance(error, BaseExceptionGroup):
        return first_leaf(cast("BaseExceptionGroup[BaseException]", error))
    return error


def error_location(error: BaseException) -> str:
    """Return an error's type and place without its text, which could hold payload: `KeyError at link.py:42`."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"
