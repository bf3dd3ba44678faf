"""The hub of examples/own_transport.py keeps every promise of a transport, as one more adapter would."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Literal

import pytest
from attrs import define, field
from backplane_core import ConfigurationError, DistributedBackplane, Gap, Target, TransportError
from backplane_core.testing import FLEET_CHECKS, LINK_CHECKS, FleetCheck, LinkCheck

from examples import own_transport
from examples.own_transport import FRAME, MAX_PAYLOAD_BYTES, PING, SUBSCRIBE, HubTransport, record, serve_hub
from tests.project.examples.running import Example
from tests.support.waiting import until


@define
class HubHarness:
    """A hub in this process."""

    path: str
    _running: AsyncExitStack = field(factory=AsyncExitStack)
    _runs: bool = False

    def make(self) -> HubTransport:
        return HubTransport(f"hub://{self.path}")

    async def cut(self) -> None:
        await self._running.aclose()
        self._runs = False

    async def restore(self) -> None:
        if not self._runs:
            await self._running.enter_async_context(serve_hub(self.path))
            self._runs = True


@pytest.fixture
async def harness(leaves_nothing: None, tmp_path: Path) -> AsyncIterator[HubHarness]:
    harness = HubHarness(str(tmp_path / "app.sock"))
    await harness.restore()
    yield harness
    await harness.cut()


@pytest.mark.parametrize("check", LINK_CHECKS, ids=lambda check: check.__name__)
async def test_a_link_keeps_its_promise(harness: HubHarness, check: LinkCheck) -> None:
    await check(harness)


@pytest.mark.parametrize("routing", ["broadcast", "interest"])
@pytest.mark.parametrize("check", FLEET_CHECKS, ids=lambda check: check.__name__)
async def test_a_fleet_keeps_its_promise(
    harness: HubHarness, check: FleetCheck, routing: Literal["broadcast", "interest"]
) -> None:
    await check(harness, routing=routing)


# What is the hub's own.


async def hears_frames_of_others(harness: HubHarness) -> None:
    """Fail unless the hub still serves: a frame from one link reaches another."""
    async with (
        DistributedBackplane(harness.make()) as here,
        DistributedBackplane(harness.make()) as there,
        there.connection(None, Target.user("u1")) as connection,
        asyncio.timeout(10),
    ):
        await here.publish(Target.user("u1"), "hi")
        assert (await anext(connection)).value == "hi"


async def test_a_client_that_does_not_read_is_cut_and_the_others_notice_nothing(
    harness: HubHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_transport, "MAX_BEHIND_BYTES", 1024 * 1024)
    deaf_reader, deaf_writer = await asyncio.open_unix_connection(harness.path, limit=1)
    deaf_writer.write(record(SUBSCRIBE, "c") + record(PING))
    assert await deaf_reader.readexactly(7) == record(own_transport.PONG)
    deaf_writer.transport.pause_reading()  # type: ignore[attr-defined]
    link = await harness.make().open()
    received = 0

    async def read() -> None:
        nonlocal received
        async for batch in link.receive():
            received += len(batch)

    reader = asyncio.create_task(read())
    await link.subscribe(["c"])
    sent = 400
    for number in range(sent):
        await link.send([("c", b"%d" % number + bytes(10_000))])
    await until(lambda: received == sent, "all frames at the client that reads")
    deaf_writer.transport.resume_reading()  # type: ignore[attr-defined]
    got = 0

    async def read_what_is_left() -> None:
        nonlocal got
        while True:
            expected = record(FRAME, "c", b"%d" % got + bytes(10_000))
            # What comes before the cut comes whole and in order: nothing was skipped.
            assert await deaf_reader.readexactly(len(expected)) == expected
            got += 1

    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await asyncio.wait_for(read_what_is_left(), 10)
    assert 0 < got < sent
    deaf_writer.close()
    await link.aclose()
    with pytest.raises(TransportError):
        await reader


async def test_what_is_no_record_costs_its_sender_the_connection_and_nobody_else(harness: HubHarness) -> None:
    for words in (b"GET / HTTP/1.1\r\n\r\n", record(FRAME, "c", bytes(MAX_PAYLOAD_BYTES + 1)), b"\xff" * 64):
        reader, writer = await asyncio.open_unix_connection(harness.path)
        writer.write(words)
        async with asyncio.timeout(10):
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await reader.readexactly(1)
        writer.close()
        await hears_frames_of_others(harness)


async def test_a_payload_of_the_limit_arrives_and_one_byte_more_is_refused(harness: HubHarness) -> None:
    limit = HubTransport.traits.max_payload_bytes
    assert limit is not None
    link = await harness.make().open()
    payloads: list[bytes] = []

    async def read() -> None:
        async for batch in link.receive():
            payloads.extend([frame[1] for frame in batch if isinstance(frame, tuple)])

    reader = asyncio.create_task(read())
    await link.subscribe(["c"])
    largest = os.urandom(limit)
    await link.send([("c", largest)])
    await until(lambda: payloads == [largest], "the largest payload")
    with pytest.raises(TransportError):
        await link.send([("c", bytes(limit + 1))])
    with pytest.raises(TransportError):
        await reader
    await link.aclose()
    assert payloads == [largest]


async def test_the_hub_forgets_clients_and_channels(harness: HubHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = own_transport.Hub()
    monkeypatch.setattr(own_transport, "Hub", lambda: hub)
    await harness.cut()
    await harness.restore()
    async with DistributedBackplane(harness.make(), routing="interest") as pod:
        for number in range(50):
            async with pod.connection(None, Target.user(f"u{number}")):
                assert len(hub.hearers) >= 2
        await until(lambda: len(hub.hearers) == 1, "one channel, the shared one")
    await until(lambda: not hub.hearers and not hub.clients, "an empty hub")


async def test_a_second_hub_does_not_take_the_place_of_the_first(harness: HubHarness) -> None:
    with pytest.raises(BlockingIOError):
        await AsyncExitStack().enter_async_context(serve_hub(harness.path))
    await hears_frames_of_others(harness)


def test_the_socket_is_its_owners_alone(harness: HubHarness) -> None:
    assert stat.S_IMODE(Path(harness.path).stat().st_mode) == 0o600


@pytest.mark.parametrize("url", ["hub://relative.sock", "hub://", "unix:///run/app.sock", "/run/app.sock", ""])
def test_a_wrong_url_is_refused_before_anything_is_opened(url: str) -> None:
    with pytest.raises(ConfigurationError, match="hub:///run/app\\.sock"):
        HubTransport(url)


@pytest.mark.parametrize("name", ["nobody.sock", "x" * 200, "file"])
async def test_an_open_without_a_hub_says_so(leaves_nothing: None, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TransportError, match="no hub answers at"):
        await HubTransport(f"hub://{tmp_path / name}").open()


async def test_a_stale_socket_of_a_killed_hub_is_no_obstacle(leaves_nothing: None, tmp_path: Path) -> None:
    path = str(tmp_path / "app.sock")
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(path)
    async with serve_hub(path):
        await hears_frames_of_others(HubHarness(path))


# The hub as a process.


@pytest.fixture
def example() -> Example:
    return Example("own_transport.py")


@pytest.fixture
def hub_process(example: Example, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    with example.start("hub", str(tmp_path / "app.sock")) as process:
        try:
            assert process.stdout is not None
            assert "listens" in process.stdout.readline()
            yield process
        finally:
            process.kill()


async def test_a_frozen_hub_is_found_and_what_comes_after_it_arrives(
    leaves_nothing: None, hub_process: subprocess.Popen[str], tmp_path: Path
) -> None:
    harness = HubHarness(str(tmp_path / "app.sock"))
    stream: list[object] = []
    async with (
        DistributedBackplane(harness.make(), probe_interval_s=0.5, beat_s=0.1) as here,
        DistributedBackplane(harness.make(), probe_interval_s=0.5, beat_s=0.1) as there,
    ):
        await there.attach("conn-1", stream.append, on_gap=stream.append)
        hub_process.send_signal(signal.SIGSTOP)
        await there.wait_for_state("degraded", timeout_s=20)
        await here.wait_for_state("degraded", timeout_s=20)
        hub_process.send_signal(signal.SIGCONT)
        await there.wait_for_state("live", timeout_s=20)
        await here.wait_for_state("live", timeout_s=20)
        await here.publish(Target.connection("conn-1"), "after")
        await until(lambda: "after" in stream, "the event after the freeze")
    assert isinstance(stream[0], Gap)


def test_a_stopped_hub_says_nothing_and_leaves_nothing(example: Example, hub_process: subprocess.Popen[str]) -> None:
    hub_process.send_signal(signal.SIGINT)
    assert hub_process.communicate(timeout=30) == ("", "")
    assert hub_process.returncode == 0
    example.assert_gone()


# The demo.


def test_the_demo_shows_an_event_crossing_before_and_after_an_outage(example: Example) -> None:
    done = example.run()
    assert (done.returncode, done.stderr) == (0, "")
    # Without what each worker logs of its link, which comes at the same moment.
    lines = [line.strip() for line in done.stdout.splitlines() if ": pod '" not in line]
    assert lines.index("A> hello") < lines.index("B: hello") < lines.index("The hub is gone:")
    back = lines.index("The hub is back:")
    assert {line[:30] for line in lines[back + 1 : back + 3]} == {
        "A: events may be missing here:",
        "B: events may be missing here:",
    }
    assert lines.index("B> still there?") < lines.index("A: still there?")
    assert lines[-1] == (
        "An event crossed before and after the outage, and both workers were notified of the gap in between."
    )
    assert example.processes() == []


def test_the_demos_workers_go_with_it(example: Example) -> None:
    with example.start() as process:
        try:
            assert process.stdout is not None
            while "B: hello" not in (line := process.stdout.readline()):
                assert line, "the demo ended before an event crossed"
        finally:
            process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)
    example.assert_gone()


def test_another_command_line_is_answered_with_the_usage(example: Example) -> None:
    done = example.run("broker")
    assert done.returncode == 1
    assert "own_transport.py hub /run/app.sock" in done.stderr
