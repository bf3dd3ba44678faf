"""A pod in a process of its own, driven by lines of JSON: `python -m tests.product.pods.pod_process URL OPTIONS`.

In: `{"do": "attach", "conn": "c1", "targets": [["user", "u1"]]}`, `{"do": "publish", "target": ["user", "u1"],
"events": [...]}`, `{"do": "stream", "name": "p0", "targets": ["u1"], "rate": 200}` until `{"do": "quiet"}`,
`{"do": "step_clock", "by": 3600}`, `{"do": "count", "target": [...]}`, `{"do": "stats"}`, `{"do": "stop"}`.
Out: an answer to each, and
`{"conn": "c1", "event": ...}` for each event, `{"conn": "c1", "gap": [cause, since, until]}` for each gap,
`{"published": [name, target, n], "at": ...}` before each publish of the stream.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from contextlib import suppress
from functools import partial
from typing import Any

from attrs import define
from backplane_core import BaseBackplane, Gap, Target, connect


def say(**line: Any) -> None:
    print(json.dumps(line), flush=True)  # noqa: T201 -- this is how it speaks


def tell(conn: str, event: Any) -> None:
    say(conn=conn, event=event)


def tell_gap(conn: str, gap: Gap) -> None:
    say(conn=conn, gap=[gap.cause, gap.since, gap.until])


@define
class Driven:
    """A pod, and what it is told to do."""

    pod: BaseBackplane
    streaming: asyncio.Task[None] | None = None

    async def attach(self, conn: str, targets: list[list[str]]) -> None:
        await self.pod.attach(conn, partial(tell, conn), on_gap=partial(tell_gap, conn))
        confirmed = [await self.pod.associate(conn, Target(*target)) for target in targets]
        say(confirmed=all(confirmed))

    async def publish(self, target: list[str], events: list[Any]) -> None:
        counts = [await self.pod.publish(Target(*target), event) for event in events]
        await self.pod.flush(timeout_s=10)
        say(counts=counts)

    async def stream(self, name: str, targets: list[str], rate: float) -> None:
        self.streaming = asyncio.create_task(self._stream(name, targets, rate))
        say(streaming=name)

    async def _stream(self, name: str, targets: list[str], rate: float) -> None:
        for number in itertools.count():
            for target in targets:
                # The host's clock, also where `step_clock` has moved the pod's.
                say(published=[name, target, number], at=time.clock_gettime(time.CLOCK_REALTIME))
                await self.pod.publish(Target.user(target), [name, target, number])
                await asyncio.sleep(1 / rate)

    async def quiet(self) -> None:
        if self.streaming is not None:
            self.streaming.cancel()
            with suppress(asyncio.CancelledError):
                await self.streaming
        await self.pod.flush(timeout_s=30)
        say(quiet=True)

    async def step_clock(self, by: float) -> None:
        """The wall clock jumps, as when its host's is set; the monotonic one does not."""
        true_time = time.time
        time.time = lambda: true_time() + by
        say(stepped=by)

    async def count(self, target: list[str]) -> None:
        answers = await self.pod.fleet.count(Target(*target))
        say(by_pod=dict(answers.by_pod), missing=[pod.pod for pod in answers.missing])

    async def stats(self) -> None:
        stats = self.pod.stats()
        say(links=stats.links, dropped=dict(stats.dropped), gaps=dict(stats.gaps), connections=stats.connections)


async def main(url: str, options: dict[str, Any]) -> None:
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with connect(url, **options) as pod:
        driven = Driven(pod)
        say(state=pod.state)
        while line := await lines.readline():
            command: dict[str, Any] = json.loads(line)
            if (do := command.pop("do")) == "stop":
                break
            await getattr(driven, do)(**command)
    say(state=pod.state)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
