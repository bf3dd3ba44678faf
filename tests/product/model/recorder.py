"""One run's ledger, its order of things, and its trace: `Recorder`."""

from __future__ import annotations

from collections.abc import Callable

from tests.product.model.ledger import Ledger, Parsed
from tests.product.model.plan import Plan
from tests.product.model.virtual_loop import VirtualLoop

__all__ = ["Recorder"]


class Recorder:
    """Writes down what happens.

    Args:
        plan: Of the run.
        loop: Its clock.
        trace: Takes a line for each thing that happens; None: nobody reads it.
    """

    def __init__(self, plan: Plan, loop: VirtualLoop, trace: Callable[[str], None] | None = None) -> None:
        self.plan = plan
        self.loop = loop
        self.ledger = Ledger(holds=loop.holds)
        self._trace = trace
        self._order = 0
        self._parsed: dict[bytes, Parsed] = {}

    def order(self) -> int:
        """Return the number of what happens now."""
        self._order += 1
        return self._order

    def say(self, text: Callable[[], str]) -> None:
        """Trace what happened."""
        if self._trace is not None:
            self._trace(f"{self.loop.time():9.4f}  {text()}")

    def blame(self, text: str) -> None:
        """Record that a promise is broken."""
        self.ledger.violations.append(text)

    def parsed(self, payload: bytes) -> Parsed:
        """Return what a frame says."""
        parsed = self._parsed.get(payload)
        if parsed is None:
            parsed = self._parsed[payload] = Parsed.of(payload)
        return parsed
