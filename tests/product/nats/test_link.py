# What is held back is looked at; and the types of nats-py have holes.
# pyright: reportPrivateUsage=false, reportUnknownMemberType=false, reportUnknownVariableType=false
from __future__ import annotations

import asyncio
import functools
from typing import Any

import nats
import pytest
from backplane_core import AuthenticationError, ConfigurationError, Frame, Link, Lost, RefusedError, TransportError
from backplane_core.sockets import Inbox
from backplane_nats._inline_io import InlineIO
from backplane_nats._public_io import PublicIO
from backplane_testservers import NatsServer, OwnBroker
from backplane_testservers.leftovers import no_leftovers

from tests.conftest import StartServer
from tests.product.nats.helpers import DEADLINE_S, PROMPT_S, Tap, listening, opened, tapped
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("client_io")


@pytest.mark.every_loop
async def test_each_way_is_taken_when_asked_for(nats_url: str, client_io: str) -> None:
    async with opened(nats_url) as link:
        assert isinstance(link._io, InlineIO if client_io == "inline" else PublicIO)
        assert isinstance(link, Link)


async def test_a_frame_arrives_at_others_and_at_its_sender(nats_url: str, channel: str) -> None:
    async with (
        opened(nats_url) as one,
        opened(nats_url) as other,
        listening(one) as at_one,
        listening(other) as at_other,
    ):
        await one.subscribe([channel])
        await other.subscribe([channel])
        await one.send([(channel, b"\r\nMSG x 1 2\r\n\x00\xff"), (channel, b"")])
        expected = [(channel, b"\r\nMSG x 1 2\r\n\x00\xff"), (channel, b"")]
        assert await at_one.until(2) == expected
        assert await at_other.until(2) == expected


async def test_five_thousand_frames_arrive_in_order(nats_url: str, channel: str) -> None:
    frames = [(channel, b"%d" % number) for number in range(5_000)]
    async with opened(nats_url) as sender, opened(nats_url) as receiver, listening(receiver) as listener:
        await receiver.subscribe([channel])
        for at in range(0, len(frames), 700):
            await sender.send(frames[at : at + 700])
        assert await listener.until(len(frames)) == frames


async def test_what_is_sent_after_subscribe_returned_arrives(nats_url: str, channel: str) -> None:
    channels = [f"{channel}:{number}" for number in range(100)]
    async with opened(nats_url) as sender, opened(nats_url) as receiver, listening(receiver) as listener:
        for name in channels:
            await receiver.subscribe([name])
            await sender.send([(name, name.encode())])
        assert await listener.until(100) == [(name, name.encode()) for name in channels]


async def test_many_channels_are_subscribed_in_one_call_and_given_up_in_one(nats_url: str, channel: str) -> None:
    channels = [f"{channel}:{number}" for number in range(512)]
    async with opened(nats_url) as link, listening(link) as listener:
        await link.subscribe(channels)
        await link.send([(name, b"1") for name in channels])
        assert await listener.until(512) == [(name, b"1") for name in channels]
        await link.unsubscribe(channels[1:])
        await link.send([(name, b"2") for name in reversed(channels)])
        assert (await listener.until(513))[512:] == [(channels[0], b"2")]


async def test_subscribing_again_gives_one_copy_and_unsubscribing_twice_is_harmless(
    nats_url: str, channel: str
) -> None:
    async with opened(nats_url) as link, listening(link) as listener:
        await link.subscribe([channel])
        await link.subscribe([channel, f"{channel}:end"])
        await link.send([(channel, b"1"), (f"{channel}:end", b"")])
        assert await listener.until(2) == [(channel, b"1"), (f"{channel}:end", b"")]
        await link.unsubscribe([channel])
        await link.unsubscribe([channel, "never:heard"])
        await link.subscribe([channel])
        await link.send([(channel, b"2")])
        assert (await listener.until(3))[2:] == [(channel, b"2")]


