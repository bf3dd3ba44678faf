"""Colours where a terminal shows them: `Screen`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final, Literal, TypeAlias

from attrs import frozen

__all__ = ["Colour", "Screen"]

Colour: TypeAlias = Literal["bold", "dim", "red", "green", "yellow", "magenta", "cyan"]

_CODES: Final[dict[Colour, str]] = {
    "bold": "1",
    "dim": "2",
    "red": "1;31",
    "green": "1;32",
    "yellow": "33",
    "magenta": "35",
    "cyan": "36",
}


@frozen
class Screen:
    """Where output goes.

    Args:
        colours: Whether it shows colours.
        came: The sign of an event that came out.
        missing: The sign of one that should have.
        excluded: The sign of a connection that was left out on purpose.
    """

    colours: bool
    came: str
    missing: str
    excluded: str

    @classmethod
    def here(cls) -> Screen:
        """Return what standard output can show; https://no-color.org is honoured."""
        plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not sys.stdout.isatty()
        signs = ("●", "✗", "–")  # noqa: RUF001 -- a dash that is wide enough to be seen in a table
        try:
            "".join(signs).encode(sys.stdout.encoding)
        except UnicodeEncodeError:
            signs = ("*", "x", "-")
        return cls(not plain, *signs)

    def paint(self, text: str, colour: Colour) -> str:
        """Return the text in a colour. Pad it first: the code of the colour has a length but no width."""
        return f"\x1b[{_CODES[colour]}m{text}\x1b[0m" if self.colours else text

    @contextmanager
    def doing(self, what: str) -> Generator[None]:
        """Print what is being done, and how long it took once it is done."""
        print(f"{what} ...", end="", flush=True)
        started = time.monotonic()
        try:
            yield
        except BaseException:
            print(flush=True)
            raise
        print(self.paint(f" {time.monotonic() - started:.1f} s", "dim"), flush=True)
