"""A pod that is told to go amid its work: what it accepted is sent, and it says how much that was."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from backplane_core import Gap, Target, connect
from backplane_testservers import Broker

from tests.conftest import loop_name
from tests.support.waiting import until

ROOT = Path(__file__).parents[3]

# What a host's own program does: SIGINT cancels an `asyncio.Runner` by itself, an orchestrator's SIGTERM is made to.
PROGRAM = """
import asyncio, importlib, json, signal, sys
from backplane_core import Target, connect

async def main(url, options):
    task = asyncio.current_task()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    accepted = 0
    pod = None
    try:
        async with connect(url, **options) as pod:
            print("live", flush=True)
            while True:
                await pod.publish(Target.user("u1"), accepted)
                accepted += 1
    finally:
        print(json.dumps({"accepted": accepted, "state": pod.state, "dropped": dict(pod.stats().dropped)}), flush=True)

try:
    with asyncio.Runner(loop_factory=importlib.import_module(sys.argv[3]).new_event_loop) as runner:
        runner.run(main(sys.argv[1], json.loads(sys.argv[2])))
except (KeyboardInterrupt, asyncio.CancelledError):
    pass
"""


@pytest.mark.every_loop
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_pod_that_is_signalled_amid_publishing_sends_all_that_it_accepted(
    leaves_nothing: None, shared_broker: Broker, channel: str, number: signal.Signals
) -> None:
    async with connect(shared_broker.url, channel=channel) as there:
        got: list[int] = []
        gaps: list[Gap] = []
        await there.attach("c1", got.append, on_gap=gaps.append)
        assert await there.associate("c1", Target.user("u1"))
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-c", PROGRAM, shared_broker.url, json.dumps({"channel": channel}), loop_name()),
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
        )
        try:
            assert process.stdout is not None
            async with asyncio.timeout(30):
                assert await process.stdout.readline() == b"live\n"
                await until(lambda: len(got) > 1_000, "traffic")
                process.send_signal(number)
                told: dict[str, Any] = json.loads(await process.stdout.readline())
                assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert told["state"] == "closed"
        assert told["dropped"] == {}
        # The signal may have come between an event's acceptance and its count.
        await until(lambda: len(got) >= told["accepted"], "all that was accepted")
        assert got == list(range(len(got)))
        assert len(got) - told["accepted"] in {0, 1}
        assert gaps == []