async def test_a_channel_is_the_subject_with_dots_and_headers_are_skipped(nats_url: str, channel: str) -> None:
    subject = channel.replace(":", ".")
    texts = [b"from outside", b"with headers", b"with both", b"from a link"]
    async with opened(nats_url) as link, listening(link) as listener, await nats.connect(nats_url) as client:
        await link.subscribe([channel])
        heard = await client.subscribe(subject)
        await client.publish(subject, texts[0], reply="an.inbox")
        await client.publish(subject, texts[1], headers={"Trace": "1"})
        await client.publish(subject, texts[2], headers={"Trace": "1"}, reply="12")
        # The PING of the first one may overtake what it should confirm.
        await client.flush()
        await client.flush()
        await link.send([(channel, texts[3])])
        assert [(await heard.next_msg(DEADLINE_S)).data for _ in texts] == texts
        assert await listener.until(4) == [(channel, text) for text in texts]


@pytest.mark.parametrize("name", ["a b", "a\r\nPUB x 0", "a:*", "a:>", "", "a::b", ":a", "a.b", "ä"])
async def test_no_name_becomes_a_wildcard_or_a_command(nats_url: str, name: str) -> None:
    async with opened(nats_url) as link:
        with pytest.raises(ConfigurationError):
            await link.subscribe([name])
        with pytest.raises(ConfigurationError):
            await link.send([(name, b"")])


@pytest.mark.parametrize("piece_bytes", [1, 3, 7, 1000])
async def test_frames_survive_any_splitting_of_the_stream(start: StartServer, piece_bytes: int) -> None:
    server = start(NatsServer())
    frames: list[Frame] = [("c:1", b"x" * size) for size in (0, 1, 2, 9, 10, 99, 100, 3000)]
    async with (
        tapped(server.port, piece_bytes=piece_bytes) as (address, _),
        opened(f"nats://{address}") as link,
        listening(link) as listener,
    ):
        await link.subscribe(["c:1"])
        for _ in range(3):
            await link.send(frames)
        assert await listener.until(24) == frames * 3


def said(tap: Tap) -> bytes:
    """Return what the link said of itself: the server asks with PINGs of its own, whenever it likes."""
    return tap.said.replace(b"PONG\r\n", b"")


async def test_the_ping_that_confirms_goes_out_behind_what_it_confirms(start: StartServer) -> None:
    server = start(NatsServer())
    async with tapped(server.port) as (address, tap), opened(f"nats://{address}") as link:
        for number in range(20):
            tap.said = b""
            await link.send([("c", b"%d" % number)] * (1 + number * 10))
            assert said(tap).endswith(b"PING\r\n")
            assert tap.said.count(b"PUB ") == 1 + number * 10
            tap.said = b""
            await link.subscribe([f"c:{number}"])
            assert said(tap).startswith(b"SUB ")
            assert said(tap).endswith(b"PING\r\n")
            tap.said = b""
            await link.unsubscribe([f"c:{number}"])
            assert said(tap).startswith(b"UNSUB ")
            assert said(tap).endswith(b"PING\r\n")


async def test_the_ping_stays_behind_when_the_socket_is_full(start: StartServer) -> None:
    server = start(NatsServer())
    async with tapped(server.port) as (address, tap), opened(f"nats://{address}") as link:
        tap.reads.clear()
        calls = [asyncio.create_task(link.send([("c", b"x" * 100_000)] * 100))]
        await asyncio.wait(calls, timeout=0.1)
        calls.append(asyncio.create_task(link.subscribe(["d"])))
        await asyncio.wait(calls, timeout=0.1)
        assert not any(call.done() for call in calls)
        tap.reads.set()
        async with asyncio.timeout(DEADLINE_S):
            await asyncio.gather(*calls)
        assert b"PING" in tap.said[tap.said.index(b"SUB d ") :]


