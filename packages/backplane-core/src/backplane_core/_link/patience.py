"""How long an answer of the broker may take, of which only the time counts that this pod had for it: `Patience`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Final, TypeVar

from attrs import define, field, frozen

from backplane_core._link.proof import LinkProof
from backplane_core._runtime.system import System
from backplane_core.errors import TransportError

__all__ = ["Patience"]

LOOKS: Final = 8
"""Looks at the clock within one timeout. The answer may take an eighth longer."""

T = TypeVar("T")


@frozen
class Patience:
    """Waits for answers of the broker, for each so long as the broker may take.

    A loop that is held by the host, and a reader that is busy with what stands in front of the answer, are this pod's
    own lateness: the answer may be here, and nobody has looked at it yet. A host that held the loop for longer than
    the timeout, while a subscription was asked for, lost a good link and everything that came meanwhile.

    Args:
        timeout_s: How long the broker may take.
        proof: Knows whether the reader is at work.
        system: The clock.
    """

    timeout_s: float
    proof: LinkProof
    system: System

    async def wait(self, answer: Awaitable[T], what: str = "does not answer") -> T:
        """Return the answer.

        Args:
            answer: What is waited for.
            what: What the broker fails to do if it does not come.

        Raises:
            TransportError: The link is dead, or the answer did not come although the broker had the time.
        """
        try:
            return await _Wait(self).end(answer)
        except TimeoutError:
            raise TransportError(f"the broker {what}: it is frozen, or the line is cut") from None


@define(eq=False)
class _Wait:
    """The wait for one answer."""

    _patience: Patience
    _passed_s: float = field(default=0.0, init=False)
    _looked_at: float = field(default=0.0, init=False)
    _timer: asyncio.TimerHandle | None = field(default=None, init=False)

    async def end(self, answer: Awaitable[T]) -> T:
        self._looked_at = self._patience.system.monotonic()
        async with asyncio.timeout(None) as limit:
            self._look_later(limit)
            try:
                return await answer
            finally:
                if self._timer is not None:
                    self._timer.cancel()

    def _look_later(self, limit: asyncio.Timeout) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._patience.timeout_s / LOOKS, self._look, limit)

    def _look(self, limit: asyncio.Timeout) -> None:
        timeout_s, now = self._patience.timeout_s, self._patience.system.monotonic()
        passed_s, self._looked_at = min(now - self._looked_at, 2 * timeout_s / LOOKS), now
        if not self._patience.proof.is_reading:
            self._passed_s += passed_s
        if self._passed_s < timeout_s:
            self._look_later(limit)
        else:
            limit.reschedule(0)
