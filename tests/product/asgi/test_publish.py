"""Publish, health and metrics by HTTP, at a real server."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.product.asgi.servers import serve

ANN = {"Authorization": "Bearer ann"}


async def test_what_is_posted_arrives_as_the_json_that_it_is() -> None:
    async with serve() as server, server.websocket("/ws?user=ann&conn_id=a") as one, server.websocket("/ws?user=ann"):
        event = '{"big": 12345678901234567890, "e": 1.10}'
        body = f'{{"exclude": ["nobody"], "event": {event}, "target": ["user:ann", "room:1"]}}'
        headers = {**ANN, "Content-Type": "application/json"}
        answer = await server.client.post("/publish", content=body, headers=headers)
        assert (answer.status_code, answer.json()) == (200, {"delivered": 2})
        assert await one.recv() == event
        others = {"target": "user:ann", "event": None, "exclude": ["a"]}
        assert (await server.client.post("/publish", json=others, headers=ANN)).json() == {"delivered": 1}


async def test_a_post_may_be_for_those_who_have_several_targets_and_leave_out_those_who_have_others() -> None:
    async with (
        serve() as server,
        server.websocket("/ws?user=ann&conn_id=a") as one,
        server.websocket("/ws?user=ann"),
    ):
        await one.send('{"backplane": "subscribe", "target": "room:1"}')
        assert "subscribed" in str(await one.recv())

        async def delivered(**body: object) -> int:
            answer = await server.client.post("/publish", json={"event": 1, **body}, headers=ANN)
            assert answer.status_code == 200, answer.text
            count: int = answer.json()["delivered"]
            return count

        assert await delivered(target="user:ann") == 2
        assert await delivered(target=[["user:ann", "room:1"]]) == 1
        assert await delivered(target=[["user:ann", "room:2"]]) == 0
        assert await delivered(target=[["user:ann", "room:2"], "room:1"]) == 1
        assert await delivered(target="user:ann", exclude_targets=["room:1"]) == 1
        assert await delivered(target="user:ann", exclude_targets=[["room:1", "room:2"]]) == 2
        assert await delivered(target="user:ann", exclude_targets=[["room:1", "connection:a"]]) == 1
        assert await delivered(target="user:ann", exclude=["a"], exclude_targets=["user:ann"]) == 0


@pytest.mark.parametrize("key", ["job-7", '"job-7"', '"a \\"quoted\\" one"'])
async def test_what_is_posted_again_under_its_key_reaches_nobody_twice(key: str) -> None:
    async with serve() as server, server.websocket("/ws?user=ann&conn_id=a") as socket:
        body = {"target": "user:ann", "event": "done"}
        headers = {**ANN, "Idempotency-Key": key}
        answers = [await server.client.post("/publish", json=body, headers=headers) for _ in range(3)]
        assert [answer.json() for answer in answers] == [{"delivered": 1}, {"delivered": 0}, {"delivered": 0}]
        other = await server.client.post("/publish", json={**body, "event": "last"}, headers=ANN)
        assert other.json() == {"delivered": 1}
        assert [await socket.recv() for _ in range(2)] == ['"done"', '"last"']
        assert await server.metric("backplane_repeated_events_total") == 2


@pytest.mark.parametrize("key", ["", '""', "x" * 1025])
async def test_a_key_that_is_none_is_named(key: str) -> None:
    async with serve() as server:
        body = {"target": "user:ann", "event": 1}
        answer = await server.client.post("/publish", json=body, headers={**ANN, "Idempotency-Key": key})
        assert answer.status_code == 422
        assert "event_id" in answer.json()["error"]


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        (b"nonsense", 422, "expected"),
        (b"[]", 422, "expected"),
        (b"{}", 422, "target"),
        (b'{"target": "user:ann"}', 422, "event"),
        (b'{"target": "user:ann", "event": 1, "more": 1}', 422, "more"),
        (b'{"target": "ann", "event": 1}', 422, "'ann' target"),
        (b'{"target": [], "event": 1}', 422, "target"),
        (b'{"target": "user:ann", "event": 1e999}', 422, ""),
        (b'{"target": "user:ann", "event": 1, "exclude": [""]}', 422, "exclude"),
        (b'{"target": [["user:ann"]], "event": 1}', 422, "2 to 8"),
        (b'{"target": [["user:ann", ["room:1"]]], "event": 1}', 422, "target"),
        (b'{"target": "user:ann", "event": 1, "exclude_targets": ["ann"]}', 422, "'ann' target"),
        (b'{"target": "user:ann", "event": 1, "exclude_targets": ["everyone"]}', 422, "everyone"),
        (b'{"target": "user:bob", "event": 1}', 403, "not allowed"),
        (b'{"target": [["user:ann", "user:bob"]], "event": 1}', 403, "not allowed"),
        (b'{"target": ["user:ann", "everyone"], "event": 1}', 403, "not allowed"),
        (b'{"target": "user:ann", "event": "' + b"x" * 200_000 + b'"}', 413, "200000"),
        (b"[" * 100_000, 422, ""),
    ],
    ids=lambda it: str(it)[:40],
)
async def test_what_is_wrong_is_named_and_nobody_gets_it(body: bytes, status: int, error: str) -> None:
    async with serve() as server:
        headers = {**ANN, "Content-Type": "application/json"}
        answer = await server.client.post("/publish", content=body, headers=headers)
        assert answer.status_code == status, answer.text
        assert error in answer.json()["error"]
        assert await server.metric("backplane_published_events_total") == 0


async def test_who_may_not_publish_gets_a_status() -> None:
    async with serve() as server:
        body = {"target": "user:ann", "event": 1}
        assert (await server.client.post("/publish", json=body)).status_code == 401
        mallory = {"Authorization": "Bearer mallory"}
        assert (await server.client.post("/publish", json=body, headers=mallory)).status_code == 403
        form = {**ANN, "Content-Type": "text/plain"}  # what a form of another site can send
        assert (await server.client.post("/publish", content=json.dumps(body), headers=form)).status_code == 415
        assert (await server.get("/publish", headers=ANN)).status_code == 405


async def test_all_series_are_there_from_the_start_with_help_and_type() -> None:
    async with serve() as server:
        text = (await server.get("/metrics")).text
        families = re.findall(
            r"^# HELP (\w+) .+\n# TYPE (\w+) (?:counter|gauge|histogram|summary)$", text, re.MULTILINE
        )
        assert all(name == again for name, again in families)
        named = {name for name, _ in families}
        assert len(named) == len(families) > 20
        for line in text.splitlines():
            if not line.startswith("#"):
                match = re.fullmatch(r'(\w+)(?:\{(\w+="[^"]*"(?:,\w+="[^"]*")*)\})? (\d+(?:\.\d+)?)', line)
                assert match, line
                assert re.sub(r"_(bucket|sum|count)$", "", match[1]) in named
        series: Any = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        for name in (
            'backplane_gaps_total{cause="reconnect"}',
            'backplane_dropped_events_total{cause="outbox"}',
            'backplane_gateway_closed_total{transport="websocket",code="1012"}',
            'backplane_gateway_connections{transport="sse"}',
            "backplane_overflowed_events_total",
        ):
            assert series[name] == "0"
        assert series["backplane_ready"] == "1"
        assert (await server.client.post("/metrics")).status_code == 405
