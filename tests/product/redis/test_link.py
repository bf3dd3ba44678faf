from __future__ import annotations

import asyncio
import logging
from typing import Any
from uuid import uuid4

import pytest
from backplane_core import AuthenticationError, TransportError
from backplane_redis import RedisTransport
from backplane_testservers import OwnBroker, RedisServer

from tests.conftest import StartServer
from tests.product.redis.reading import DEADLINE_S, admin_of, raised, reading, turns

pytestmark = pytest.mark.usefixtures("leaves_nothing")

FROZEN_WRITE_BYTES = 64 * 1024 * 1024  # more than the kernel's buffers of both sides take


@pytest.mark.usefixtures("read_path")
async def test_every_kind_of_payload_arrives_as_it_was_sent(redis_url: str, channel: str) -> None:
    payloads = [b"{}", b"", b"\r\n$3\r\n", b":1\r\n", b"\xff\x00", b"message", b"x" * 5_000_000]
    async with reading(redis_url) as (link, heard):
        await link.subscribe([channel])
        await link.send([(channel, payload) for payload in payloads])
        assert await heard.until(len(payloads)) == [(channel, payload) for payload in payloads]


@pytest.mark.usefixtures("read_path")
async def test_five_thousand_frames_keep_their_order(redis_url: str, channel: str) -> None:
    frames = [(f"{channel}:{n % 3}", b"%d" % n) for n in range(5_000)]
    async with reading(redis_url) as (link, heard), reading(redis_url) as (other, _):
        await link.subscribe([f"{channel}:{n}" for n in range(3)])
        for start in range(0, len(frames), 250):
            await other.send(frames[start : start + 250])
        assert await heard.until(len(frames)) == frames


@pytest.mark.usefixtures("read_path")
async def test_what_another_link_publishes_right_after_subscribe_returns_is_heard(redis_url: str, channel: str) -> None:
    async with reading(redis_url) as (link, heard), reading(redis_url) as (other, _):
        for n in range(100):
            await link.subscribe([f"{channel}:{n}"])
            await other.send([(f"{channel}:{n}", b"now")])
        assert await heard.until(100) == [(f"{channel}:{n}", b"now") for n in range(100)]


@pytest.mark.usefixtures("read_path")
async def test_a_batch_of_512_channels_is_subscribed_and_unsubscribed(redis_url: str, channel: str) -> None:
    channels = [f"{channel}:{n}" for n in range(512)]
    async with reading(redis_url) as (link, heard):
        await link.subscribe(channels)
        await link.send([(name, b"1") for name in channels])
        await heard.until(512)
        await link.unsubscribe(channels[1:])
        await link.send([(name, b"2") for name in reversed(channels)])
        assert (await heard.until(513))[512:] == [(channels[0], b"2")]


async def test_an_empty_batch_changes_nothing(redis_url: str, channel: str) -> None:
    async with reading(redis_url) as (link, heard):
        await link.subscribe([channel])
        await link.subscribe([])
        await link.unsubscribe([])
        await link.send([])
        await link.send([(channel, b"still heard")])
        assert await heard.until(1) == [(channel, b"still heard")]


async def test_a_channel_can_be_left_and_joined_again_at_once(redis_url: str, channel: str) -> None:
    async with reading(redis_url) as (link, heard):
        await link.subscribe([channel])
        await asyncio.gather(link.unsubscribe([channel]), link.subscribe([channel]))
        await link.send([(channel, b"back")])
        assert await heard.until(1) == [(channel, b"back")]


async def test_what_a_link_remembers_of_channels_is_bounded(redis_url: str, channel: str) -> None:
    async with reading(redis_url) as (link, _):
        for n in range(20):
            channels = [f"{channel}:{n}:{m}" for m in range(500)]
            await link.subscribe(channels)
            await link.send([(name, b"") for name in channels])
            await link.unsubscribe(channels)
        assert len(link._names) == 0  # pyright: ignore[reportPrivateUsage] -- memory shows nowhere else
        assert len(link._packer._heads) <= 4096  # pyright: ignore[reportPrivateUsage] -- likewise


async def test_more_channels_than_are_remembered_reach_their_own_subscriber(redis_url: str, channel: str) -> None:
    async with reading(redis_url) as (link, heard):
        await link.subscribe([f"{channel}:0", f"{channel}:8999"])
        await link.send([(f"{channel}:{n}", b"%d" % n) for n in (*range(9_000), 0)])
        assert await heard.until(3) == [
            (f"{channel}:0", b"0"),
            (f"{channel}:8999", b"8999"),
            (f"{channel}:0", b"0"),
        ]


