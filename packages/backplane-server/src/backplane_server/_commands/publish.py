"""`backplane publish`: one event with a receipt, or a stream of them from the standard input."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import BinaryIO, Final

import typer
from attrs import frozen
from backplane_core import BaseBackplane, EventEncodeError, Target

from backplane_server._commands.opening import check_seconds, opened, read_targets
from backplane_server._commands.settings import BusSettings
from backplane_server._commands.showing import plural, show_counts, show_json
from backplane_server._failure import FAILED, MISUSED, Failure

__all__ = ["Publish"]

AHEAD: Final = 100
"""Lines that are read ahead of the one that is being published."""


@frozen(kw_only=True)
class Publish:
    """What is to be published, and how.

    Args:
        targets: As text.
        event: JSON, or `-`: one on each line of the standard input.
        exclude: Ids of connections that must not get it.
        key: Events with the same key are replaced by newer ones; None: no key.
        event_id: The event's own id; None: each time it is another event.
        timeout_s: Seconds to wait for receipts, and for the broker's confirmation.
        as_json: Whether the receipt is JSON.
    """

    targets: list[str]
    event: str
    exclude: Sequence[str]
    key: str | None
    event_id: str | None
    timeout_s: float
    as_json: bool

    async def do(self, settings: BusSettings) -> int:
        """Publish, print how many connections accepted it, and return the exit code."""
        targets = read_targets(self.targets)
        check_seconds("--timeout", self.timeout_s)
        if self.event != "-":
            event = _read_event(self.event)
            async with opened(settings, "publish") as backplane:
                await _publish_one(backplane, targets, event, self)
            return 0
        if self.event_id is not None:
            raise Failure("--event-id is the id of one event, and these are many", "publish them one by one", MISUSED)
        async with opened(settings, "publish") as backplane:
            count = await _publish_lines(backplane, targets, self)
        if self.as_json:
            show_json({"published": count})
        else:
            typer.echo(f"published {plural(count, 'event')}")
        return 0


def _read_event(text: str) -> object:
    with suppress(ValueError, RecursionError):
        return json.loads(text)
    # Nothing of it is quoted.
    raise Failure(
        "the event is not JSON", """quote it for your shell: '{"kind":"ready"}', and a text '"hello"'""", MISUSED
    )


async def _publish_one(backplane: BaseBackplane, targets: Sequence[Target], event: object, asked: Publish) -> None:
    receipt = await backplane.fleet.publish(
        targets,
        event,
        exclude=asked.exclude,
        key=asked.key,
        event_id=asked.event_id,
        timeout_s=asked.timeout_s,
    )
    await _confirmed(backplane, asked.timeout_s)
    show_counts(receipt, "delivered", "delivered to", as_json=asked.as_json)


async def _publish_lines(backplane: BaseBackplane, targets: Sequence[Target], asked: Publish) -> int:
    count = 0
    async for number, line in _lines(sys.stdin.buffer):
        try:
            await backplane.publish_json(targets, line, exclude=asked.exclude, key=asked.key)
        except EventEncodeError as error:
            raise Failure(
                f"line {number}: {error}", f"the {count} lines before it were published; write one JSON value per line"
            ) from None
        count += 1
    await _confirmed(backplane, asked.timeout_s)
    return count


async def _confirmed(backplane: BaseBackplane, timeout_s: float) -> None:
    try:
        await backplane.flush(timeout_s=timeout_s)
    except TimeoutError as error:
        raise Failure(
            f"the broker has not confirmed it within {timeout_s:g} s: {error}",
            "run `backplane doctor` to find out more",
        ) from None
    if dropped := {cause: count for cause, count in backplane.stats().dropped.items() if count}:
        causes = ", ".join(f"{count} {cause}" for cause, count in dropped.items())
        raise Failure(f"the broker did not accept it: {causes}", "run `backplane doctor` to find out more", FAILED)


async def _lines(stream: BinaryIO) -> AsyncIterator[tuple[int, bytes]]:
    """Yield the lines that are not blank, with their numbers.

    A daemon thread reads them: it may block in a read for ever, and must not keep the process alive after Ctrl-C.
    """
    loop, queue = asyncio.get_running_loop(), asyncio.Queue[bytes](AHEAD)

    def read() -> None:
        # RuntimeError: the loop has ended.
        with suppress(RuntimeError):
            while True:
                line = stream.readline()
                asyncio.run_coroutine_threadsafe(queue.put(line), loop).result()
                if not line:
                    return

    threading.Thread(target=read, name="backplane: standard input", daemon=True).start()
    number = 0
    while line := await queue.get():
        number += 1
        if line.strip():
            yield number, line.strip()