async def test_concurrent_calls_are_all_confirmed(nats_url: str, channel: str) -> None:
    async with opened(nats_url) as link, listening(link) as listener:
        async with asyncio.timeout(DEADLINE_S):
            await link.subscribe([channel])
            await asyncio.gather(
                *(link.subscribe([f"{channel}:{number}"]) for number in range(50)),
                link.send([(channel, b"1")] * 100),
                *(link.unsubscribe([f"{channel}:x{number}"]) for number in range(50)),
            )
            await link.send([(f"{channel}:{number}", b"2") for number in range(50)])
        assert len(await listener.until(150)) == 150


async def test_the_largest_frame_passes_and_a_larger_one_raises_and_harms_nobody(start: StartServer) -> None:
    server = start(NatsServer(max_payload=100_000))
    async with opened(server.url) as link, listening(link) as listener:
        await link.subscribe(["c"])
        await link.send([("c", b"x" * 100_000)])
        with pytest.raises(RefusedError, match="max_payload"):
            await link.send([("c", b"y" * 100_001)])
        await link.send([("c", b"z")])
        assert await listener.until(2) == [("c", b"x" * 100_000), ("c", b"z")]


async def test_a_killed_server_is_noticed_at_once_by_all_calls(nats_server: OwnBroker) -> None:
    async with opened(nats_server.url) as link, listening(link) as listener:
        await link.subscribe(["c"])
        nats_server.kill()
        error = await listener.error()
        assert "closed the connection" in str(error)
        assert error.retryable
        async with asyncio.timeout(PROMPT_S):
            for call in (link.send([("c", b"")]), link.subscribe(["d"]), link.unsubscribe(["c"])):
                with pytest.raises(TransportError):
                    await call


async def test_a_death_is_noticed_by_callbacks_alone_too(
    nats_server: OwnBroker, monkeypatch: pytest.MonkeyPatch
) -> None:

    def no_tasks(_client: object) -> list[asyncio.Task[None]]:
        return []

    monkeypatch.setattr("backplane_nats._link.get_tasks", no_tasks)
    async with opened(nats_server.url) as link, listening(link) as listener:
        nats_server.kill()
        await listener.error()


async def test_calls_that_wait_for_a_frozen_server_raise_when_it_is_killed(nats_server: OwnBroker) -> None:
    async with opened(nats_server.url) as link, listening(link) as listener:
        nats_server.freeze()
        calls = [
            asyncio.create_task(link.send([("c", b"x" * 1000)] * 5000)),
            asyncio.create_task(link.subscribe(["c"])),
            asyncio.create_task(link.unsubscribe(["d"])),
        ]
        await asyncio.wait(calls, timeout=0.1)
        assert not any(call.done() for call in calls)
        nats_server.kill()
        async with asyncio.timeout(PROMPT_S):
            for call in calls:
                with pytest.raises(TransportError):
                    await call
        await listener.error()


@pytest.mark.every_loop
@pytest.mark.parametrize("client_io", ["inline"], indirect=True)  # by the public way nats-py itself logs uvloop's error
async def test_a_socket_that_closed_a_moment_ago_is_a_dead_link_whatever_the_loop_raises(nats_url: str) -> None:
    async with opened(nats_url) as link, listening(link) as listener:
        client: Any = link._client
        client._transport._io_writer.transport.abort()
        await asyncio.sleep(0)  # the transport is told, and wakes who reads it: that comes after us
        with pytest.raises(TransportError, match="closed the connection") as caught:
            await link.send([("c", b"1")])
        assert caught.value.retryable
        with pytest.raises(TransportError):
            await link.subscribe(["c"])
        await listener.error()


async def test_what_arrived_is_yielded_before_the_error(nats_server: OwnBroker) -> None:
    async with opened(nats_server.url) as link:
        await link.subscribe(["c"])
        await link.send([("c", b"1"), ("c", b"2")])
        nats_server.kill()
        async with listening(link) as listener:
            await listener.error()
            assert listener.items[:2] == [("c", b"1"), ("c", b"2")]