@pytest.mark.usefixtures("read_path")
async def test_a_killed_server_ends_receive_and_every_pending_and_later_call(redis_server: OwnBroker) -> None:
    async with reading(redis_server.url) as (link, heard):
        await link.subscribe(["a"])
        redis_server.freeze()
        pending = [
            asyncio.create_task(link.send([("a", b"1")])),
            asyncio.create_task(link.subscribe(["b"])),
            asyncio.create_task(link.unsubscribe(["a"])),
        ]
        await turns()
        redis_server.kill()
        address = f"{redis_server.host}:{redis_server.port}"
        for error in [await heard.death(), *[await raised(task) for task in pending]]:
            assert error.retryable
            assert address in str(error)
        redis_server.restart()
        # redis-py would connect anew here, in silence and without the subscriptions.
        await raised(link.send([("a", b"2")]))
        await raised(link.subscribe(["c"]))
        await raised(link.unsubscribe(["a"]))
        assert "dead" in repr(link)


@pytest.mark.every_loop
@pytest.mark.usefixtures("read_path")
async def test_a_socket_that_closed_a_moment_ago_is_a_dead_link_whatever_the_loop_raises(
    redis_url: str, channel: str
) -> None:
    async with reading(redis_url) as (link, heard):
        connection: Any = link._connection  # pyright: ignore[reportPrivateUsage] -- nothing public closes it so
        connection._writer.transport.abort()
        await asyncio.sleep(0)  # the transport is told, and wakes who reads it: that comes after us
        await raised(link.send([(channel, b"1")]))
        await raised(link.subscribe([channel]))
        await heard.death()


@pytest.mark.usefixtures("read_path")
async def test_a_cut_link_dies_and_says_why(redis_server: OwnBroker) -> None:
    async with reading(redis_server.url) as (link, heard), admin_of(redis_server.url) as admin:
        await link.subscribe(["a"])
        await admin.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        assert "CLIENT KILL" in str(await heard.death())


@pytest.mark.every_loop
async def test_a_send_cancelled_amid_its_write_to_a_frozen_server_leaves_nothing(redis_server: OwnBroker) -> None:
    async with reading(redis_server.url) as (link, _):
        redis_server.freeze()
        sending = asyncio.create_task(link.send([("a", b"x" * FROZEN_WRITE_BYTES)]))
        await turns()
        assert not sending.done()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        redis_server.thaw()
        # Where the write itself was cut short the link is dead. From 3.12 on some Pythons buffer all of it at once:
        # then it lives, and the next send waits for its own reply.
        try:
            await link.send([("a", b"1")])
        except TransportError:
            assert "dead" in repr(link)
        else:
            assert "live" in repr(link)


@pytest.mark.every_loop
async def test_a_link_to_a_frozen_server_is_closed_at_once(redis_server: OwnBroker) -> None:
    async with reading(redis_server.url) as (link, _):
        redis_server.freeze()
        sending = asyncio.create_task(link.send([("a", b"x" * FROZEN_WRITE_BYTES)]))
        await turns()
        async with asyncio.timeout(2):
            await link.aclose()
            await link.aclose()
        await raised(sending)


async def test_closing_a_link_that_nobody_reads_wakes_who_waits(redis_url: str) -> None:
    link = await RedisTransport(redis_url).open()
    pending = asyncio.create_task(link.subscribe(["a"]))
    await turns()
    await link.aclose()
    assert "it was closed" in str(await raised(pending))
    assert "it was closed" in str(await raised(link.send([("a", b"1")])))


async def test_the_replies_of_a_cancelled_send_do_not_confirm_the_next_one(redis_server: OwnBroker) -> None:
    async with reading(redis_server.url) as (link, heard):
        await link.subscribe(["a"])
        redis_server.freeze()
        sending = asyncio.create_task(link.send([("a", b"%d" % n + b"x" * 500) for n in range(3_000)]))
        await turns()
        sending.cancel()
        redis_server.thaw()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await link.send([("a", b"last")])
        # Redis answers in order: the last reply means that all before it was heard.
        assert len(heard.frames) == 3_001
        assert heard.frames[-1] == ("a", b"last")


@pytest.mark.usefixtures("read_path")
async def test_pending_calls_raise_when_nobody_reads_any_more(redis_server: OwnBroker) -> None:
    async with reading(redis_server.url) as (link, heard):
        redis_server.freeze()
        pending = [
            asyncio.create_task(link.subscribe(["a"])),
            asyncio.create_task(link.send([("a", b"1")])),
        ]
        await turns()
        heard.task.cancel()
        for task in pending:
            await raised(task)
        await raised(link.send([("a", b"2")]))


