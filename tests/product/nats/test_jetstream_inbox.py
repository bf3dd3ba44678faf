"""What a link to JetStream says of how far it has read."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from backplane_nats._jetstream.inbox import LogInbox
from backplane_nats._jetstream.lane import Lane
from backplane_nats._jetstream.place import Entry, Place, StreamState
from backplane_nats._jetstream.reader import StreamReader

if TYPE_CHECKING:
    from backplane_nats._jetstream.api import JetStreamApi
    from backplane_nats._jetstream.connection import JetStreamConnection

NEVER = float("-inf")
TIME = "2026-01-02T03:04:05_678Z"
CREATED = "2026-01-02T03:04:05.678Z"
TAG = StreamState(first=1, last=0, last_time="", created=CREATED).tag


def test_a_new_link_has_read_nothing_yet_of_what_came_since_the_last_one() -> None:
    inbox = LogInbox()
    assert inbox.received_until == NEVER
    inbox.complete(5.0)
    assert inbox.received_until == 5.0


class ThreeEntries:
    """A server each of whose streams has three entries."""

    async def states(self, channels: Sequence[str]) -> Mapping[str, StreamState]:
        return {channel: StreamState(first=1, last=3, last_time=TIME, created=CREATED) for channel in channels}


async def test_a_reader_claims_nothing_before_all_of_its_streams_are_begun_and_read() -> None:
    inbox = LogInbox()
    connection = cast("JetStreamConnection", SimpleNamespace(inbox=inbox))
    reader = StreamReader(connection, cast("JetStreamApi", ThreeEntries()))
    await reader._look()
    assert inbox.received_until == NEVER, "it was not asked yet what to read"
    read, slow = Lane("read"), Lane("slow")
    inbox.lanes |= {"read.heard": read, "slow.heard": slow}
    read.begin(Place(3, TIME, TAG), 3)
    await reader._look()
    assert inbox.received_until == NEVER, "nobody knows yet where one of them begins"
    slow.begin(Place(1, TIME, TAG), 3)
    await reader._look()
    assert inbox.received_until == NEVER, "two entries are still to be read"
    slow.read({number: Entry(number, TIME, b"") for number in (2, 3)})
    await reader._look()
    assert inbox.received_until > NEVER
