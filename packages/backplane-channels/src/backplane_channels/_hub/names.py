"""The name of a channel, by which its layer notices that its consumer is gone: `ChannelName`."""

from __future__ import annotations

__all__ = ["ChannelName"]


class ChannelName(str):
    """A channel's name; nothing but text to everyone else.

    Channels has a `new_channel` and no counterpart: when a consumer ends, the layer learns nothing, or sees a `receive`
    cancelled, which also happens to a consumer that goes on. But a consumer holds on to its name for as long as it
    lives, so the layer watches this object. A copy is plain text, and keeps nothing alive.
    """

    __slots__ = ("__weakref__",)

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (str.__str__(self),)
