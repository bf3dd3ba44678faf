"""Which entries of a log are of an event that came before: `LogRepeats`."""

from __future__ import annotations

import msgspec
from attrs import frozen

from backplane_core._protocol.event_ids import EventIds, Publication, event_key
from backplane_core._protocol.frame import Head, decode_event_id, decode_targets
from backplane_core._protocol.position import origin_key
from backplane_core._runtime.system import System
from backplane_core.errors import EnvelopeError

__all__ = ["LogRepeats"]


@frozen
class LogRepeats:
    """Takes the event out of an entry of a log of whose event this pod handed out another entry.

    What is left is like a beat: it has its place and its number, and is nothing that a client has missed.

    Args:
        event_ids: What this pod handed out.
        system: The clock.
    """

    event_ids: EventIds
    system: System

    def seen(self, head: Head) -> Head:
        """Return an entry as a client that comes back is to see it."""
        if head.event_id is None or (key := _key(head)) is None:
            return head
        is_other = self.event_ids.is_other(key, _publication(head), self.system.monotonic())
        return _without_event(head) if is_other else head

    def learned(self, head: Head) -> Head:
        """Return the same of an entry that was added before this pod began to listen, and remember its event."""
        if head.event_id is None or (key := _key(head)) is None:
            return head
        is_repeated = self.event_ids.is_repeated(key, _publication(head), self.system.monotonic())
        return _without_event(head) if is_repeated else head


def _key(head: Head) -> bytes | None:
    try:
        return event_key(decode_targets(head), decode_event_id(head))
    except EnvelopeError:
        return None


def _publication(head: Head) -> Publication:
    return Publication(origin_key(head.origin), head.seq or 0)


def _without_event(head: Head) -> Head:
    return msgspec.structs.replace(head, event=msgspec.Raw(b"null"), routing="")
