"""`POST /apps/ID/events` and `/batch_events`: publish what a server triggers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, TypeVar

import msgspec
from attrs import define
from backplane_core import (
    BaseBackplane,
    ClosedError,
    EventEncodeError,
    EventTooLargeError,
    OutboxFullError,
)

from backplane_server._pusher.answers import Problem
from backplane_server._pusher.listing import Listing
from backplane_server._pusher.messages import event_json
from backplane_server._pusher.names import Channel, channel_named, event_name_problem
from backplane_server._pusher.subscription import connection_ids

__all__ = ["MOST_BATCHED", "MOST_CHANNELS", "Triggers"]

MOST_CHANNELS: Final = 100
"""Of one event, as Pusher has it."""
MOST_BATCHED: Final = 10
"""Events of one batch, as Pusher has it."""
SOCKET_ID: Final = re.compile(r"[0-9]{1,32}\.[0-9]{1,32}", re.ASCII)


Decoded = TypeVar("Decoded")


class Trigger(msgspec.Struct):
    """An event, and where it goes; other members are ignored."""

    name: str
    data: msgspec.Raw
    channel: str | None = None
    channels: list[str] | None = None
    socket_id: str | None = None
    info: str = ""


class Batch(msgspec.Struct):
    """Several events, each for one channel."""

    batch: list[Trigger]


@define
class Ready:
    """An event that may be published."""

    channels: Sequence[Channel]
    event: bytes
    socket_id: str | None
    info: str


@define(kw_only=True)
class Triggers:
    """Publishes what a server triggers.

    Args:
        backplane: Where.
        listing: What it may ask for with the event.
        app_id: Whose events they are.
        max_event_bytes: Bytes of the data of one event.
        trace: What the request belongs to.
    """

    backplane: BaseBackplane
    listing: Listing
    app_id: str
    max_event_bytes: int
    trace: Mapping[str, str] | None

    async def trigger(self, body: bytes) -> object:
        """Publish one event to its channels, and return what was asked of them.

        Args:
            body: JSON.

        Raises:
            Problem: It is not allowed, or there is no room for it now.
        """
        ready = self._check(_decode(body, Trigger))
        await self._publish(ready)
        if not ready.info:
            return {}
        return self.listing.with_missing({"channels": await self.listing.describe(ready.channels, ready.info)})

    async def trigger_batch(self, body: bytes) -> object:
        """Publish several events, all of them or none, and return what was asked of their channels.

        Args:
            body: JSON.

        Raises:
            Problem: One is not allowed, or there is no room for them now.
        """
        batch = _decode(body, Batch).batch
        if len(batch) > MOST_BATCHED:
            raise Problem(400, f"at most {MOST_BATCHED} events in a batch")
        all_ready = [self._check(trigger) for trigger in batch]
        for ready in all_ready:
            await self._publish(ready)
        if not any(ready.info for ready in all_ready):
            return {}
        found = [await self.listing.describe(ready.channels, ready.info) for ready in all_ready]
        first = [it[ready.channels[0].name] for it, ready in zip(found, all_ready, strict=True)]
        return self.listing.with_missing({"batch": first})

    def _check(self, trigger: Trigger) -> Ready:
        if (problem := event_name_problem(trigger.name)) is not None:
            raise Problem(400, problem)
        names = trigger.channels if trigger.channels is not None else [trigger.channel or ""]
        if not 0 < len(names) <= MOST_CHANNELS:
            raise Problem(400, f"1 to {MOST_CHANNELS} channels")
        found = [channel_named(self.app_id, name) for name in dict.fromkeys(names)]
        channels = [channel for channel in found if channel is not None]
        if len(channels) < len(found):
            raise Problem(400, "no channel has such a name")
        if len(channels) > 1 and any(channel.is_encrypted for channel in channels):
            raise Problem(400, "an event for an encrypted channel goes to no other")
        if trigger.socket_id is not None and not SOCKET_ID.fullmatch(trigger.socket_id):
            raise Problem(400, "socket_id is none")
        if _size(trigger.data) > self.max_event_bytes:
            raise Problem(413, f"the data of an event has at most {self.max_event_bytes} bytes")
        if trigger.info:
            self.listing.check_info(channels, trigger.info)
        return Ready(channels, event_json(trigger.name, bytes(trigger.data)), trigger.socket_id, trigger.info)

    async def _publish(self, ready: Ready) -> None:
        for channel in ready.channels:
            sender = () if ready.socket_id is None else connection_ids(self.app_id, ready.socket_id, channel)
            try:
                # One for each channel: a client that hears several gets it once for each, as the protocol has it.
                await self.backplane.publish_json(channel.target, ready.event, exclude=sender, trace=self.trace)
            except EventEncodeError:
                raise Problem(400, "data is no JSON that can be sent") from None
            except EventTooLargeError as error:
                raise Problem(413, str(error)) from None
            except (OutboxFullError, ClosedError) as error:
                raise Problem(503, str(error)) from None


def _decode(body: bytes, kind: type[Decoded]) -> Decoded:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:  # it names members and types, and no value
        raise Problem(400, f"not what is expected: {error}") from None
    except (ValueError, RecursionError):
        raise Problem(400, "the body is no JSON") from None


def _size(data: msgspec.Raw) -> int:
    """Return the bytes of an event's data, as its publisher counts them: of the text, where it is one."""
    raw = bytes(data)
    return len(msgspec.json.decode(raw, type=str).encode()) if raw.startswith(b'"') else len(raw)
