"""The error for channels that this layer does not support: `NormalChannelError`."""

from __future__ import annotations

from backplane_core import BackplaneError

__all__ = ["NormalChannelError"]


class NormalChannelError(BackplaneError, NotImplementedError):
    """Raised for the name of a normal channel, one without a `!`: a work queue, which this layer does not support.

    Every method that accepts a channel's name raises it; nothing was sent. Use a task queue, or keep another layer for
    such work under an alias of its own.

    Args:
        channel: The channel's name.
    """

    def __init__(self, channel: str) -> None:
        super().__init__(channel)
        self.channel: str = channel

    def __str__(self) -> str:
        return (
            f"{self.channel!r} is a normal channel: its messages wait for any one of several workers, and this layer "
            "stores no messages. Send to the name of a consumer or to a group; for work use a task queue, or another "
            "channel layer under an alias of its own (runworker and `channel_layer_alias`)"
        )
