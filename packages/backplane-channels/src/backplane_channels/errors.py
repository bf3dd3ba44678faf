"""What this layer refuses to do."""

from __future__ import annotations

from backplane_core import BackplaneError

__all__ = ["NormalChannelError"]


class NormalChannelError(BackplaneError, NotImplementedError):
    """A channel without a `!` in its name is a queue of work that one process takes from, which this layer is not.

    Raised by everything that takes a channel's name; nothing was sent. Run such work in a task queue, or keep another
    layer for it under an alias of its own, as the message says.

    Args:
        channel: The channel's name.
    """

    def __init__(self, channel: str) -> None:
        super().__init__(channel)
        self.channel: str = channel

    def __str__(self) -> str:
        return (
            f"{self.channel!r} is a normal channel: its messages wait for one of many workers, and this layer keeps no "
            "message for a process that is not there. Send to the name of a consumer or to a group; for work use a "
            "task queue, or another channel layer under an alias of its own (runworker and `channel_layer_alias`)"
        )
