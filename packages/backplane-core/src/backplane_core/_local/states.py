"""The backplane's state, and who waits for one."""

from __future__ import annotations

import asyncio

from backplane_core.errors import ClosedError
from backplane_core.observe import State

__all__ = ["States"]


class States:
    """One state at a time; `closed` is the last."""

    def __init__(self) -> None:
        self.now: State = "connecting"
        self._waiting: list[tuple[State, asyncio.Future[None]]] = []

    def enter(self, state: State) -> State:
        """Change the state, wake who waits for it, and return the one before."""
        previous, self.now = self.now, state
        for wanted, waiter in self._waiting:
            if waiter.done():
                continue
            if wanted == state:
                waiter.set_result(None)
            elif state == "closed":
                waiter.set_exception(ClosedError("the backplane is closed"))
        return previous

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
