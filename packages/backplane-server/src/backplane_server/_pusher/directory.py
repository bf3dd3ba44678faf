"""Which channels of an app are occupied, on all pods: `Directory`."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any
from uuid import uuid4

from attrs import define, field
from backplane_core import BackplaneError, BaseBackplane, EventAttachment

from backplane_server._pusher.names import Channel, directory_target

__all__ = ["Directory"]


class Nobody:
    """Takes no events: it is there to be seen."""

    def __init__(self, conn_id: str) -> None:
        self.conn_id = conn_id
        self.hears_gaps = True  # there is nothing that it could miss, and nothing to warn of

    def accept(self, event: Any) -> bool:  # noqa: ANN401, ARG002 -- of `EventSink`
        """Take no event."""
        return False

    def mark(self, gap: Any) -> None:  # noqa: ANN401 -- of `EventSink`
        """Miss nothing."""

    def close(self, order: Any) -> None:  # noqa: ANN401 -- of `EventSink`
        """Nobody can order this."""

    def end(self) -> None:
        """Come to an end."""


@define(eq=False)
class Entry:
    """One channel that is occupied on this pod."""

    showing: asyncio.Task[None]
    subscribers: int = 0
    attachment: EventAttachment | None = None


@define(eq=False)
class Directory:
    """Shows the channels that are occupied on this pod: each is present in its app's directory, under its name.

    So `fleet.presence` lists those of all pods in one question, and no database holds what may be out of date.

    Args:
        backplane: Of this pod.
    """

    _backplane: BaseBackplane
    _entries: dict[Channel, Entry] = field(factory=dict[Channel, Entry], init=False)
    _tasks: set[asyncio.Task[None]] = field(factory=set[asyncio.Task[None]], init=False)

    def enter(self, channel: Channel) -> None:
        """Count a subscriber of a channel, which is shown from the first one on."""
        entry = self._entries.get(channel)
        if entry is None:
            # A task of the entry, and not of its first subscriber, who may go while others stay.
            showing = asyncio.get_running_loop().create_task(self._show(channel), name="backplane: pusher directory")
            self._tasks.add(showing)
            showing.add_done_callback(self._tasks.discard)
            entry = self._entries[channel] = Entry(showing)
        entry.subscribers += 1

    def leave(self, channel: Channel) -> None:
        """Count one subscriber less; behind the last one the channel is no longer shown, a few seconds later."""
        entry = self._entries[channel]
        entry.subscribers -= 1
        if not entry.subscribers:
            del self._entries[channel]
            entry.showing.cancel()
            if entry.attachment is not None:
                entry.attachment.detach_nowait()

    async def wait_left(self) -> None:
        """Return once nothing is left of what was to be shown, and is not."""
        ending = [task for task in self._tasks if task.cancelling()]
        if ending:
            await asyncio.wait(ending)

    async def _show(self, channel: Channel) -> None:
        with suppress(BackplaneError):  # it closes; or the broker does not allow it, which the log says
            self._entries[channel].attachment = await self._backplane.attach_events(
                Nobody(f"pusher-directory:{uuid4().hex}"),
                directory_target(channel.app_id),
                direct=False,
                presence={},
                presence_key=channel.name,
            )
