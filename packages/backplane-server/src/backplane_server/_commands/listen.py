"""`backplane listen`: prints what a connection with these targets receives, as JSON lines."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

import attrs
import typer
from attrs import frozen
from backplane_core import ClosedByFleetError, Connection, Event, Gap

from backplane_server._commands.opening import check_seconds, opened, read_targets
from backplane_server._commands.settings import BusSettings
from backplane_server._failure import MISUSED, Failure

__all__ = ["Listen"]

MAX_PENDING: Final = 10_000
"""Events that may wait for the reader of the output: a pager waits for its user, a pipe stalls for a moment."""


@frozen(kw_only=True)
class Listen:
    """What to listen to, and for how long.

    Args:
        targets: As text.
        count: Events after which it ends; None: never.
        seconds: Seconds after which it ends; None: never.
        raw: Whether only the events themselves are printed.
        resume_from: The id of the last event that was received; None: start with the next event.
    """

    targets: list[str]
    count: int | None
    seconds: float | None
    raw: bool
    resume_from: str | None

    async def do(self, settings: BusSettings) -> int:
        """Print events and gaps as they arrive, and return the exit code."""
        targets = read_targets(self.targets)
        if self.seconds is not None:
            check_seconds("--seconds", self.seconds)
        if self.count is not None and self.count < 1:
            raise Failure(f"--count {self.count} is not allowed", "write a whole number, at least 1", MISUSED)
        async with opened(settings, "listen") as backplane:
            connection = backplane.connection(
                None, *targets, max_pending=MAX_PENDING, overflow="drop_oldest", resume_from=self.resume_from
            )
            try:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self.seconds):
                        await _listen(connection, self)
            except ClosedByFleetError as error:
                reason = error.reason or "no reason given"
                raise Failure(f"closed by the fleet, with code {error.code}: {reason}") from None
        return 0


async def _listen(connection: Connection, asked: Listen) -> None:
    async with connection:
        typer.echo(f"listening to {' '.join(asked.targets)}; Ctrl-C ends it", err=True)
        left, lines = asked.count, list[bytes]()
        async for item in connection.items():
            if isinstance(item, Gap) and asked.raw:
                typer.echo(f"warning: events may be missing ({item.cause}): {item.reason}", err=True)
            else:
                lines.append(item.json if asked.raw and isinstance(item, Event) else b"".join(_line(item)))
            if left is not None and isinstance(item, Event):
                left -= 1
            if not connection.pending or left == 0:
                await asyncio.to_thread(_write, lines)
                lines = []
            if left == 0:
                return


def _line(item: Event | Gap) -> Iterator[bytes]:
    """Yield the parts of one line of JSON, with the event's own bytes unchanged."""
    if isinstance(item, Gap):
        yield json.dumps({"gap": attrs.asdict(item)}, separators=(",", ":")).encode()
        return
    yield b'{"event":'
    yield item.json
    for name, value in (("target", item.target and item.target.text), ("key", item.key), ("id", item.id)):
        if value is not None:
            yield b',"%b":%b' % (name.encode(), json.dumps(value, ensure_ascii=False).encode())
    yield b"}"


def _write(lines: list[bytes]) -> None:
    sys.stdout.buffer.writelines(line + b"\n" for line in lines)
    sys.stdout.buffer.flush()
