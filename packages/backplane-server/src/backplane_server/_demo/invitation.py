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
    """Leads to the page.

    Args:
        origin: Where it is.
        opens: Whether it may be opened in a browser.
    """

    origin: str
    opens: bool

    def give(self) -> None:
        """Print where the page is, and open it if someone sits in front of this."""
        typer.echo(f"open {self.origin} in a browser; Ctrl-C ends all of it", err=True)
        if self.opens and sys.stderr.isatty() and _has_screen():
            # Some browsers are waited for until they end; nobody waits for this thread.
            threading.Thread(target=webbrowser.open, args=(self.origin,), daemon=True).start()


def _has_screen() -> bool:
    """Return whether a browser would have a window: one of text would take over the terminal."""
    return sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
