"""What the flags say about the broker and the fleet: `BusFlags`."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen

__all__ = ["BusFlags"]


@frozen(kw_only=True)
class BusFlags:
    """What the flags say about the broker and the fleet; None where a flag is not given.

    Args:
        bus: The broker's URL.
        channel: The fleet's name.
        routing: How it routes.
        option: Any other options, each `name=value`.
        config: The file to read.
    """

    bus: str | None = None
    channel: str | None = None
    routing: str | None = None
    option: tuple[str, ...] = ()
    config: Path | None = None
