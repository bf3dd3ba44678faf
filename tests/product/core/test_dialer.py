"""A name's addresses are tried at the same time, and what was tried is never left open."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from backplane_core.sockets import Dialer
from backplane_testservers import free_port

from tests.support.deaf import deaf_address, resolve

NAME = "cache.internal"


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
async def listener(leaves_nothing: None) -> AsyncIterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        yield listening


def port_of(listening: socket.socket) -> int:
    return int(listening.getsockname()[1])


@pytest.mark.every_loop
async def test_an_address_that_swallows_packets_does_not_hold_up_the_next(
    listener: socket.socket, closing: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = port_of(listener)
    closing.enter_context(deaf_address("127.0.0.2", port))
    resolve(monkeypatch, NAME, "127.0.0.2", "127.0.0.1")
    async with asyncio.timeout(20):
        with await Dialer().open(NAME, port) as connected:
            assert connected.getpeername()[0] == "127.0.0.1"
            assert connected.getblocking() is False


@pytest.mark.every_loop
async def test_what_is_written_does_not_wait_for_the_acknowledgement_of_what_was_written_before(
    listener: socket.socket,
) -> None:
    with await Dialer().open("127.0.0.1", port_of(listener)) as connected:
        assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_an_address_that_refuses_costs_nothing(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve(monkeypatch, NAME, "127.0.0.9", "127.0.0.1")
    with await Dialer().open(NAME, port_of(listener)) as connected:
        assert connected.getpeername()[0] == "127.0.0.1"


async def test_the_next_connection_begins_with_another_address(
    leaves_nothing: None, closing: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = closing.enter_context(socket.create_server(("127.0.0.1", 0), backlog=64))
    closing.enter_context(socket.create_server(("127.0.0.2", port_of(first)), backlog=64))
    resolve(monkeypatch, NAME, "127.0.0.2", "127.0.0.1")
    dialer, taken = Dialer(), list[str]()
    for _ in range(4):
        with await dialer.open(NAME, port_of(first)) as connected:
            taken.append(connected.getpeername()[0])
    assert taken == ["127.0.0.2", "127.0.0.1"] * 2


async def test_if_none_answers_the_error_says_what_was_tried(
    leaves_nothing: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve(monkeypatch, NAME, "127.0.0.2", "127.0.0.3")
    with pytest.raises(ConnectionRefusedError, match=r"127\.0\.0\.2: .*; 127\.0\.0\.3: "):
        await Dialer().open(NAME, 1)
    with pytest.raises(ConnectionRefusedError):
        await Dialer().open("127.0.0.1", 1)


async def test_a_name_without_an_address_is_said_to_have_none(leaves_nothing: None) -> None:
    with pytest.raises(socket.gaierror):
        await Dialer().open("name.invalid", 1)


@pytest.mark.every_loop
async def test_a_cancelled_attempt_leaves_no_socket(
    leaves_nothing: None, closing: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port("127.0.0.2")
    closing.enter_context(deaf_address("127.0.0.2", port))
    closing.enter_context(deaf_address("127.0.0.3", port))
    resolve(monkeypatch, NAME, "127.0.0.2", "127.0.0.3")
    opened: list[socket.socket] = []
    original = socket.socket

    def counted(*args: Any, **kwargs: Any) -> socket.socket:
        opened.append(original(*args, **kwargs))
        return opened[-1]

    monkeypatch.setattr("backplane_core.sockets.dialer.socket.socket", counted)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await Dialer().open(NAME, port)
    assert len(opened) == 2
    assert all(one.fileno() == -1 for one in opened)


async def test_where_no_thread_can_be_started_the_addresses_of_last_time_are_used(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = port_of(listener)
    resolve(monkeypatch, NAME, "127.0.0.9", "127.0.0.1")
    dialer = Dialer()
    (await dialer.open(NAME, port)).close()

    async def no_thread(*_: object, **__: object) -> None:
        raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", no_thread)
    with await dialer.open(NAME, port) as connected:
        assert connected.getpeername()[0] == "127.0.0.1"
    with await Dialer().open("127.0.0.1", port) as connected:
        assert connected.getpeername()[0] == "127.0.0.1", "resolved here and now"
