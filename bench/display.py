"""Shows on a terminal, or in a log, what is measured now, how long it has taken and how long it may still take."""

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
_COLOURS: Final = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


def duration(seconds: float) -> str:
    """Return minutes and seconds: 4:07."""
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    return f"{minutes}:{rest:02}"


@define
class Display:
    """A line that is written anew on a terminal, and plain lines elsewhere.

    Args:
        estimates: How many seconds each measurement may take, in their order.
        out: Where to.
    """

    _estimates: Sequence[float]
    _out: TextIO = field(factory=lambda: sys.stderr)
    _number: int = 0
    _title: str = ""
    _begun: float = field(factory=time.monotonic)
    _begun_this: float = 0.0
    _logged: float = 0.0

    @property
    def _live(self) -> bool:
        return self._out.isatty() and os.environ.get("TERM") != "dumb"

    def paint(self, text: str, colour: str) -> str:
        """Return it in a colour, where there are any and NO_COLOR does not forbid them."""
        if not self._live or os.environ.get("NO_COLOR"):
            return text
        return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m"

    def begin(self, title: str) -> None:
        """The next measurement begins."""
        self._number += 1
        self._title, self._begun_this, self._logged = title, time.monotonic(), 0.0
        self.tell("starts")

    def tell(self, what: str) -> None:
        """Show what happens; fit to be a `Progress`."""
        now = time.monotonic()
        if not self._live and now - self._logged < _LOG_EVERY_S:
            return
        self._logged = now
        this = max(0.0, self._estimates[self._number - 1] - (now - self._begun_this))
        left = this + sum(self._estimates[self._number :])
        where = self.paint(f"[{self._number}/{len(self._estimates)}] {self._title}", "bold")
        clock = self.paint(f"{duration(now - self._begun)}, about {duration(left)} left", "dim")
        self._write(f"{where}  {self.paint(what, 'cyan')}  {clock}", stays=not self._live)

    def end(self, what: str, colour: str = "green") -> None:
        """The measurement is over: a line that stays."""
        where = self.paint(f"[{self._number}/{len(self._estimates)}] {self._title}", "bold")
        took = self.paint(duration(time.monotonic() - self._begun_this), "dim")
        self._write(f"{where}  {self.paint(what, colour)}  {took}", stays=True)

    def _write(self, line: str, *, stays: bool) -> None:
        start = "\r\x1b[K" if self._live else ""
        print(f"{start}{line}", end="\n" if stays else "", file=self._out, flush=True)