async def test_while_the_reader_is_busy_frames_wait_at_the_broker(redis_url: str, channel: str) -> None:
    link = await RedisTransport(redis_url, connection_kwargs={"client_name": f"busy-{uuid4().hex}"}).open()
    async with reading(redis_url) as (other, _), admin_of(redis_url) as admin:
        batches = link.receive()
        first = asyncio.ensure_future(anext(batches))
        await link.subscribe([channel])
        await other.send([(channel, b"x" * 1000) for _ in range(20_000)])
        count = len(await first)
        assert count < 5_000
        waiting_bytes = sum(int(client["omem"]) for client in await admin.client_list(_type="pubsub"))
        assert waiting_bytes > 1_000_000
        async with asyncio.timeout(DEADLINE_S):
            while count < 20_000:
                count += len(await anext(batches))
        await link.aclose()
        await raised(anext(batches))  # type: ignore[arg-type]  # an awaitable is enough


@pytest.mark.usefixtures("read_path")
@pytest.mark.parametrize(
    ("rules", "allowed", "refused"),
    [
        ("+subscribe", "SUBSCRIBE", "PUBLISH"),
        ("+publish", "PUBLISH", "SUBSCRIBE"),
    ],
)
async def test_a_missing_permission_is_named(start: StartServer, rules: str, allowed: str, refused: str) -> None:
    user = f"user pod on >sekret resetchannels &mine* -@all +client|setname {rules}"
    server = start(RedisServer(extra=[user]))
    url = server.url.replace("//", "//pod:sekret@")
    async with reading(url) as (link, heard):
        calls = {"SUBSCRIBE": link.subscribe(["mine:1"]), "PUBLISH": link.send([("mine:1", b"payload")])}
        await calls[allowed]
        error = await raised(calls[refused])
        assert f"{refused} on channel 'mine:1' was refused (NOPERM)" in str(error)
        assert f"+{refused.lower()}" in str(error)
        assert type(error) is AuthenticationError
        assert str(await heard.death()) == str(error)


@pytest.mark.usefixtures("read_path")
async def test_the_refused_one_of_many_frames_is_named(start: StartServer) -> None:
    user = "user pod on >sekret resetchannels &mine* -@all +client|setname +publish +subscribe"
    server = start(RedisServer(extra=[user]))
    async with reading(server.url.replace("//", "//pod:sekret@")) as (link, _):
        frames = [("mine:1", b"1"), ("mine:2", b"2"), ("theirs:3", b"3"), ("mine:4", b"4")]
        error = await raised(link.send(frames))
        assert "PUBLISH on channel 'theirs:3' was refused (NOPERM)" in str(error)
        assert "&theirs:3" in str(error)


@pytest.mark.usefixtures("read_path")
async def test_what_was_confirmed_before_a_refusal_stays_confirmed(start: StartServer) -> None:
    user = "user pod on >sekret resetchannels &mine* -@all +client|setname +publish +subscribe"
    server = start(RedisServer(extra=[user]))
    async with reading(server.url.replace("//", "//pod:sekret@")) as (link, _):
        server.freeze()  # so that all replies come in one read
        calls = [link.subscribe(["mine:1"]), link.send([("mine:1", b"1")]), link.send([("theirs:2", b"2")])]
        fine, sent, refused = [asyncio.create_task(call) for call in calls]
        await turns()
        server.thaw()
        error = await raised(refused)
        assert "PUBLISH on channel 'theirs:2' was refused" in str(error)
        await fine
        await sent


@pytest.mark.usefixtures("read_path")
async def test_payloads_stay_out_of_logs_and_errors(start: StartServer, caplog: pytest.LogCaptureFixture) -> None:
    # A server without PUBLISH quotes its arguments in the error.
    server = start(RedisServer(extra=['rename-command PUBLISH ""']))
    other = start(RedisServer())
    caplog.set_level(logging.DEBUG)
    async with reading(server.url) as (link, heard):
        error = await raised(link.send([("a", b"hush-hush")]))
        assert "it knows no PUBLISH: is that renamed there" in str(error)
        assert not error.retryable
        assert "hush" not in str(error) + str(await heard.death())
    async with reading(other.url) as (link, heard):
        await link.subscribe(["a"])
        await link.send([("a", b"hush-hush")])
        await heard.until(1)
    assert "hush" not in caplog.text


async def test_the_client_name_and_database_of_the_url_are_used(redis_server: OwnBroker) -> None:
    async with admin_of(redis_server.url) as admin:
        async with reading(redis_server.url):
            assert "backplane" in [client["name"] for client in await admin.client_list()]
        async with reading(f"{redis_server.url}/3?client_name=pod-7"):
            assert ("pod-7", "3") in [(client["name"], client["db"]) for client in await admin.client_list()]
