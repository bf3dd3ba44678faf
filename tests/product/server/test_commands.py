"""The commands reach a fleet over a real broker, and say what came of it."""

from __future__ import annotations

import signal

import pytest
from backplane_core import ClosedByFleetError, Target, connect
from backplane_testservers import Broker, OwnBroker

from tests.product.server.commands import backplane, running
from tests.support.sockets import attach
from tests.support.waiting import until

ANN = Target.user("ann")


async def test_an_event_reaches_the_connections_of_its_targets_and_the_receipt_counts_them(
    shared_broker: Broker, channel: str
) -> None:
    async with connect(shared_broker.url, channel=channel, pod_name="web-1") as pod:
        sockets = [await attach(pod, name, ANN) for name in ("one", "two", "left-out")]
        command = ("publish", "user:ann", '{"kind": "é"}', "--also", "room:42", "--exclude", "left-out")
        ended = await backplane(*command, "--json", url=shared_broker.url, channel=channel)
        assert ended.json == {"delivered": 2, "by_pod": {"web-1": 2}, "missing": [], "complete": True}
        assert [await socket.has(1) for socket in sockets[:2]] == [[{"kind": "é"}], [{"kind": "é"}]]
        assert sockets[2].events == []
        ended = await backplane("publish", "user:bob", "1", url=shared_broker.url, channel=channel)
        assert ended.out == "delivered to 0 connections\n"


async def test_an_event_that_is_published_again_under_its_id_reaches_nobody_twice(redis_url: str, channel: str) -> None:
    async with connect(redis_url, channel=channel, pod_name="web-1") as pod:
        socket = await attach(pod, "one", ANN)
        for delivered in (1, 0):
            command = ("publish", "user:ann", '"done"', "--event-id", "job-7", "--json")
            ended = await backplane(*command, url=redis_url, channel=channel)
            assert (ended.json["delivered"], ended.json["complete"]) == (delivered, True)
        assert socket.events == ["done"]
        lines = await backplane("publish", "user:ann", "-", "--event-id", "x", url=redis_url, channel=channel, text="1")
        assert lines.code == 2
        assert "--event-id" in lines.err


async def test_lines_of_the_standard_input_are_published_in_order(shared_broker: Broker, channel: str) -> None:
    async with connect(shared_broker.url, channel=channel) as pod:
        socket = await attach(pod, "one", ANN)
        lines = "".join(f'{{"n":{number}}}\n\n' for number in range(300))
        ended = await backplane("publish", "user:ann", "-", url=shared_broker.url, channel=channel, text=lines)
        assert (ended.code, ended.out) == (0, "published 300 events\n")
        assert await socket.has(300) == [{"n": number} for number in range(300)]


async def test_a_line_that_is_no_json_is_named_and_what_came_before_it_is_published(
    redis_url: str, channel: str
) -> None:
    async with connect(redis_url, channel=channel) as pod:
        socket = await attach(pod, "one", ANN)
        ended = await backplane("publish", "user:ann", "-", url=redis_url, channel=channel, text="1\n2\nsecret\n4\n")
        assert ended.code == 1
        assert "line 3" in ended.err
        assert "secret" not in ended.err
        assert await socket.has(2) == [1, 2]


async def test_what_is_heard_is_printed_as_json_lines(shared_broker: Broker, channel: str) -> None:
    async with (
        connect(shared_broker.url, channel=channel) as pod,
        running("listen", "user:ann", "room:a:b", "--count", "3", url=shared_broker.url, channel=channel) as listening,
    ):
        await listening.says("listening to user:ann room:a:b")
        await pod.publish(ANN, {"n": 1})
        await pod.publish(Target("room", "a:b"), "two", key="k")
        await pod.publish(Target.user("bob"), "not for us")
        await pod.publish([Target.user("bob"), ANN], None)
        assert await listening.line() == {"event": {"n": 1}, "target": "user:ann"}
        assert await listening.line() == {"event": "two", "target": "room:a:b", "key": "k"}
        assert await listening.line() == {"event": None, "target": "user:ann"}
        assert (await listening.ended()).code == 0


async def test_events_alone_can_be_piped_on(redis_url: str, channel: str) -> None:
    async with (
        connect(redis_url, channel=channel) as pod,
        running("listen", "everyone", "--raw", "--count", "1", url=redis_url, channel=channel) as listening,
    ):
        await listening.says("listening")
        await pod.publish(Target.everyone(), {"n": 1})
        assert (await listening.ended()).out == '{"n":1}\n'


