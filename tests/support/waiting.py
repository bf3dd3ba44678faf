"""Wait for a condition, and fail with what was waited for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

__all__ = ["DEADLINE_S", "until", "wait_until"]

DEADLINE_S: Final = 30.0
"""What is waited for takes milliseconds, or a second where a process starts; the rest is for a starved machine."""

TICK_S: Final = 0.002


async def until(
    condition: Callable[[], object], what: str, deadline_s: float = DEADLINE_S, every_s: float = TICK_S
) -> None:
    """Return once the condition holds; fail with what was waited for. A look that takes long is taken less often."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + deadline_s
    while not condition():
        if clock() > deadline:
            raise AssertionError(f"not within {deadline_s:g} s: {what}")
        # Deliveries come from sockets: there is nothing to await but the loop itself.
        await asyncio.sleep(every_s)


def wait_until(condition: Callable[[], object], otherwise: Callable[[], str], deadline_s: float = DEADLINE_S) -> None:
    """Do the same without a loop, for what other processes do; `otherwise` says how things stand at the deadline."""
    deadline = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {deadline_s:g} s: {otherwise()}")
        time.sleep(TICK_S)
