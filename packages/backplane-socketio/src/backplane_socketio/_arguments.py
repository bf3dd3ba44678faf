"""What both managers are given: checked where it is written, though a thread or a loop will use it later."""

from __future__ import annotations

from typing import Final

from attrs import frozen
from backplane_core import ConfigurationError, ConnectOptions, GapCallback

from backplane_socketio._addressing import Addressing, ByRoom, ToAll

__all__ = ["Arguments", "check_arguments"]

OWN: Final = {
    "channel": "the manager's own argument channel says it",
    "routing": "the manager's own argument by_room says it",
    "on_gap": "the manager has an argument of that name",
    "wait": "a server never waits for its broker; await open() to be sure of it at start-up",
}
"""Options of the backplane that are not the manager's, and why."""


@frozen(kw_only=True)
class Arguments:
    """What both managers are given, checked.

    Args:
        url: The broker's.
        options: The backplane's.
        on_gap: Called with each gap of this server.
        gap_event: The name of the event that clients get at a gap.
        max_backlog: Packets that may wait for one client.
        bridge: The URL of the Redis that servers with python-socketio's own manager use.
    """

    url: str
    options: ConnectOptions
    on_gap: GapCallback | None
    gap_event: str | None
    max_backlog: int | None
    bridge: str | None

    def addressing(self) -> Addressing:
        """Return how messages are addressed."""
        return ByRoom() if self.options.get("routing") == "interest" else ToAll()


def check_arguments(
    *,
    url: str,
    channel: str,
    by_room: bool,
    on_gap: GapCallback | None,
    gap_event: str | None,
    max_backlog: int | None,
    bridge: str | None,
    options: ConnectOptions | None,
) -> Arguments:
    """Return the arguments of a manager.

    Raises:
        ConfigurationError: One is not allowed; says what is.
    """
    given = ConnectOptions() if options is None else options.copy()
    for name, reason in OWN.items():
        if name in given:
            raise ConfigurationError(f"options may not have {name!r}: {reason}")
    if max_backlog is not None and max_backlog < 1:
        raise ConfigurationError(f"max_backlog={max_backlog!r} is not allowed: a whole number of packets, at least 1")
    # Not the channel itself: over the same Redis, servers with python-socketio's own manager use that one.
    given["channel"] = f"backplane:{channel}"
    given["wait"] = False
    if by_room:
        given["routing"] = "interest"
    return Arguments(
        url=url,
        options=given,
        on_gap=on_gap,
        gap_event=gap_event,
        max_backlog=max_backlog,
        bridge=bridge,
    )
