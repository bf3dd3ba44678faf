"""Shows how far a run is: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import Final, TextIO

from attrs import define, field

__all__ = ["Display", "duration"]

_LOG_EVERY_S: Final = 10.0
"""A log gets a line so often, a terminal each."""
_BAR: Final = 20
_COLOURS: Final = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


def duration(seconds: float) -> str:
    """Return minutes and seconds: 4:07."""
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    return f"{minutes}:{rest:02}"


@define
class Display:
    """A line that is written over on a terminal, and plain lines elsewhere. It is each measurement's `Progress`.

    Args:
        estimates: How many seconds each measurement may take, in their order.
        out: Where to.
    """

    _estimates: Sequence[float]
    _out: TextIO = field(factory=lambda: sys.stderr)
    _number: int = 0
    _title: str = ""
    _steps: int = 0
    _done: int = 0
    _begun: float = field(factory=time.monotonic)
    _begun_this: float = 0.0
    _logged: float = 0.0

    @property
    def _live(self) -> bool:
        return self._out.isatty() and os.environ.get("TERM") != "dumb"

    def begin(self, title: str) -> None:
        """The next measurement begins."""
        self._number += 1
        self._title, self._begun_this, self._logged = title, time.monotonic(), 0.0
        self._steps = self._done = 0
        self._tell("starts")

    def expect(self, steps: int) -> None:
        """It has so many steps."""
        self._steps, self._done = steps, 0

    def step(self, what: str) -> None:
        """Its next step begins."""
        self._tell(what)
        self._done += 1

    def end(self, what: str, colour: str = "green") -> None:
        """The measurement is over: a line that stays."""
        took = self._paint(duration(time.monotonic() - self._begun_this), "dim")
        self._write(f"{self._where()}  {self._paint(what, colour)}  {took}", stays=True)

    def _tell(self, what: str) -> None:
        now = time.monotonic()
        if not self._live and now - self._logged < _LOG_EVERY_S:
            return
        self._logged = now
        left = self._left(now - self._begun_this) + sum(self._estimates[self._number :])
        clock = self._paint(f"{duration(now - self._begun)}, about {duration(left)} left", "dim")
        self._write(f"{self._where()}  {self._bar()}{self._paint(what, 'cyan')}  {clock}", stays=not self._live)

    def _left(self, took: float) -> float:
        """Return how many seconds this measurement may still take: by its steps once some are done."""
        if self._steps and self._done / self._steps > 0.1:  # noqa: PLR2004 -- fewer say little
            return took * (self._steps - self._done) / self._done
        return max(0.0, self._estimates[self._number - 1] - took)

    def _where(self) -> str:
        return self._paint(f"[{self._number}/{len(self._estimates)}] {self._title}", "bold")

    def _bar(self) -> str:
        if not self._live or not self._steps:
            return ""
        full = round(_BAR * self._done / self._steps)
        return f"{'█' * full}{self._paint('░' * (_BAR - full), 'dim')} {self._done}/{self._steps}  "

    def _paint(self, text: str, colour: str) -> str:
        """Return it in a colour, where there are any and NO_COLOR does not forbid them."""
        if not self._live or os.environ.get("NO_COLOR"):
            return text
        return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m"

    def _write(self, line: str, *, stays: bool) -> None:
        start = "\r\x1b[K" if self._live else ""
        print(f"{start}{line}", end="\n" if stays else "", file=self._out, flush=True)
