"""An endpoint with `overflow="latest"`: a client that is behind is left out what is outdated, and stays."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from attrs import define, field
from backplane_asgi import sse_endpoint, websocket_endpoint
from backplane_asgi._sockets.encoding import ChunkEncoding, FrameEncoding, StreamEncoding
from backplane_asgi._sockets.endings import SLOW
from backplane_asgi._sockets.flusher import flusher_of
from backplane_asgi._sockets.latest import LatestOutbound, make_outbound
from backplane_asgi._sockets.outbound import Limits, Outbound
from backplane_core import ConfigurationError, InMemoryBackplane, Target

USER, ROOM = Target.user("u1"), Target("room", "42")


@define
class Blocked:
    """A socket that takes nothing until it is told to."""

    written: list[Any] = field(factory=list[Any])
    is_blocked: bool = True

    def write_items(self, items: Sequence[Any]) -> int:
        if self.is_blocked:
            return 0
        self.written += items
        return 1


def limits(**changed: Any) -> Limits:
    chosen: dict[str, Any] = {"max_pending": 3, "max_pending_bytes": 1_000, "max_age_s": 60.0, "overflow": "latest"}
    return Limits(**{**chosen, **changed})


def outbound(**changed: Any) -> Outbound:
    flusher = flusher_of(asyncio.get_running_loop())
    return make_outbound("c1", StreamEncoding(), flusher, limits(**changed), closes_on_gap=False)


async def attached(backplane: InMemoryBackplane, socket: Outbound) -> None:
    socket.attachment = await backplane.attach_events(socket, USER, ROOM)


def texts(port: Blocked) -> list[str]:
    return [item.decode().removeprefix("data: ").strip() for item in port.written]


@pytest.mark.parametrize(
    ("conflate", "left"), [("full", ['["B",2]', '["A",3]', '["C",4]']), ("always", ['["B",2]', '["A",3]', '["C",4]'])]
)
async def test_a_client_that_is_behind_gets_the_newest_of_each_key_in_its_place(conflate: str, left: list[str]) -> None:
    port = Blocked()
    async with InMemoryBackplane() as backplane:
        socket = outbound(conflate=conflate)
        await attached(backplane, socket)
        async with socket.opened(port):
            for number, key in enumerate(("A", "A", "B", "A", "C")):
                assert await backplane.publish(USER, [key, number], key=key) == 1
            assert backplane.stats().conflated == 2
            port.is_blocked = False
            socket.resume()
            assert texts(port) == left
            assert (socket.ending, socket.bytes) == (None, 0)
            # What was written outdates nothing, and is outdated by nothing.
            port.is_blocked = True
            await backplane.publish(USER, 5, key="A")
            assert backplane.stats().conflated == 2
        socket.leave()


async def test_only_while_something_waits_and_of_one_target_alone() -> None:
    port = Blocked()
    async with InMemoryBackplane() as backplane:
        socket = outbound(conflate="always", max_pending=10)
        await attached(backplane, socket)
        async with socket.opened(port):
            for target, number in ((USER, 1), (ROOM, 2), (USER, 3)):
                await backplane.publish(target, number, key="A")
            await backplane.publish(USER, 4)
            socket.put_control(b"{}")
            socket.use_chunks(ChunkEncoding())
            await backplane.publish(ROOM, 5, key="A")
            port.is_blocked = False
            socket.resume()
        said = list(b"".join(port.written).split(b"\r\n")[1::2])
        assert said == [b"data: 3\n\n", b"data: 4\n\n", b"event: gap\ndata: {}\n\n", b"data: 5\n\n"]
        socket.leave()


async def test_one_that_is_behind_with_nothing_outdated_is_closed_as_too_slow() -> None:
    async with InMemoryBackplane() as backplane:
        socket = outbound()
        await attached(backplane, socket)
        async with socket.opened(Blocked()):
            for number in range(4):
                await backplane.publish(USER, number, key=str(number))
        assert socket.ending is SLOW
        assert backplane.connection_count == 0
        assert (backplane.stats().overflowed, backplane.stats().conflated) == (1, 0)
        assert not socket.accept(None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] -- not looked at
        socket.leave()


async def test_an_endpoint_that_does_not_ask_for_it_pays_nothing() -> None:
    flusher = flusher_of(asyncio.get_running_loop())
    plain = make_outbound("c1", FrameEncoding(), flusher, limits(overflow="close"), closes_on_gap=False)
    assert type(plain) is Outbound
    assert type(outbound()) is LatestOutbound


@pytest.mark.parametrize("endpoint", [websocket_endpoint, sse_endpoint])
def test_what_is_not_allowed_is_refused_when_the_endpoint_is_made(endpoint: Any) -> None:
    wrong: Any
    for wrong in ({"overflow": "drop_oldest"}, {"conflate": "always"}, {"overflow": "latest", "conflate": "never"}):
        with pytest.raises(ConfigurationError):
            endpoint(authenticate=None, **wrong)
