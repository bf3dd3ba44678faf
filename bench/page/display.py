"""Shows how far a run is: one line that is written over on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from typing import Final, TextIO

from attrs import define, field

__all__ = ["Display", "duration"]

_LOG_EVERY_S: Final = 10.0
"""A log gets a line so often, a terminal each."""


def duration(seconds: float) -> str:
    """Return minutes and seconds: 4:07."""
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    return f"{minutes}:{rest:02}"


@define
class Display:
    """Each measurement's `Progress`.

    Args:
        measurements: How many follow each other.
        out: Where to.
    """

    _measurements: int
    _out: TextIO = field(factory=lambda: sys.stderr)
    _number: int = 0
    _title: str = ""
    _steps: int = 0
    _done: int = 0
    _begun: float = 0.0
    _logged: float = 0.0

    def begin(self, title: str) -> None:
        """The next measurement begins."""
        self._number += 1
        self._title, self._begun, self._logged = title, time.monotonic(), 0.0
        self._steps = self._done = 0
        self._tell("starts")

    def expect(self, steps: int) -> None:
        """It has so many steps."""
        self._steps, self._done = steps, 0

    def step(self, what: str) -> None:
        """Its next step begins."""
        self._tell(f"{self._done + 1}/{self._steps}  {what}")
        self._done += 1

    def end(self, what: str) -> None:
        """The measurement is over: a line that stays."""
        self._write(what, stays=True)

    def _tell(self, what: str) -> None:
        is_terminal = self._out.isatty()
        if is_terminal or time.monotonic() - self._logged >= _LOG_EVERY_S:
            self._logged = time.monotonic()
            self._write(what, stays=not is_terminal)

    def _write(self, what: str, *, stays: bool) -> None:
        start, end = ("\r\x1b[K" if self._out.isatty() else ""), ("\n" if stays else "")
        took = duration(time.monotonic() - self._begun)
        line = f"{start}[{self._number}/{self._measurements}] {self._title}  {what}  {took}"
        print(line, end=end, file=self._out, flush=True)
