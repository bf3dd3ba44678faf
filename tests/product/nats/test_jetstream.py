"""JetStream under a fleet: streams that are made, adjusted or wrong, rights, limits, a cluster without its leader."""

from __future__ import annotations

import asyncio
import shutil
from functools import partial
from typing import Any

import pytest
from backplane_core import (
    AuthenticationError,
    ConfigurationError,
    Publisher,
    Retention,
    SyncPublisher,
    TransportError,
    connect,
)
from backplane_nats import JetStreamTransport
from backplane_nats._jetstream.definition import make_definition
from backplane_nats._jetstream.lane import Lane
from backplane_nats._jetstream.place import Entry, Place
from backplane_testservers import NatsCluster, NatsServer
from backplane_testservers.tls import Certificates

from tests.conftest import StartServer
from tests.product.logs.servers import JetStreamServer
from tests.product.logs.traffic import USER, fleet
from tests.support.sockets import Socket, attach
from tests.support.waiting import until

TIME = "2026-01-02T03:04:05_678Z"
TAG = "0badcafe"

NEEDED = """
authorization: {users: [{user: pod, password: pod, permissions: {
  publish: [ROOT, "ROOT.>", "$JS.API.STREAM.INFO.*", "$JS.API.STREAM.CREATE.*", "$JS.API.STREAM.UPDATE.*",
            "$JS.API.STREAM.MSG.GET.*", "$JS.API.DIRECT.GET.*"],
  subscribe: ["ROOT.>", "_INBOX.>"]}}]}
"""


def entry(number: int) -> Entry:
    return Entry(number, TIME, b"%d" % number)


def test_a_lane_hands_over_what_follows_and_reads_what_it_did_not_hear() -> None:
    lane = Lane("c")
    assert lane.hear(entry(5)) is None, "nobody knows yet where it begins"
    lane.begin(Place(6, TIME, TAG), 6)
    assert lane.hear(entry(7)) == ("c", b"7", f"7/{TIME}/{TAG}")
    assert lane.hear(entry(7)) is None, "a copy"
    assert lane.hear(entry(10)) is None
    assert lane.is_behind
    assert [frame[1] for frame in lane.read({8: entry(8), 10: entry(10)}) if isinstance(frame, tuple)] == [b"8"]
    lane.is_reading = True
    assert lane.hear(entry(9)) is None, "it is being read, and would come twice"
    lane.is_reading = False
    lost = lane.skip(9, "gone")
    assert (lost.missed, lost.cause) == (1, "trimmed")
    assert len(lane.read({10: entry(10)})) == 1
    assert not lane.is_behind
    assert lane.hear(entry(11)) is not None


@pytest.mark.parametrize(
    "cursor", ["", "1", "1/2/3", f"-1/{TIME}/{TAG}", f"1/{TIME}/{TAG}/", f"1/\n/{TAG}", f"٣//{TAG}"]
)
def test_what_is_no_cursor_is_not_taken_for_one(cursor: str) -> None:
    with pytest.raises(ValueError, match=r"cursor|unpack"):
        Place.parse(cursor)


@pytest.mark.parametrize(
    ("options", "allowed"),
    [
        ({"retain_entries": 0}, "retain_entries is"),
        ({"retain_s": True}, "retain_entries is"),
        ({"storage": "tape"}, "'file' or 'memory'"),
        ({"replicas": 6}, "from 1 to 5"),
        ({"replicas": "many"}, "from 1 to 5"),
    ],
    ids=str,
)
def test_a_wrong_option_says_what_is_allowed(options: dict[str, Any], allowed: str) -> None:
    with pytest.raises(ConfigurationError, match=allowed):
        JetStreamTransport("nats+jetstream://localhost", **options)


def test_a_wrong_url_or_routing_is_an_error_at_once_and_shows_no_secret() -> None:
    assert repr(JetStreamTransport("tls+jetstream://u:s3cr3t@a,b:4223")) == (
        "JetStreamTransport('tls+jetstream://u:***@a:4222,tls+jetstream://u:***@b:4223')"
    )
    for url in ("nats+jetstream://u:s3cr3t@host:port", "nats://u:s3cr3t@host"):
        with pytest.raises(ConfigurationError) as caught:
            JetStreamTransport(url)
        assert "s3cr3t" not in str(caught.value)
    with pytest.raises(ConfigurationError, match="routing='interest'"):
        connect("nats+jetstream://localhost", routing="interest")


async def test_a_stream_is_adjusted_to_what_the_options_say(jetstream_server: NatsServer, channel: str) -> None:
    server = JetStreamServer(jetstream_server)
    for entries in (500, 200):
        async with connect(server.url, channel=channel, lanes=1, transport_options={"retain_entries": entries}):
            info = await server.ask(f"STREAM.INFO.{channel.replace(':', '+')}")
            assert info["config"]["max_msgs"] == entries


