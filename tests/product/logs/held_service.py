"""The service of `tests.product.asgi.service`, with `/held`: the longest that its loop was held, in milliseconds."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from attrs import define
from backplane_asgi import Receive, Scope, Send

from tests.product.asgi.service import app as service

__all__ = ["app"]

TICK_S: Final = 0.001


@define
class LoopWatch:
    """Measures turns of the loop, from one tick to the next.

    Args:
        processor_s: The longest, in the thread's processor time, which no other process lengthens.
        clock_s: The longest by the clock.
    """

    processor_s: float = 0.0
    clock_s: float = 0.0
    is_running: bool = False

    async def run(self) -> None:
        self.is_running = True
        while True:
            processor, clock = time.thread_time(), time.monotonic()
            await asyncio.sleep(TICK_S)
            self.processor_s = max(self.processor_s, time.thread_time() - processor)
            self.clock_s = max(self.clock_s, time.monotonic() - clock)

    def take(self) -> str:
        """Return what was the longest since it was asked last."""
        text = f"{1e3 * self.processor_s:.1f} {1e3 * self.clock_s:.1f}"
        self.processor_s = self.clock_s = 0.0
        return text


WATCH: Final = LoopWatch()
tasks: Final = set[asyncio.Task[None]]()


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if not WATCH.is_running:
        WATCH.is_running = True
        tasks.add(asyncio.create_task(WATCH.run()))
    if scope.get("path") != "/held":
        await service(scope, receive, send)
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": WATCH.take().encode()})
