"""Blocking calls, such as reading a certificate, in a thread; at the end of the interpreter in place: `off_loop`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

__all__ = ["off_loop"]

T = TypeVar("T")


async def off_loop(section: Callable[[], T]) -> T:
    """Run a section that may block in a thread, and return what it returns.

    Once the interpreter is ending it starts no thread. A link that is opened then, to send what a script has published
    last, may block the loop: nothing else waits for it. So the section runs in place.

    Args:
        section: What may block.

    Returns:
        What it returns.

    Raises:
        Exception: Whatever the section raises.

    Cancellation: the section runs to its end; its outcome is lost.
    """
    try:
        return await asyncio.to_thread(section)
    except RuntimeError as error:
        if "shutdown" not in str(error):  # of the interpreter, or of the loop's threads
            raise
    return section()
