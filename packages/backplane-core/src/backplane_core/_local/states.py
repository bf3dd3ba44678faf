"""The state of a backplane, and waiting for one."""

from __future__ import annotations

import asyncio

from attrs import define, field

from backplane_core._runtime.reporter import Reporter
from backplane_core.errors import ClosedError
from backplane_core.observe import State

__all__ = ["States"]


@define(eq=False)
class Wait:
    """One task that waits for a state.

    Args:
        state: The one that it waits for.
        is_over: Set once that state was entered, or never will be.
        was_entered: Which of the two.
    """

    state: State
    is_over: asyncio.Event = field(factory=asyncio.Event, init=False)
    was_entered: bool = field(default=False, init=False)


class States:
    """One state at a time; `closed` is the last.

    Args:
        reporter: Notified of each change.
    """

    def __init__(self, reporter: Reporter) -> None:
        self.now: State = "connecting"
        self._reporter = reporter
        self._is_child = False
        self._waits: list[Wait] = []

    def enter(self, state: State, reason: str) -> None:
        """Report a new state, then change to it and wake the tasks that wait for it; a no-op if it is not new."""
        if state == self.now:
            return
        self._reporter.report_state(state, self.now, reason)
        self.now = state
        for wait in self._waits:
            if wait.state == state:
                wait.was_entered = True
            if wait.was_entered or state == "closed":
                wait.is_over.set()

    def check_open(self) -> None:
        """Return if events and connections are accepted.

        Raises:
            ClosedError: The backplane is draining or closed, or belongs to the parent process.
        """
        if self._is_child:
            raise ClosedError("this backplane belongs to the parent process: open one after the fork")
        if self.now in {"draining", "closed"}:
            raise ClosedError(f"the backplane is {self.now}: it accepts no events and no connections")

    def forked(self) -> None:
        """Become closed in a forked child, silently: the connections and the link belong to the parent."""
        self._is_child = True
        self.now = "closed"

    async def wait_for(self, state: State, timeout_s: float | None) -> None:
        """Return once that state is entered.

        Raises:
            TimeoutError: The state was not entered in time.
            ClosedError: It was not, and never will be.
        """
        if self.now == state:
            return
        if self.now == "closed":
            raise ClosedError("the backplane is closed")
        wait = Wait(state)
        self._waits.append(wait)
        try:
            async with asyncio.timeout(timeout_s):
                await wait.is_over.wait()
        except TimeoutError:
            raise TimeoutError(f"the backplane is {self.now}, not {state}, after {timeout_s} s") from None
        finally:
            self._waits.remove(wait)
        if not wait.was_entered:
            raise ClosedError("the backplane is closed")
