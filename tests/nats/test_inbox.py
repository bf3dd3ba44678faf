from __future__ import annotations

import asyncio

from backplane_core import Lost
from backplane_core.sockets import Inbox


async def test_beyond_the_bound_in_messages_the_newest_are_counted_per_channel() -> None:
    inbox = Inbox(max_messages=2)
    for channel in "aabab":
        inbox.put(channel, b"")
    first, second, *lost = await inbox.take()
    assert (first, second) == (("a", b""), ("a", b""))
    assert [(item.channel, item.missed) for item in lost if isinstance(item, Lost)] == [("b", 2), ("a", 1)]
    inbox.put("a", b"1")
    assert await inbox.take() == [("a", b"1")]


async def test_beyond_the_bound_in_bytes_no_smaller_frame_overtakes_a_dropped_one() -> None:
    inbox = Inbox(max_bytes=10)
    inbox.put("a", b"12345")
    inbox.put("a", b"123456")
    inbox.put("a", b"1")
    kept, lost = await inbox.take()
    assert kept == ("a", b"12345")
    assert isinstance(lost, Lost)
    assert lost.missed == 2


async def test_take_waits_and_room_waits_for_take() -> None:
    inbox = Inbox(pause_bytes=3)
    taking = asyncio.create_task(inbox.take())
    await asyncio.sleep(0)
    assert not taking.done()
    inbox.frames.append(("a", b"1234"))
    assert inbox.added(4)
    async with asyncio.timeout(2):
        assert await taking == [("a", b"1234")]
    inbox.frames.append(("a", b"1234"))
    assert inbox.added(4)
    room = asyncio.create_task(inbox.room())
    await asyncio.sleep(0)
    assert not room.done()
    async with asyncio.timeout(2):
        assert await inbox.take() == [("a", b"1234")]
        await room


async def test_a_closed_inbox_gives_what_it_has_and_then_nothing() -> None:
    inbox = Inbox(pause_bytes=0)
    inbox.put("a", b"1")
    inbox.close()
    inbox.put("a", b"2")
    assert await inbox.take() == [("a", b"1")]
    inbox.frames.append(("a", b"3"))
    assert not inbox.added(1)
    assert await inbox.take() == []
    async with asyncio.timeout(2):
        await inbox.room()
