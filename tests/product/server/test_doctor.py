"""`backplane doctor` finds what is wrong with a broker or a fleet, and says what to change."""

from __future__ import annotations

from typing import Any

import pytest
from backplane_core import connect
from backplane_testservers import Broker, NatsServer, OwnBroker, RedisCluster, RedisServer, SentinelSet, free_port

from tests.conftest import StartServer
from tests.product.server.commands import Ended, backplane
from tests.support.redis_admin import execute
from tests.support.sockets import attach

KEYS = "0123456789abcdef0123456789abcdef"


def problems(ended: Ended) -> list[tuple[str, str]]:
    assert ended.code == 1, ended
    found: Any = backplane_json(ended)
    assert found["ok"] is False
    return [(it["step"], it["text"]) for it in found["findings"] if it["level"] == "problem"]


def backplane_json(ended: Ended) -> Any:
    return Ended(0, ended.out, ended.err).json


async def test_a_healthy_fleet_has_no_problem(shared_broker: Broker, channel: str) -> None:
    async with connect(shared_broker.url, channel=channel, pod_name="web-1") as pod:
        await attach(pod, "a")
        found = (await backplane("doctor", "--json", url=shared_broker.url, channel=channel)).json
        assert found["ok"]
        texts = {it["step"]: it["text"] for it in found["findings"]}
        assert shared_broker.url.rpartition(":")[2] in texts["broker"]
        assert texts["round trip"].startswith("20 events from pod to pod")
        assert texts["fleet"] == "1 other pod with 1 connection"
        ended = await backplane("doctor", shared_broker.url, channel=channel)
        assert ended.code == 0
        assert ended.out.startswith("ok      connect     connected in ")
        assert ended.err == ""


async def test_a_pod_that_routes_otherwise_is_named(shared_broker: Broker, channel: str) -> None:
    async with connect(shared_broker.url, channel=channel, pod_name="web-1", routing="interest"):
        ended = await backplane("doctor", "--json", url=shared_broker.url, channel=channel)
        assert any("web-1 uses routing=interest" in text for step, text in problems(ended) if step == "fleet")


@pytest.mark.parametrize("signs", ["pod", "doctor"])
async def test_a_fleet_with_other_keys_is_noticed(shared_broker: Broker, channel: str, signs: str) -> None:
    keys = [KEYS] if signs == "pod" else None
    env = {} if signs == "pod" else {"BACKPLANE_SIGNING_KEYS": KEYS}
    async with connect(shared_broker.url, channel=channel, signing_keys=keys, probe_interval_s=0.5):
        ended = await backplane("doctor", "--json", "--wait", "3", url=shared_broker.url, channel=channel, env=env)
        assert any("signing_keys" in text for step, text in problems(ended) if step == "fleet")
        assert KEYS not in ended.out + ended.err


async def test_what_redis_does_not_grant_is_named(start: StartServer) -> None:
    server = start(RedisServer(password="pw"))
    execute(server.url, "ACL", "SETUSER", "pod", "on", ">pw", "&other", "+@all")
    ended = await backplane("doctor", "--json", url=server.url.replace(":pw@", "pod:pw@"))
    assert any("backplane" in text for _, text in problems(ended))
    assert "NOPERM" in ended.out


async def test_what_nats_does_not_grant_is_named(start: StartServer) -> None:
    users = '[{user: pod, password: pw, permissions: {publish: {deny: ">"}, subscribe: ">"}}]'
    server = start(NatsServer(extra=[f"authorization: {{users: {users}}}"]))
    ended = await backplane("doctor", "--json", "--timeout", "3", url=server.url.replace("://", "://pod:pw@"))
    assert any("grant publish" in text for _, text in problems(ended))


async def test_a_risky_setting_is_advice_and_no_failure(redis_server: OwnBroker) -> None:
    execute(redis_server.url, "CONFIG", "SET", "client-output-buffer-limit", "pubsub 0 0 0")
    ended = await backplane("doctor", url=redis_server.url)
    assert ended.code == 0
    assert "set pubsub 32mb 8mb 60" in ended.out
    assert ended.out.endswith("everything works; 1 to consider\n")


@pytest.mark.parametrize("kind", [SentinelSet, RedisCluster])
async def test_of_a_log_with_replicas_each_node_is_asked_what_a_failover_needs(
    kind: type[SentinelSet | RedisCluster], streams_url: str
) -> None:
    del streams_url  # says that there is a Redis with streams here
    with kind(replicas=1) as nodes:
        over_streams = nodes.url.replace("://", "+streams://", 1)
        ended = await backplane("doctor", "--json", url=over_streams)
        wheres = {f"{node.host}:{node.port}" for node in nodes.nodes}
    found = ended.json
    assert found["ok"]
    advice = [it["text"] for it in found["findings"] if it["level"] == "advice"]
    for what in ("set appendonly yes", "set min-replicas-to-write 1"):
        assert {text.partition(": ")[0] for text in advice if what in text} == wheres


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://127.0.0.1:{port}", "nothing listens there"),
        ("redsi://:s3cret@h", "did you mean redis://?"),
        ("redis://:s3cret@h:x", "port"),
        ("nats://127.0.0.1:{port}", "127.0.0.1"),
    ],
)
async def test_a_broker_that_can_not_be_reached_is_a_problem(url: str, said: str) -> None:
    ended = await backplane("doctor", url.format(port=free_port()), "--json", "--timeout", "0.5")
    ((_, text),) = problems(ended)
    assert said in text
    assert "s3cret" not in ended.out + ended.err


async def test_a_broker_that_froze_is_a_problem(redis_server: OwnBroker) -> None:
    redis_server.freeze()
    try:
        ended = await backplane("doctor", redis_server.url, "--json", "--timeout", "0.5")
    finally:
        redis_server.thaw()
    ((step, _),) = problems(ended)
    assert step == "connect"
