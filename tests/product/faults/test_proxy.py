"""The proxy itself: what it passes, what it hurts, and that it says so."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress

import pytest
from attrs import define
from backplane_testservers import Proxy
from backplane_testservers.streams import serve

from tests.support.waiting import until


@define
class Echo:
    """A server that says back what it hears."""

    port: int
    heard: bytes = b""
    talks: int = 0


@pytest.fixture
async def echo(leaves_nothing: None) -> AsyncIterator[Echo]:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.talks += 1
        while data := await reader.read(65_536):
            server.heard += data
            writer.write(data)
            await writer.drain()

    async with serve(talk) as port:
        server = Echo(port)
        yield server


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    with Proxy("127.0.0.1", echo.port) as proxy:
        yield proxy


@define
class Caller:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def says(self, data: bytes) -> bytes:
        """Send, and return the answer."""
        self.writer.write(data)
        return await asyncio.wait_for(self.reader.readexactly(len(data)), 10)

    async def is_cut(self) -> bool:
        try:
            return await asyncio.wait_for(self.reader.read(1), 10) == b""
        except ConnectionError:
            return True


@pytest.fixture
async def caller(proxy: Proxy) -> AsyncIterator[Caller]:
    caller = await call(proxy)
    yield caller
    caller.writer.close()


async def call(proxy: Proxy) -> Caller:
    return Caller(*await asyncio.open_connection("127.0.0.1", proxy.port))


async def silent(caller: Caller, proxy: Proxy) -> None:
    """Assert that nothing arrives although the proxy has had the time to carry it: another connection's turn."""
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(caller.reader.readexactly(1), 0.2)


async def test_it_passes_both_ways_and_counts(proxy: Proxy, caller: Caller) -> None:
    data = bytes(range(256)) * 4_000
    assert await caller.says(data) == data
    await until(lambda: proxy.up.passed_bytes == proxy.down.passed_bytes == len(data), "all of it is counted")
    assert proxy.up.dropped_bytes == proxy.down.dropped_bytes == 0
    assert (len(proxy.accepted_at), proxy.connections) == (1, 1)


async def test_an_end_is_passed_on_both_ways(proxy: Proxy, caller: Caller) -> None:
    assert await caller.says(b"x") == b"x"
    caller.writer.write_eof()
    assert await asyncio.wait_for(caller.reader.read(), 10) == b""
    await until(lambda: proxy.connections == 0, "the proxy forgets it")


async def test_what_is_held_is_passed_later_and_a_sender_runs_into_full_buffers(
    echo: Echo, proxy: Proxy, caller: Caller
) -> None:
    assert await caller.says(b"before") == b"before"
    proxy.up.hold()
    caller.writer.transport.set_write_buffer_limits(high=0)
    caller.writer.write(b"y" * 10_000_000)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(caller.writer.drain(), 0.2)
    assert echo.heard == b"before"
    proxy.up.heal()
    assert await asyncio.wait_for(caller.reader.readexactly(10_000_000), 60) == b"y" * 10_000_000


async def test_what_comes_down_can_be_held_alone(echo: Echo, proxy: Proxy, caller: Caller) -> None:
    proxy.down.hold()
    caller.writer.write(b"abc")
    await until(lambda: echo.heard == b"abc", "the way up is open")
    await silent(caller, proxy)
    proxy.down.heal()
    assert await asyncio.wait_for(caller.reader.readexactly(3), 10) == b"abc"


@pytest.mark.parametrize("way", ["up", "down"])
async def test_what_is_dropped_is_gone_and_counted_and_a_connection_with_a_hole_stays_cut(
    echo: Echo, proxy: Proxy, caller: Caller, way: str
) -> None:
    assert await caller.says(b"before") == b"before"
    hurt = getattr(proxy, way)
    hurt.drop()
    caller.writer.write(b"abc")
    await until(lambda: hurt.dropped_bytes == 3, "dropped")
    assert echo.heard == (b"before" if way == "up" else b"beforeabc")
    proxy.heal()
    caller.writer.write(b"def")
    await until(lambda: hurt.dropped_bytes == 6, "never after a hole")
    other = await call(proxy)
    assert await other.says(b"new ones pass") == b"new ones pass"
    other.writer.close()


async def test_a_delay_with_jitter_keeps_the_order(proxy: Proxy, caller: Caller) -> None:
    proxy.up.delay(0.05, 0.05)
    started = time.monotonic()
    for number in range(50):
        caller.writer.write(b"%03d" % number)
        await asyncio.sleep(0)
    data = await asyncio.wait_for(caller.reader.readexactly(150), 10)
    assert data == b"".join([b"%03d" % number for number in range(50)])
    proxy.up.delay(0.2)
    started = time.monotonic()
    await caller.says(b"x")
    assert time.monotonic() - started >= 0.2, "never early"


async def test_a_limited_line_takes_its_time(proxy: Proxy, caller: Caller) -> None:
    proxy.down.limit(100_000)
    started = time.monotonic()
    await caller.says(b"z" * 50_000)
    assert time.monotonic() - started >= 0.4, "never early"


async def test_a_reset_is_seen_by_both_sides(echo: Echo, proxy: Proxy, caller: Caller) -> None:
    assert await caller.says(b"x") == b"x"
    assert proxy.reset() == 1
    assert proxy.resets == 1
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(caller.reader.readexactly(1), 10)
    assert proxy.connections == 0


async def test_a_share_of_the_connections_is_reset(proxy: Proxy) -> None:
    callers = [await call(proxy) for _ in range(40)]
    for number, caller in enumerate(callers):
        data = b"%d" % number
        assert await caller.says(data) == data
    cut = proxy.reset(0.5)
    assert 5 < cut < 35
    assert proxy.connections == 40 - cut
    alive = 0
    for caller in callers:
        try:
            alive += await caller.says(b"x") == b"x"
        except (ConnectionError, asyncio.IncompleteReadError, RuntimeError):  # RuntimeError: uvloop, once it knows
            continue
        finally:
            caller.writer.close()
    assert alive == 40 - cut


async def test_new_connections_are_refused_and_counted_while_old_ones_live(
    echo: Echo, proxy: Proxy, caller: Caller
) -> None:
    assert await caller.says(b"x") == b"x"
    proxy.refuse()
    try:
        refused = await call(proxy)
    except ConnectionError:
        pass
    else:
        assert await refused.is_cut()
        refused.writer.close()
    await until(lambda: len(proxy.accepted_at) == 2, "counted")
    assert echo.talks == 1
    assert await caller.says(b"y") == b"y"
    proxy.heal()
    again = await call(proxy)
    assert await again.says(b"z") == b"z"
    again.writer.close()


async def test_a_dead_broker_behind_it_is_a_dead_connection_in_front(echo: Echo) -> None:
    with Proxy("127.0.0.1", 1) as proxy:
        with suppress(ConnectionResetError):  # cut before this loop could look
            caller = await call(proxy)
            assert await caller.is_cut()
            caller.writer.close()
        assert len(proxy.accepted_at) == 1


async def test_it_works_while_the_callers_loop_is_blocked(echo: Echo, proxy: Proxy, caller: Caller) -> None:
    seen: list[bytes] = []
    proxy.up.tap = seen.append
    assert await caller.says(b"x") == b"x"
    caller.writer.write(b"y" * 1_000)
    deadline = time.monotonic() + 10
    while sum(map(len, seen)) < 1_001:  # blocks this loop on purpose
        assert time.monotonic() < deadline
        time.sleep(0.001)  # noqa: ASYNC251 -- that is the point
    assert echo.heard == b"x"
