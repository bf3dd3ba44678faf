"""One event to every connection of a user, whichever pod holds it.

uv run examples/quickstart.py                         in memory
uv run examples/quickstart.py redis://localhost:6379  over a broker; nats://... works too
"""

import asyncio
import sys

from backplane_core import Target, connect


async def main(url: str | None) -> None:
    """Publish to three targets, and print what a connection with two of them gets."""
    async with (
        connect(url) as backplane,
        backplane.connection("conn-1", Target.user("u1"), Target.org("acme")) as connection,
    ):
        await backplane.publish(Target.user("u1"), {"kind": "job_status", "state": "done"})
        await backplane.publish(Target.org("acme"), {"kind": "announcement", "text": "Cake at five"})
        await backplane.publish(Target.user("u2"), {"kind": "invoice", "text": "not for u1"})
        await backplane.drain()  # nothing else is published: the loop below ends with the last event
        async for event in connection:  # a service: await websocket.send_text(event.text)
            print(event.text)


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else None))
