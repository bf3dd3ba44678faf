"""A tap takes a connection's bytes, in slices of the loop's time, and passes on how it ends."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from backplane_core.sockets import Inbox, Tap
from backplane_core.sockets.tap import SLICE_BYTES

from tests.support.waiting import until


class Quiet(asyncio.Protocol):
    """A client library's protocol; it hears of the end."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def eof_received(self) -> bool:
        self.heard.append("eof")
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.heard.append("lost")


class Line(asyncio.Transport):
    """A transport that only knows its protocol."""

    def __init__(self, protocol: asyncio.BaseProtocol) -> None:
        super().__init__()
        self.protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self.protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol


async def test_a_tap_tells_of_the_end_once_and_passes_it_on_also_where_that_fails() -> None:
    behind, ended = Quiet(), list[int]()
    transport = Line(behind)

    def fail() -> None:
        ended.append(1)
        raise LookupError

    tap = Tap(transport, lambda _: None, lambda: ended.append(0))
    assert transport.get_protocol() is tap
    assert tap.eof_received()
    tap.connection_lost(None)
    assert (ended, behind.heard) == ([0], ["eof", "lost"])
    with pytest.raises(LookupError):
        Tap(Line(behind), lambda _: None, fail).connection_lost(None)
    assert (ended, behind.heard) == ([0, 1], ["eof", "lost", "lost"])


@asynccontextmanager
async def lines() -> AsyncGenerator[tuple[asyncio.Transport, socket.socket]]:
    """Two ends of a line: a transport that has not read yet, and a socket that blocks."""
    ours, theirs = socket.socketpair()
    with theirs:
        transport, _ = await asyncio.get_running_loop().create_connection(Quiet, sock=ours)
        transport.pause_reading()
        try:
            yield transport, theirs
        finally:
            transport.abort()
            await asyncio.sleep(0)


DATA = bytes(range(256)) * 480
"""More than one slice, and what a socket's buffer has room for at once."""


async def test_what_one_read_brings_is_taken_a_slice_per_turn_and_in_order() -> None:
    taken, turns = list[bytes](), list[int]()
    turn = 0
    async with lines() as (transport, theirs):

        def take(data: bytes) -> None:
            taken.append(data)
            turns.append(turn)

        Tap(transport, take, lambda: None)
        theirs.sendall(DATA)
        transport.resume_reading()
        while sum(map(len, taken)) < len(DATA):
            turn += 1
            await asyncio.sleep(0)
        theirs.sendall(b"and so on")
        await until(lambda: taken[-1] == b"and so on", "it is read again")
    assert b"".join(taken[:-1]) == DATA
    assert len(taken) > 2, "it came in more than one slice"
    assert max(map(len, taken)) <= SLICE_BYTES
    assert len(set(turns[:-1])) == len(turns) - 1, "each in a turn of its own"


async def test_a_reader_that_is_behind_gets_no_further_slice_until_it_resumes() -> None:
    inbox = Inbox(pause_bytes=1_000)
    taken = 0
    async with lines() as (transport, theirs):

        def take(data: bytes) -> None:
            nonlocal taken
            taken += len(data)
            inbox.frames.append(("c", data))
            inbox.added(len(data))

        inbox.source = Tap(transport, take, lambda: None)
        theirs.sendall(DATA)
        transport.resume_reading()
        got = b""
        while len(got) < len(DATA):
            await until(lambda: inbox.is_full, "a slice")
            for _ in range(10):
                await asyncio.sleep(0)
            assert inbox.is_full
            assert taken - len(got) <= SLICE_BYTES, "one slice waits, and no more is taken"
            got += b"".join([frame[1] for frame in await inbox.take() if isinstance(frame, tuple)])
    assert got == DATA


async def test_what_was_read_before_the_end_is_taken_before_the_end_is_reported() -> None:
    heard = list[bytes]()
    async with lines() as (transport, _):
        tap = Tap(transport, heard.append, lambda: heard.append(b"end"))
        tap.data_received(DATA)
        tap.connection_lost(None)
    assert (b"".join(heard[:-1]), heard[-1]) == (DATA, b"end")


def ignore(_loop: asyncio.AbstractEventLoop, _context: dict[str, object]) -> None:
    """Say nothing of an error that a test makes."""


async def test_a_slice_that_fails_ends_the_connection_and_nothing_follows_on_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    taken, ended = list[int](), list[int]()
    async with lines() as (transport, theirs):

        def take(data: bytes) -> None:
            taken.append(len(data))
            if len(taken) == 2:
                raise LookupError

        Tap(transport, take, lambda: ended.append(0))
        theirs.sendall(DATA)
        asyncio.get_running_loop().set_exception_handler(ignore)
        transport.resume_reading()
        await until(lambda: bool(ended), "the end")
        assert transport.is_closing()
    assert len(taken) == 2
    assert not caplog.records
