"""Tasks that wait until what was accepted before is settled: `Flush`, and `Flushes`, which keeps their time."""

from __future__ import annotations

import asyncio

from backplane_core._runtime.waking import Confirmation

__all__ = ["Flush", "Flushes"]


class Flush(Confirmation):
    """What a flush awaits: whether all was settled in time.

    Args:
        behind: Its place; see `Mark`.
        due: When it is too late, in seconds of the loop's clock; set by `Flushes`.
    """

    __slots__ = ("behind", "due")

    behind: int
    due: float

    def set(self, confirmed: bool, /) -> None:  # noqa: FBT001 -- as of any confirmation
        """Confirm or refuse, the first time; its task runs soon: many flush at once, and a task confirms them."""
        if self.value is None:
            self.value = confirmed
            self.wake()


class Flushes:
    """Refuses flushes that are due. They share one timer, which is armed while any has a time limit.

    Publishers that flush behind each event would pay for a timer each time: some 2 µs to make, keep in order and
    cancel it. Of those that flush at once only the first does, as its limit usually is the earliest.
    """

    __slots__ = ("_limited", "_loop", "_timer")

    def __init__(self) -> None:
        # In the order of their calls, as a set has none.
        self._limited: dict[Flush, None] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, flush: Flush, timeout_s: float) -> None:
        """Refuse this one after so many seconds, unless `end` is called before."""
        if self._timer is None or self._loop is None:
            self._loop = asyncio.get_running_loop()
        flush.due = self._loop.time() + timeout_s
        self._limited[flush] = None
        if self._timer is None or flush.due < self._timer.when():
            self._arm(self._loop, flush.due)

    def end(self, flush: Flush) -> None:
        """Forget this one; no timer is left behind when it was the last."""
        self._limited.pop(flush, None)
        if not self._limited and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_at(due, self._refuse, loop, due)

    def _refuse(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        """Refuse those that were due then, and wait for the next."""
        self._timer = None
        for flush in [flush for flush in self._limited if flush.due <= due]:
            del self._limited[flush]
            flush.set(False)
        if self._limited:
            self._arm(loop, min([flush.due for flush in self._limited]))
