"""NATS without Backplane: the client as people write it, and its protocol by hand."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import urlsplit

import nats
from nats.aio.msg import Msg

from bench.bare_redis import BATCH
from bench.job import Job
from bench.publishing import Send

__all__ = ["read_joined", "send", "send_joined", "subscribe"]

_READ_BYTES: Final = 1 << 20
# Its own types are partly unknown to a strict checker.
_nats: Final[Any] = nats
_MSG: Final = re.compile(rb"MSG \S+ \d+ (\d+)\r\n")


def _subject(job: Job) -> str:
    return job.channel.replace(":", ".")


@asynccontextmanager
async def send(job: Job) -> AsyncGenerator[Send]:
    """`await client.publish()`, one after the other, and a flush at the end."""
    client = await _nats.connect(job.url)
    subject = _subject(job)

    async def run(numbers: range) -> None:
        for number in numbers:
            await client.publish(subject, job.json(number))
        await client.flush()

    try:
        yield run
    finally:
        await client.close()


async def subscribe(job: Job, take: Callable[[bytes], None]) -> AsyncIterator[None]:
    """A subscription with a callback."""
    client = await _nats.connect(job.url)

    async def callback(message: Msg) -> None:
        take(message.data)

    try:
        await client.subscribe(_subject(job), cb=callback)
        await client.flush()
        yield
        await asyncio.Future()
    finally:
        await client.close()


@asynccontextmanager
async def _stream(url: str) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        await reader.readline()
        writer.write(b'CONNECT {"verbose":false,"pedantic":false}\r\n')
        yield reader, writer
    finally:
        writer.transport.abort()


async def _pongs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, goal: asyncio.Event) -> None:
    while line := await reader.readline():
        if line.startswith(b"PONG"):
            goal.set()
        elif line.startswith(b"PING"):
            writer.write(b"PONG\r\n")


@asynccontextmanager
async def send_joined(job: Job) -> AsyncGenerator[Send]:
    """`await publish()` for each event, as all contestants do: bytes by hand, 64 in one write; a PONG confirms them."""
    head = b"PUB %b " % _subject(job).encode()
    async with _stream(job.url) as (reader, writer):
        confirmed = asyncio.Event()
        reading = asyncio.create_task(_pongs(reader, writer, confirmed))

        parts: list[bytes] = []

        async def publish(payload: bytes) -> None:
            parts.append(b"%b%d\r\n%b\r\n" % (head, len(payload), payload))
            if len(parts) == BATCH:
                writer.write(b"".join(parts))
                parts.clear()
                await writer.drain()
                await asyncio.sleep(0)

        async def run(numbers: range) -> None:
            confirmed.clear()
            for number in numbers:
                await publish(job.json(number))
            writer.write(b"".join(parts) + b"PING\r\n")
            parts.clear()
            await confirmed.wait()

        try:
            yield run
        finally:
            reading.cancel()


async def read_joined(job: Job, take: Callable[[bytes], None]) -> AsyncIterator[None]:
    """A parser for runs of MSG, over a plain stream."""
    async with _stream(job.url) as (reader, writer):
        writer.write(b"SUB %b 1\r\nPING\r\n" % _subject(job).encode())
        rest = b""
        while data := await reader.read(_READ_BYTES):
            buffer = rest + data
            at, size = 0, len(buffer)
            while at < size:
                if found := _MSG.match(buffer, at):
                    start = found.end()
                    end = start + int(found[1])
                    if end + 2 > size:
                        break
                    take(buffer[start:end])
                else:
                    end = buffer.find(b"\r\n", at)
                    if end < 0:
                        break
                    if buffer.startswith(b"PING", at):
                        writer.write(b"PONG\r\n")
                    elif buffer.startswith(b"PONG", at):
                        yield
                at = end + 2
            rest = buffer[at:]
