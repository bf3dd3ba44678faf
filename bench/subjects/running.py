"""What the code of several libraries has in common."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any

from attrs import frozen

from bench.events import nested, user_id
from bench.subjects.turn import Turn

__all__ = ["ClientSender", "WaitingSender", "reading", "topic"]


@asynccontextmanager
async def reading(coroutines: Iterable[Coroutine[Any, Any, None]]) -> AsyncGenerator[None]:
    """Run these, a task each, until the body is done; if one ends or fails before, so does the body.

    Raises:
        ExceptionGroup: One of them ended.
    """
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_endless(coroutine)) for coroutine in coroutines]
        yield
        for task in tasks:
            task.cancel()


async def _endless(coroutine: Coroutine[Any, Any, None]) -> None:
    await coroutine
    raise RuntimeError("a receiver's stream ended")


class WaitingSender:
    """A sender whose publish returns once the broker has the event."""

    async def settle(self, _: int, /) -> None:
        """Nothing is left to wait for."""


def topic(turn: Turn, user: str) -> str:
    """Return the channel of Redis, or the subject of NATS, that a user's events go to."""
    return f"{turn.channel}.{user}"


@frozen
class ClientSender:
    """A bare client's publishing side, as people write it."""

    client: Any
    turn: Turn

    async def publish(self, numbers: Iterable[int]) -> None:
        """`await client.publish(f"….{user}", json.dumps({…}).encode())`."""
        turn, client = self.turn, self.client
        if turn.flat:
            to = topic(turn, turn.users[0])
            for number in numbers:
                await client.publish(to, turn.json(number))
        else:
            for number in numbers:
                user = user_id(number)
                await client.publish(topic(turn, user), json.dumps(nested(number, user)).encode())