@pytest.mark.every_loop
async def test_a_frozen_server_holds_up_neither_a_cancelled_send_nor_closing(nats_server: OwnBroker) -> None:
    loop = asyncio.get_running_loop()
    async with no_leftovers(), opened(nats_server.url) as link, listening(link) as listener:
        await link.subscribe(["c"])
        nats_server.freeze()
        # More than the kernel's buffers take.
        send = asyncio.create_task(link.send([("c", b"x" * 100_000)] * 100))
        await asyncio.wait({send}, timeout=0.1)
        assert not send.done()
        began = loop.time()
        send.cancel()
        with pytest.raises(asyncio.CancelledError):
            await send
        waiting = asyncio.create_task(link.subscribe(["d"]))
        await asyncio.wait({waiting}, timeout=0.05)
        await link.aclose()
        assert loop.time() - began < PROMPT_S
        with pytest.raises(TransportError):
            await waiting
        assert "was closed" in str(await listener.error())


async def test_all_calls_that_wait_raise_whoever_tells_of_the_end(nats_server: OwnBroker) -> None:
    async with opened(nats_server.url) as link:
        nats_server.freeze()
        calls = [asyncio.create_task(link.send([("c", b"")])) for _ in range(3)]
        await until(lambda: len(link._unconfirmed) == len(calls), "all wait")
        async with asyncio.timeout(DEADLINE_S):
            asyncio.get_running_loop().call_soon(link._end, None)  # no task: each call goes on at once
            for outcome in await asyncio.gather(*calls, return_exceptions=True):
                assert isinstance(outcome, TransportError)


async def test_a_cancelled_call_does_not_harm_the_link(nats_server: OwnBroker) -> None:
    async with opened(nats_server.url) as link, listening(link) as listener:
        await link.subscribe(["c"])
        nats_server.freeze()
        calls = [
            asyncio.create_task(link.send([("c", b"cancelled")])),
            asyncio.create_task(link.subscribe(["d"])),
        ]
        await asyncio.wait(calls, timeout=0.1)
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)
        assert all(call.cancelled() for call in calls)
        nats_server.thaw()
        async with asyncio.timeout(DEADLINE_S):
            await link.subscribe(["d"])
            await link.send([("d", b"1")])
        # The cancelled send had been written; `d` is heard once, although asked for twice.
        assert await listener.until(2) == [("c", b"cancelled"), ("d", b"1")]


async def test_closing_twice_and_closing_a_dead_link_are_fine(nats_server: OwnBroker) -> None:
    async with opened(nats_server.url) as link:
        await link.aclose()
        with pytest.raises(TransportError, match="was closed"):
            await link.send([("c", b"")])
    async with opened(nats_server.url) as link:
        nats_server.kill()


PERMISSIONS = """authorization {users: [{user: u, password: pw-6f1c, permissions: {
  publish: {allow: ["ok.>", "c"]}, subscribe: {allow: ["ok.>", "c", "_INBOX.>"]}}}]}"""


async def test_a_denied_subscription_is_refused_alone(start: StartServer) -> None:
    server = start(NatsServer(extra=[PERMISSIONS]))
    async with opened(server.url.replace("://", "://u:pw-6f1c@")) as link, listening(link) as listener:
        await link.subscribe(["ok:1"])
        for _ in range(2):
            with pytest.raises(RefusedError, match=r'may not subscribe to "denied\.one"') as caught:
                await link.subscribe(["ok:2", "denied:one"])
            assert [(one.index, one.is_denied) for one in caught.value.refusals] == [(1, True)]
            assert not caught.value.ends_link
        await link.send([("ok:1", b"1"), ("ok:2", b"2")])
        assert await listener.until(2) == [("ok:1", b"1"), ("ok:2", b"2")]