async def test_events_of_a_log_have_ids_from_which_another_run_goes_on(streams_url: str, channel: str) -> None:
    url = streams_url
    async with connect(url, channel=channel) as pod:
        async with running("listen", "user:ann", "--count", "1", url=url, channel=channel) as listening:
            await listening.says("listening")
            await pod.publish(ANN, 1)
            heard = await listening.line()
        await pod.publish(ANN, 2)
        await pod.flush(timeout_s=30)
        command = ("listen", "user:ann", "--count", "1", "--resume-from", heard["id"])
        ended = await backplane(*command, url=url, channel=channel)
        assert ended.json["event"] == 2


async def test_a_gap_is_a_line_too(broker: OwnBroker, channel: str) -> None:
    async with running("listen", "user:ann", url=broker.url, channel=channel) as listening:
        await listening.says("listening")
        broker.kill()
        broker.restart()
        gap = (await listening.line())["gap"]
        assert gap["cause"] == "reconnect"
        assert gap["since"] < gap["until"]


async def test_ctrl_c_ends_a_command_without_a_traceback(redis_url: str, channel: str) -> None:
    async with running("listen", "user:ann", url=redis_url, channel=channel) as listening:
        await listening.says("listening")
        listening.process.send_signal(signal.SIGINT)
        ended = await listening.ended()
        assert ended.code == 130
        assert "Traceback" not in ended.err


async def test_connections_and_pods_are_listed(shared_broker: Broker, channel: str) -> None:
    url = shared_broker.url
    async with (
        connect(url, channel=channel, pod_name="web-1") as one,
        connect(url, channel=channel, pod_name="web-2") as other,
    ):
        await one.attach("a", lambda _: None, info={"app": "web"})
        await one.associate("a", ANN)
        await attach(other, "b", ANN)
        await attach(other, "c")
        listed = (await backplane("who", "user:ann", "--json", url=url, channel=channel)).json
        found = [(it["pod"], it["conn_id"], it["info"]) for it in listed["connections"]]
        assert found == [("web-1", "a", {"app": "web"}), ("web-2", "b", None)]
        assert (listed["total"], listed["missing"], listed["complete"]) == (2, [], True)
        pods = (await backplane("pods", "--json", url=url, channel=channel)).json
        assert [(it["name"], it["connections"], it["state"]) for it in pods["pods"]] == [
            ("web-1", 1, "live"),
            ("web-2", 2, "live"),
        ]
        text = await backplane("who", "user:ann", url=url, channel=channel)
        assert text.out.startswith("2 connections of user:ann\nPOD ")
        text = await backplane("pods", url=url, channel=channel)
        assert text.out.startswith("2 pods with 3 connections\nPOD ")


async def test_a_pod_that_does_not_answer_is_named(redis_url: str, channel: str) -> None:
    async with (
        connect(redis_url, channel=channel, pod_name="web-1") as pod,
        connect(redis_url, channel=channel, pod_name="silent", remote_control=False),
    ):
        await attach(pod, "a", ANN)
        for command in (("who", "user:ann"), ("pods",), ("kick", "user:ann"), ("publish", "user:ann", "1")):
            ended = await backplane(*command, "--json", url=redis_url, channel=channel)
            assert ([it["pod"] for it in ended.json["missing"]], ended.json["complete"]) == (["silent"], False)
            assert "warning: silent has not answered: " in ended.err


async def test_connections_are_closed_on_every_pod_with_the_code(shared_broker: Broker, channel: str) -> None:
    url = shared_broker.url
    async with connect(url, channel=channel, pod_name="web-1") as pod, pod.connection("a", ANN) as connection:
        command = ("kick", "user:ann", "--code", "4001", "--reason", "signed out", "--json")
        ended = await backplane(*command, url=url, channel=channel)
        assert ended.json == {"closed": 1, "by_pod": {"web-1": 1}, "missing": [], "complete": True}
        with pytest.raises(ClosedByFleetError) as closed:
            await anext(connection)
        assert (closed.value.code, closed.value.reason) == (4001, "signed out")


async def test_everyone_is_closed_only_by_somebody_who_is_sure(redis_url: str, channel: str) -> None:
    async with connect(redis_url, channel=channel) as pod:
        await attach(pod, "a")
        ended = await backplane("kick", "everyone", url=redis_url, channel=channel)
        assert ended.code == 2
        assert "--yes" in ended.err
        assert pod.connection_count == 1
        ended = await backplane("kick", "everyone", "--yes", url=redis_url, channel=channel)
        assert ended.out == "closed 1 connection on 1 pod\n"
        await until(lambda: pod.connection_count == 0, "no connection")
