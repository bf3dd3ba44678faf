"""The backplane's state, and who waits for one."""

from __future__ import annotations

import asyncio

from backplane_core._runtime.reporter import Reporter
from backplane_core.errors import ClosedError
from backplane_core.observe import State

__all__ = ["States"]


class States:
    """One state at a time; `closed` is the last.

    Args:
        reporter: Gets each change.
    """

    def __init__(self, reporter: Reporter) -> None:
        self.now: State = "connecting"
        self._reporter = reporter
        self._is_child = False
        self._waiting: list[tuple[State, asyncio.Future[None]]] = []

    def enter(self, state: State, reason: str) -> None:
        """Report a new state, then change to it and wake those who wait for it; a no-op in that state already."""
        if state == self.now:
            return
        self._reporter.report_state(state, self.now, reason)
        self.now = state
        for wanted, waiter in self._waiting:
            if waiter.done():
                continue
            if wanted == state:
                waiter.set_result(None)
            elif state == "closed":
                waiter.set_exception(ClosedError("the backplane is closed"))

    def check_open(self) -> None:
        """Return if events and connections are taken.

        Raises:
            ClosedError: The backplane is draining or closed, or it is the parent process's.
        """
        if self._is_child:
            raise ClosedError("this backplane belongs to the parent process: open one after the fork")
        if self.now in {"draining", "closed"}:
            raise ClosedError(f"the backplane is {self.now}: it takes no events and no connections")

    def forked(self) -> None:
        """Be closed in a forked child, without a word to anyone: the connections and the link are the parent's."""
        self._is_child = True
        self.now = "closed"

    async def wait_for(self, state: State, timeout_s: float | None) -> None:
        """Return once that state is entered.

        Raises:
            TimeoutError: It is not in time.
            ClosedError: It never will be.
        """
        if self.now == state:
            return
        if self.now == "closed":
            raise ClosedError("the backplane is closed")
        entry = (state, asyncio.get_running_loop().create_future())
        self._waiting.append(entry)
        try:
            async with asyncio.timeout(timeout_s):
                await entry[1]
        except TimeoutError:
            raise TimeoutError(f"the backplane is {self.now}, not {state}, after {timeout_s} s") from None
        finally:
            self._waiting.remove(entry)