async def test_a_denied_publish_is_refused_alone(start: StartServer) -> None:
    server = start(NatsServer(extra=[PERMISSIONS]))
    async with opened(server.url.replace("://", "://u:pw-6f1c@")) as link, listening(link) as listener:
        await link.subscribe(["c"])
        with pytest.raises(RefusedError, match=r'may not publish on "denied"') as caught:
            await link.send([("c", b"1"), ("denied", b""), ("c", b"2"), ("denied", b"")])
        assert [(one.index, one.is_denied) for one in caught.value.refusals] == [(1, True), (3, True)]
        await link.send([("c", b"3")])
        assert await listener.until(3) == [("c", b"1"), ("c", b"2"), ("c", b"3")]


async def test_a_frame_over_the_limit_is_refused_alone(start: StartServer) -> None:
    server = start(NatsServer(max_payload=1_000))
    async with opened(server.url) as link, listening(link) as listener:
        await link.subscribe(["c"])
        with pytest.raises(RefusedError, match="1000 bytes at most") as caught:
            await link.send([("c", b"x" * 1_001), ("c", b"1"), ("c", b"x" * 1_001)])
        assert [(one.index, one.is_denied) for one in caught.value.refusals] == [(0, False), (2, False)]
        assert await listener.until(1) == [("c", b"1")]


@pytest.mark.parametrize("with_end", [True, False])
async def test_the_last_words_of_a_server_are_the_reason(start: StartServer, *, with_end: bool) -> None:
    server = start(NatsServer())
    async with tapped(server.port) as (address, tap), opened(f"nats://{address}") as link, listening(link) as listener:
        tap.writers[0].write(b"-ERR 'User Authentication Expired'\r\n")
        if with_end:
            tap.writers[0].write_eof()
        error = await listener.error()
        assert isinstance(error, AuthenticationError)
        assert "user authentication expired" in str(error)


async def test_nonsense_from_the_server_ends_the_link_and_not_in_silence(start: StartServer) -> None:
    server = start(NatsServer())
    async with tapped(server.port) as (address, tap), opened(f"nats://{address}") as link, listening(link) as listener:
        tap.writers[0].write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        assert "protocol error" in str(await listener.error())


async def test_a_reader_that_is_too_slow_learns_what_was_dropped_or_holds_up_the_stream(
    nats_url: str, channel: str, client_io: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backplane_nats._link.Inbox", functools.partial(Inbox, max_messages=100, pause_bytes=100_000))
    other = f"{channel}:other"
    frames: list[Frame] = [(channel, b"%06d" % number + b"x" * 1000) for number in range(4_000)]
    async with opened(nats_url) as sender, opened(nats_url) as receiver:
        await receiver.subscribe([channel, other])
        await sender.send([*frames, (other, b"")])
        if client_io == "public":
            async with asyncio.timeout(DEADLINE_S):
                while receiver._inbox._lost.get(other) is None:
                    await sender.send([])  # a round trip: the receiver has no event for what it has not read
            async with listening(receiver) as listener:
                items = await listener.until(102)
                assert items[:100] == frames[:100]
                assert [(item.channel, item.missed) for item in items[100:] if isinstance(item, Lost)] == [
                    (channel, 3_900),
                    (other, 1),
                ]
                await sender.send([(channel, b"again")])
                assert (await listener.until(103))[102:] == [(channel, b"again")]
        else:
            async with asyncio.timeout(DEADLINE_S):
                while receiver._inbox._size <= 100_000:
                    await sender.send([])
            client: Any = receiver._client
            assert not client._transport._io_writer.transport.is_reading()
            assert len(receiver._inbox.frames) < 500, "what it may keep, and one read of the socket more"
            async with listening(receiver) as listener:
                assert await listener.until(4_001) == [*frames, (other, b"")]


async def test_a_stream_that_is_held_up_can_be_closed(
    nats_url: str, channel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backplane_nats._link.Inbox", functools.partial(Inbox, pause_bytes=1))
    async with opened(nats_url) as sender, opened(nats_url) as receiver:
        await receiver.subscribe([channel])
        for _ in range(5):
            await sender.send([(channel, b"x" * 1000)] * 100)
        async with asyncio.timeout(PROMPT_S):
            await receiver.aclose()
