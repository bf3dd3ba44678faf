"""What a worker is, and how it talks with the process that measures: `say`, `next_word`, `heard`."""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from attrs import frozen

__all__ = ["Worker", "cpu_s", "heard", "next_word", "say"]


@frozen
class Worker:
    """The parts that a module's processes take."""

    job: type[Any]  # the type of what they need to know
    roles: Mapping[str, Callable[[Any], Coroutine[Any, Any, None]]]  # by name: what runs with the job


def say(state: str, **what: Any) -> None:  # noqa: ANN401 -- JSON
    """Report the state of this process to the measuring one."""
    print(json.dumps({"state": state, **what}), flush=True)


async def next_word() -> str:
    """Return the next word of the measuring process."""
    # A thread that sits in read() takes no processor time from what is measured.
    line: str = await asyncio.to_thread(sys.stdin.readline)
    if not line:
        raise SystemExit("the measuring process is gone")
    return line.strip()


async def heard(word: str) -> None:
    """Wait until the measuring process says this word."""
    if (said := await next_word()) != word:
        raise SystemExit(f"expected {word!r}, heard {said!r}")


def cpu_s() -> float:
    """Return the processor time of this process so far, in seconds."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
