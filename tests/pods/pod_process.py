"""A pod in a process of its own, driven by lines of JSON: `python -m tests.pods.pod_process URL OPTIONS`.

In: `{"do": "attach", "conn": "c1", "targets": [["user", "u1"]]}`, `{"do": "publish", "target": ["user", "u1"],
"events": [...]}`, `{"do": "stop"}`. Out: an answer to each, and `{"conn": "c1", "event": ...}` for each event.
"""

from __future__ import annotations

import asyncio
import json
import sys
from functools import partial
from typing import Any

from backplane_core import Target, connect


def say(**line: Any) -> None:
    print(json.dumps(line), flush=True)  # noqa: T201 -- this is how it speaks


def tell(conn: str, event: Any) -> None:
    say(conn=conn, event=event)


async def main(url: str, options: dict[str, Any]) -> None:
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with connect(url, **options) as pod:
        say(state=pod.state)
        while line := await lines.readline():
            command = json.loads(line)
            if command["do"] == "stop":
                break
            if command["do"] == "attach":
                conn = command["conn"]
                await pod.attach(conn, partial(tell, conn))
                confirmed = [await pod.associate(conn, Target(*target)) for target in command["targets"]]
                say(confirmed=all(confirmed))
            elif command["do"] == "publish":
                counts = [await pod.publish(Target(*command["target"]), event) for event in command["events"]]
                await pod.flush(10)
                say(counts=counts)
    say(state=pod.state)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
