"""How frames leave: by a server's own transport, where its class is as expected, or by any server's `send`."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from backplane_asgi import Message
from backplane_asgi._sockets.port import SendPort, StreamPort
from backplane_asgi._uvicorn import fitting
from backplane_asgi.uvicorn import NEEDED


class Woken:
    def __init__(self) -> None:
        self.event = asyncio.Event()

    def resume(self) -> None:
        self.event.set()


def message(text: str) -> Message:
    return {"type": "websocket.send", "text": text}


async def test_a_server_that_takes_all_at_once_needs_no_task() -> None:
    sent: list[str] = []

    async def send(message: Message) -> None:
        sent.append(message["text"])

    port = SendPort(send, Woken())
    tasks = len(asyncio.all_tasks())
    assert port.write_items([message("a"), message("b")]) == 2
    assert (sent, port.is_blocked, len(asyncio.all_tasks())) == (["a", "b"], False, tasks)


async def test_a_send_that_waits_goes_on_by_itself_and_what_comes_meanwhile_is_not_taken() -> None:
    sent: list[str] = []
    room = asyncio.Event()

    async def send(message: Message) -> None:
        await room.wait()
        await asyncio.sleep(0)
        sent.append(message["text"])

    woken = Woken()
    port = SendPort(send, woken)
    assert port.write_items([message("a"), message("b")]) == 2
    assert port.is_blocked
    assert port.write_items([message("c")]) == 0
    room.set()
    async with asyncio.timeout(5):
        await woken.event.wait()
    assert (sent, port.is_blocked) == (["a", "b"], False)


async def test_a_write_that_is_given_up_leaves_no_task_behind() -> None:
    async def send(_: Message) -> None:
        await asyncio.get_running_loop().create_future()

    port = SendPort(send, Woken())
    port.write_items([message("a")])
    async with asyncio.timeout(5):
        await port.stop()
    assert len(asyncio.all_tasks()) == 1


async def test_a_server_whose_send_must_run_in_a_task_gets_one() -> None:
    sent: list[str] = []

    async def send(message: Message) -> None:
        async with asyncio.timeout(5):  # raises a RuntimeError where no task runs
            await asyncio.sleep(0)
            sent.append(message["text"])

    woken = Woken()
    port = SendPort(send, woken)
    asyncio.get_running_loop().call_soon(port.write_items, [message("a"), message("b")])
    async with asyncio.timeout(5):
        await woken.event.wait()
    assert sent == ["a", "b"]


async def test_a_server_whose_send_is_no_coroutine_is_waited_for_as_any_other() -> None:
    sent: list[Message] = []

    class Sending:
        """As an awaitable of another language: its steps are a plain iterator."""

        def __init__(self, message: Message) -> None:
            self._steps = iter([None, None])
            sent.append(message)

        def __await__(self) -> Any:
            return self

        def __iter__(self) -> Sending:
            return self

        def __next__(self) -> None:
            return next(self._steps)

    woken = Woken()
    port = SendPort(Sending, woken)
    for text in "ab":
        woken.event.clear()
        port.write_items([message(text)])
        assert port.is_blocked
        async with asyncio.timeout(5):
            await woken.event.wait()
    assert [item["text"] for item in sent] == ["a", "b"]
    assert (port.is_blocked, port.is_dead) == (False, False)


async def test_a_client_that_has_gone_is_written_to_no_longer() -> None:
    calls = 0

    async def send(_: Message) -> None:
        nonlocal calls
        calls += 1
        raise OSError

    port = SendPort(send, Woken())
    port.write_items([message("a"), message("b")])
    port.write_items([message("c")])
    assert (calls, port.is_dead) == (1, True)


async def test_what_waits_for_a_stream_is_one_message() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    assert StreamPort(send, Woken()).write_items([b"data: 1\n\n", b"data: 2\n\n"]) == 18
    assert sent == [{"type": "http.response.body", "body": b"data: 1\n\ndata: 2\n\n", "more_body": True}]


def test_a_uvicorn_that_lacks_something_is_not_used_and_the_log_says_so_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "_warned", set[str]())

    class Other:
        transport: Any = None
        writable = "another type"

    with caplog.at_level(logging.WARNING, "backplane"):
        assert not fitting.fits(Other(), NEEDED)
        assert not fitting.fits(Other(), NEEDED)
    (line,) = caplog.messages
    assert "close_timer" in line
    assert "writable" in line
