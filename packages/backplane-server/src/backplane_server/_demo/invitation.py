"""Says where the demo's page is, and opens it: `Invitation`."""

from __future__ import annotations

import os
import sys
import threading
import webbrowser

import typer
from attrs import frozen

__all__ = ["Invitation"]


@frozen
class Invitation:
    """Shows the way to the page.

    Args:
        origin: The URL of the page.
        opens: Whether it may be opened in a browser.
    """

    origin: str
    opens: bool

    def give(self) -> None:
        """Print the URL of the page, and open it if this is a terminal with a screen."""
        typer.echo(f"open {self.origin} in a browser; Ctrl-C ends all of it", err=True)
        if self.opens and sys.stderr.isatty() and _has_screen():
            # With some browsers this returns only when they end, so it runs in a thread that nothing waits for.
            threading.Thread(target=webbrowser.open, args=(self.origin,), daemon=True).start()


def _has_screen() -> bool:
    """Return whether a browser would have a window: a text browser would take over the terminal."""
    return sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