async def test_a_stream_of_another_kind_is_an_error_that_says_how_it_differs(
    jetstream_server: NatsServer, channel: str
) -> None:
    server = JetStreamServer(jetstream_server)
    async with connect(server.url, channel=channel, transport_options={"storage": "memory"}):
        pass
    with pytest.raises(TransportError, match="its storage is memory, not file") as caught:
        await connect(server.url, channel=channel)
    assert not caught.value.retryable


async def test_a_stream_of_somebody_else_on_the_same_subject_is_an_error(
    jetstream_server: NatsServer, channel: str
) -> None:
    server = JetStreamServer(jetstream_server)
    await server.ask("STREAM.CREATE.theirs", {"name": "theirs", "subjects": [f"{channel.replace(':', '.')}.>"]})
    with pytest.raises(TransportError, match="another stream keeps what belongs to"):
        await connect(server.url, channel=channel)


async def test_a_server_without_jetstream_is_named(nats_url: str, channel: str) -> None:
    with pytest.raises(TransportError, match="JetStream is off") as caught:
        await connect(nats_url.replace("://", "+jetstream://"), channel=channel)
    assert not caught.value.retryable


async def test_the_rights_that_the_page_names_are_enough(start: StartServer, channel: str) -> None:
    rights = NEEDED.replace("ROOT", channel.replace(":", "."))
    server = start(NatsServer(jetstream=True, extra=[rights]))
    url = server.url.replace("nats://", "nats+jetstream://pod:pod@")
    async with fleet(url, channel) as traffic:
        await traffic.publish(100)
        await traffic.settle()
        traffic.assert_whole()
    # The same streams, with other limits.
    async with connect(url, channel=channel, transport_options={"retain_entries": 50}):
        pass


@pytest.mark.parametrize("right", ["STREAM.INFO", "STREAM.CREATE"])
async def test_a_user_without_a_right_learns_which_it_is(start: StartServer, channel: str, right: str) -> None:
    rights = NEEDED.replace("ROOT", channel.replace(":", ".")).replace(f'"$JS.API.{right}.*",', "")
    server = start(NatsServer(jetstream=True, extra=[rights]))
    with pytest.raises(AuthenticationError, match=f"(?i)publish on .*{right}"):
        await connect(server.url.replace("nats://", "nats+jetstream://pod:pod@"), channel=channel)


async def test_a_fleet_that_signs_goes_over_tls_and_hears_publishers_of_both_kinds(
    start: StartServer, certificates: Certificates, channel: str
) -> None:
    server = start(NatsServer(jetstream=True, tls=certificates.server))
    url = f"{server.url.replace('tls://', 'tls+jetstream://')}?ca={certificates.server.ca}"
    options: dict[str, Any] = {"channel": channel, "signing_keys": [b"one key of the fleet, of 32 bytes"]}

    def publish() -> None:
        with SyncPublisher(url, **options) as publisher:
            publisher.publish(USER, "sync")
            publisher.flush(timeout_s=10)

    async with fleet(url, **options) as traffic:
        async with Publisher(url, **options) as publisher:
            await publisher.publish(USER, "async")
            await publisher.flush(timeout_s=10)
        await asyncio.to_thread(publish)
        for socket in traffic.sockets:
            await until(lambda socket=socket: len(socket.events) == 2, "both come")  # type: ignore[misc]
            assert sorted(socket.events) == ["async", "sync"]
            assert not socket.gaps


async def test_a_fleet_changes_over_from_plain_nats_pod_by_pod(jetstream_server: NatsServer, channel: str) -> None:
    server = JetStreamServer(jetstream_server)
    async with (
        connect(jetstream_server.url, channel=channel, lanes=8) as plain,
        connect(server.url, channel=channel) as over_log,
    ):
        sockets = [await attach(pod, "c", USER) for pod in (plain, over_log)]
        for number in range(50):
            await (plain, over_log)[number % 2].publish(USER, number)
        for socket in sockets:
            await until(lambda socket=socket: len(socket.events) == 50, "both hear all")  # type: ignore[misc]
            assert sorted(socket.events) == [*range(50)]
            assert not socket.gaps
        assert plain.stats().mismatch == over_log.stats().mismatch == 0


