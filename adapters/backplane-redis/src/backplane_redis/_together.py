"""Several questions at once: `all_of`, `both`."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

__all__ = ["all_of", "both"]

T = TypeVar("T")
U = TypeVar("U")


async def all_of(coroutines: Sequence[Coroutine[Any, Any, T]]) -> Sequence[T]:
    """Return what they return once all are done; raise the first error, when none of them runs any longer.

    Raises:
        Exception: The first one.
    """
    if len(coroutines) == 1:  # nearly always
        return [await coroutines[0]]
    failure: BaseException | None = None
    tasks: list[asyncio.Task[T]] = []
    try:
        async with asyncio.TaskGroup() as group:
            tasks += [group.create_task(coroutine) for coroutine in coroutines]
    except* Exception as errors:  # noqa: BLE001 -- raised below, whatever it is
        failure = errors.exceptions[0]
    if failure is not None:
        raise failure
    return [task.result() for task in tasks]


async def both(one: Coroutine[Any, Any, T], other: Coroutine[Any, Any, U]) -> tuple[T, U]:
    """Return what the two return; see `all_of`."""
    results: Sequence[Any] = await all_of([one, other])
    return results[0], results[1]
