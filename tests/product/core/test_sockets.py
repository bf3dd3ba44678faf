"""Frames and answers between a socket's callback and the tasks that await them."""

from __future__ import annotations

import asyncio
from contextvars import copy_context

from backplane_core import Lost
from backplane_core._runtime.waking import OWN_WAITERS
from backplane_core.sockets import Confirmation, Inbox


class Pausable:
    """A source that only keeps what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.closing = False

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.told.append("pause")

    def resume_reading(self) -> None:
        self.told.append("resume")


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


async def test_take_waits_and_its_source_waits_for_take() -> None:
    inbox = Inbox(pause_bytes=3)
    inbox.source = source = Pausable()
    for text in (b"123", b"4"):
        inbox.frames.append(("a", text))
        inbox.added(len(text))
        assert inbox.is_full == (text == b"4")
    assert source.told == ["pause"]
    assert await inbox.take() == [("a", b"123"), ("a", b"4")]
    assert source.told == ["pause", "resume"]
    taking = asyncio.create_task(inbox.take())
    await asyncio.sleep(0)
    assert not taking.done()
    inbox.added(100)
    assert not taking.done()
    assert not inbox.is_full, "bytes without a frame wait for nobody"
    inbox.frames.append(("a", b"5"))
    inbox.added(1)
    async with asyncio.timeout(2):
        assert await taking == [("a", b"5")]
    assert source.told == ["pause", "resume"]


async def test_a_source_that_closes_is_left_alone() -> None:
    inbox = Inbox(pause_bytes=0)
    inbox.source = source = Pausable()
    inbox.frames.append(("a", b"1"))
    inbox.added(1)
    source.closing = True
    await inbox.take()
    inbox.frames.append(("a", b"2"))
    inbox.added(1)
    await inbox.take()
    assert source.told == ["pause"]


async def test_a_closed_inbox_gives_what_it_has_and_then_nothing() -> None:
    inbox = Inbox(pause_bytes=0)
    inbox.put("a", b"1")
    inbox.close()
    inbox.put("a", b"2")
    assert await inbox.take() == [("a", b"1")]
    assert await inbox.take() == []


async def test_frames_and_answers_are_there_before_the_callback_returns() -> None:
    inbox = Inbox()
    told: list[object] = []

    async def read() -> None:
        while frames := await inbox.take():
            told.extend(frames)

    async def ask() -> None:
        told.append(await answer)

    answer = inbox.confirmation()
    tasks = [asyncio.create_task(read()), asyncio.create_task(ask())]
    await asyncio.sleep(0)
    called = asyncio.Event()

    def callback() -> None:
        inbox.frames.append(("a", b"1"))
        inbox.added(1)
        told.append("added")
        answer.set(True)
        answer.set(False)
        told.append("given")
        called.set()

    asyncio.get_running_loop().call_soon(callback)
    await called.wait()
    if OWN_WAITERS:
        assert told == [("a", b"1"), "added", True, "given"]
    else:  # what waits for a future goes on in the next turn
        await asyncio.sleep(0)
        assert told == ["added", "given", ("a", b"1"), True]

    inbox.close()
    async with asyncio.timeout(2):
        await asyncio.gather(*tasks)


async def test_an_answer_that_was_given_is_not_waited_for_and_one_to_nobody_is_harmless() -> None:
    inbox = Inbox()
    answer = inbox.confirmation()
    waiting = asyncio.ensure_future(asyncio.wait_for(_given(answer), 10))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})
    assert waiting.cancelled()
    answer.set(False)
    assert await answer is False


async def _given(answer: Confirmation) -> bool:
    return await answer


async def test_an_answer_does_not_overtake_a_reader_that_was_called_before() -> None:
    inbox = Inbox()
    told: list[object] = []

    async def read() -> None:
        told.append(await inbox.take())

    async def ask() -> None:
        told.append(await answer)

    answer = inbox.confirmation()
    tasks = [asyncio.create_task(read()), asyncio.create_task(ask())]
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_soon(answer.set, True)  # noqa: FBT003 -- all that there is to say
    inbox.frames.append(("a", b"1"))
    inbox.added(1)  # by a task: the reader goes on in a turn that comes next
    async with asyncio.timeout(2):
        await asyncio.gather(*tasks)
    assert told == [[("a", b"1")], True]


async def test_what_came_before_the_end_can_be_taken_also_where_it_is_told_of_later() -> None:
    inbox = Inbox()
    inbox.frames.append(("a", b"1"))
    inbox.added(1)
    inbox.close()
    inbox.frames.append(("a", b"2"))
    inbox.added(1)
    assert await inbox.take() == [("a", b"1"), ("a", b"2")]
    assert await inbox.take() == []


async def test_an_answer_that_is_given_in_its_own_tasks_context_wakes_it_all_the_same() -> None:
    answer, context = Inbox().confirmation(), copy_context()

    async def waits() -> bool:
        return await answer

    task = asyncio.create_task(waits(), context=context)
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_soon(answer.set, True, context=context)  # noqa: FBT003 -- the answer
    async with asyncio.timeout(30):
        assert await task


def test_whoever_is_woken_after_the_loop_was_closed_is_left_alone() -> None:
    inbox = Inbox()
    loop = asyncio.new_event_loop()

    async def leave_one_waiting() -> None:
        inbox.take().send(None).add_done_callback(print, context=copy_context())

    loop.run_until_complete(leave_one_waiting())
    loop.close()
    inbox.put("a", b"1")
    inbox.close()
    assert asyncio.run(inbox.take()) == [("a", b"1")]