async def test_a_server_that_is_put_back_to_an_older_state_costs_no_event(
    jetstream_server: NatsServer, channel: str
) -> None:
    """Its streams lack their ends, as those of one that lost its power: what they had is sent again."""
    url = JetStreamServer(jetstream_server).url
    store, kept = jetstream_server.directory / "jetstream", jetstream_server.directory / "kept"
    async with fleet(url, channel) as traffic:
        await traffic.publish(300)
        await traffic.settle()
        links = traffic.links
        await asyncio.to_thread(jetstream_server.stop)
        shutil.copytree(store, kept)
        await asyncio.to_thread(jetstream_server.start)
        await traffic.live_again(links)
        await traffic.publish(300)
        await traffic.settle()
        links = traffic.links
        await asyncio.to_thread(jetstream_server.kill)
        shutil.rmtree(store)
        kept.rename(store)
        await asyncio.to_thread(jetstream_server.start)
        await traffic.live_again(links)
        await traffic.publish(300)
        await traffic.settle()
        traffic.assert_whole()
        assert sum([pod.stats().duplicates for pod in traffic.pods]) > 0


async def test_a_stream_without_room_makes_senders_wait_and_breaks_no_order(
    jetstream_server: NatsServer, channel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backplane_nats._jetstream.writer.RETRY_S", 0.02)
    server = JetStreamServer(jetstream_server)
    name = channel.replace(":", "+")
    async with fleet(server.url, channel, lanes=1) as traffic:
        await traffic.publish(30)
        await traffic.settle()
        links = traffic.links
        config = (await server.ask(f"STREAM.INFO.{name}"))["config"]
        full = {**config, "discard": "new", "max_msgs": 10}
        await server.ask(f"STREAM.UPDATE.{name}", full)
        await traffic.publish(300)
        with pytest.raises(TimeoutError):
            await traffic.pods[0].flush(timeout_s=0.3)
        await server.ask(f"STREAM.UPDATE.{name}", config)
        await traffic.settle()
        assert traffic.links == links
        traffic.assert_whole()


async def test_a_frame_that_a_stream_refuses_is_counted_and_a_gap_for_the_others(
    jetstream_server: NatsServer, channel: str
) -> None:
    server = JetStreamServer(jetstream_server)
    name = channel.replace(":", "+")
    async with fleet(server.url, channel, lanes=1) as traffic:
        await traffic.publish(30)
        await traffic.settle()
        config = (await server.ask(f"STREAM.INFO.{name}"))["config"]
        await server.ask(f"STREAM.UPDATE.{name}", {**config, "max_msg_size": 5_000})
        here = traffic.pods[0]
        await here.publish(USER, "x" * 10_000)
        await traffic.publish(30)
        await until(lambda: here.stats().dropped.get("refused") == 1, "it is counted")
        for socket in traffic.sockets[1:]:
            await until(partial(_has_gap, socket), "a gap says so")
            assert [gap.missed for gap in socket.gaps] == [1]


def _has_gap(socket: Socket) -> bool:
    return bool(socket.gaps)


async def test_a_cluster_that_loses_the_leader_of_a_stream_costs_no_event(channel: str, start: StartServer) -> None:
    with NatsCluster(options={"jetstream": True}) as cluster:
        server = JetStreamServer(cluster.nodes[0])
        options: dict[str, Any] = {"lanes": 2, "connect_timeout_s": 30, "transport_options": {"replicas": 3}}
        async with fleet(cluster.url.replace("nats://", "nats+jetstream://"), channel, **options) as traffic:
            await traffic.publish(200)
            await traffic.settle()
            info = await server.ask(f"STREAM.INFO.{channel.replace(':', '+')}+@0")
            assert info["config"]["num_replicas"] == 3
            leader = next(node for node in cluster.nodes if node.name == info["cluster"]["leader"])
            publishing = asyncio.create_task(traffic.publish(1_500))
            await asyncio.sleep(0.05)
            await asyncio.to_thread(leader.kill)
            await publishing
            await until(lambda: all(pod.state == "live" for pod in traffic.pods), "the pods are live", 60)
            await traffic.settle()
            await asyncio.to_thread(leader.start)
            await traffic.publish(100)
            await traffic.settle()
            traffic.assert_whole()


async def test_settings_that_break_a_promise_are_warned_of_once(
    jetstream_server: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    transport = JetStreamTransport(JetStreamServer(jetstream_server).url, storage="memory")
    for _ in range(2):
        await (await transport.open()).aclose()
    [warning] = [record.getMessage() for record in caplog.records]
    assert "set storage='file', or replicas=3" in warning
    [alone] = make_definition(Retention.parse(entries=1, max_bytes=None, age_s=None), "file", 1).find_weaknesses(
        is_clustered=True
    )
    assert "replicas=3" in alone
    assert not make_definition(Retention.parse(entries=1, max_bytes=None, age_s=None), "memory", 3).find_weaknesses(
        is_clustered=True
    )
