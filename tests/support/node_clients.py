"""Clients in a process of Node: told by lines of JSON what to do, they say by lines of JSON what happens to them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from attrs import define, field

from tests.support.waiting import DEADLINE_S, until

__all__ = ["NodeClients", "node_clients"]


@define(eq=False)
class NodeClients:
    """The clients of one process: what each has said, in order."""

    process: asyncio.subprocess.Process
    said: list[dict[str, Any]] = field(factory=list[dict[str, Any]])

    async def do(self, command: str, client: str, **more: Any) -> None:
        """Let a client do something."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": command, "client": client, **more}).encode() + b"\n")
        await self.process.stdin.drain()

    def all_of(self, client: str, **wanted: Any) -> list[dict[str, Any]]:
        """Return what a client has said that has these members."""
        return [it for it in self.said if it["client"] == client and wanted.items() <= it.items()]

    async def has(self, client: str, count: int = 1, **wanted: Any) -> dict[str, Any]:
        """Return the last of so many things that a client says with these members."""

        def has_come() -> bool:
            return len(self.all_of(client, **wanted)) >= count

        try:
            await until(has_come, f"{client}: {count} of {wanted}")
        except AssertionError as error:
            raise AssertionError(f"{error}; it said {self.all_of(client)}") from None
        return self.all_of(client, **wanted)[count - 1]

    async def read(self) -> None:
        """Note what they say, until the process ends."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.said.append(json.loads(line))


@asynccontextmanager
async def node_clients(program: Path) -> AsyncGenerator[NodeClients]:
    """Run a process for clients."""
    process = await asyncio.create_subprocess_exec(
        *("node", str(program)), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    made = NodeClients(process)
    reading = asyncio.create_task(made.read())
    try:
        await until(lambda: made.said, "the process is there")
        yield made
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(DEADLINE_S):
                await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
        await reading
