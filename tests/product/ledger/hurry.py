"""Waits that are made for people, cut down to what a run of seconds has: `hurried`."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from typing import Final
from unittest.mock import patch

__all__ = ["hurried"]

SHORTER: Final = {
    "backplane_core._link.backoff.REFUSED_WAIT_S": (0.2, 0.5),
    "backplane_core._inbound.subscriptions.DENIED_S": 0.5,
}
"""How long a pod that was refused waits until it asks again: by then, somebody may have changed its rights."""


@contextmanager
def hurried() -> Generator[None]:
    """Let pods ask soon again for what was refused."""
    with ExitStack() as stack:
        for name, value in SHORTER.items():
            stack.enter_context(patch(name, value))
        yield
