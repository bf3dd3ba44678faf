"""A stand-in for a broker, which answers each command as a table says: `ScriptedServer`, the base of all of them.

For reports of servers that no machine here has: a proxy, a managed service with limits of its own, a compatible server.
Where a real broker can be made to do it, use that one.

It runs in a thread of its own, as `Proxy` does: a test that blocks the pods' loop must not stop the server. Whatever it
was sent is recorded, so that a test can assert that it saw its fault.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Final, Self, TypeAlias

from attrs import define, field, frozen

from backplane_testservers.streams import HOST, StreamServer

__all__ = ["HANG_UP", "SILENCE", "USUAL", "Answer", "Late", "ScriptedConnection", "ScriptedServer", "Special"]


@frozen
class Special:
    """An answer that is no bytes; its name says which."""

    name: str


HANG_UP: Final = Special("hang up")
"""Close the connection instead of answering."""

SILENCE: Final = Special("silence")
"""Never answer, and go on."""

USUAL: Final = Special("usual")
"""Do what the real server does."""


@frozen
class Late:
    """An answer that comes late; commands behind it wait, as those of one connection do.

    Args:
        delay_s: By how much.
        answer: What comes then.
    """

    delay_s: float
    answer: bytes | Special = USUAL


Answer: TypeAlias = bytes | Special | Late
"""What a table holds for a command: bytes are written as they are."""


@define(eq=False)
class ScriptedConnection:
    """One client's connection.

    Args:
        number: Counted from 0, in the order in which they came.
        writer: Where answers go.
    """

    number: int
    writer: asyncio.StreamWriter = field(repr=False)
    is_resp3: bool = False
    channels: dict[bytes, bytes] = field(factory=dict[bytes, bytes], init=False)
    """What it is subscribed to: Redis channels by name, NATS subjects by the subscription's id."""

    def write(self, data: bytes) -> None:
        """Send bytes, unless it is closed by now."""
        if not self.writer.is_closing():
            self.writer.write(data)

    def reset(self) -> None:
        """Close at once."""
        self.writer.transport.abort()


class ScriptedServer(ABC):
    """A server on a port of its own. A context manager; `port` is fixed from construction on.

    Args:
        answers: By command, in upper case; "CLIENT SETNAME" goes before "CLIENT", and "*" stands for all that are not
            named. A sequence answers one time after another, and its last answer stays. What is not in the table is
            answered as the real server does. It may be changed while the server runs.
        greeting: Sent to each client that connects; None: what the real server sends.
        tls: Speak TLS with this context.
    """

    scheme: str

    def __init__(
        self,
        answers: Mapping[str, Answer | Sequence[Answer]] | None = None,
        *,
        greeting: bytes | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.answers: dict[str, Answer | Sequence[Answer]] = dict(answers or {})
        self.greeting = greeting
        self.received: list[tuple[bytes, ...]] = []
        """Every command, in the order in which they came."""
        self.accepted = 0
        """How many connections there were."""
        self.connections: set[ScriptedConnection] = set()
        """Those that are open."""
        self._given: dict[str, int] = {}
        self._server = StreamServer(self._serve, tls=tls)
        self.host = HOST
        self.port = self._server.port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="scripted", daemon=True)

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"{self.scheme}://{HOST}:{self.port}"

    def count(self, *words: str) -> int:
        """Return how many commands began with these words, in any case."""
        wanted = tuple(word.encode().upper() for word in words)
        return sum(tuple(word.upper() for word in command[: len(wanted)]) == wanted for command in [*self.received])

    def cut(self) -> int:
        """Close all connections; return how many there were."""
        return self._in_loop(self._cut)

    def say(self, data: bytes) -> int:
        """Send the same bytes to every client, unasked; return to how many."""
        return self._in_loop(partial(self._say, data))

    @abstractmethod
    async def read_command(self, reader: asyncio.StreamReader) -> tuple[bytes, ...] | None:
        """Return the words of the next command; None at the end of the stream."""

    @abstractmethod
    def usual(self, connection: ScriptedConnection, words: tuple[bytes, ...]) -> bytes:
        """Do what the real server does, and return its answer."""

    def usual_greeting(self) -> bytes:
        """Return what the real server sends first."""
        return b""

    def __enter__(self) -> Self:
        self._thread.start()
        self._loop.call_soon_threadsafe(self._server.start)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._server.aclose(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        if self._server.failures and kind is None:
            raise ExceptionGroup("the stand-in itself failed", self._server.failures)

    def _in_loop(self, section: Callable[[], int]) -> int:
        async def run() -> int:
            return section()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result()

    def _cut(self) -> int:
        open_ones = list(self.connections)
        for connection in open_ones:
            connection.reset()
        return len(open_ones)

    def _say(self, data: bytes) -> int:
        for connection in self.connections:
            connection.write(data)
        return len(self.connections)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = ScriptedConnection(self.accepted, writer)
        self.accepted += 1
        self.connections.add(connection)
        try:
            connection.write(self.usual_greeting() if self.greeting is None else self.greeting)
            while (words := await self.read_command(reader)) is not None:
                if words and not await self._take(connection, words):
                    break
        except (ValueError, asyncio.LimitOverrunError):
            pass  # it speaks another protocol
        finally:
            self.connections.discard(connection)

    async def _take(self, connection: ScriptedConnection, words: tuple[bytes, ...]) -> bool:
        """Answer a command; return whether the connection goes on."""
        self.received.append(words)
        answer = self._next_answer(words)
        if isinstance(answer, Late):
            await asyncio.sleep(answer.delay_s)
            answer = answer.answer
        if answer is HANG_UP:
            connection.reset()
            return False
        if answer is USUAL:
            answer = self.usual(connection, words)
        if isinstance(answer, bytes):
            connection.write(answer)
            await connection.writer.drain()
        return True

    def _next_answer(self, words: tuple[bytes, ...]) -> Answer:
        for name in _names(words):
            found = self.answers.get(name)
            if found is None:
                continue
            if not isinstance(found, Sequence) or isinstance(found, bytes):
                return found
            turn = self._given.get(name, 0)
            self._given[name] = turn + 1
            return found[min(turn, len(found) - 1)]
        return USUAL


def _names(words: tuple[bytes, ...]) -> Iterator[str]:
    """Yield the names under which a table may hold a command, the most exact one first."""
    first, *rest = [word[:64].decode("latin-1").upper() for word in words[:2]]
    if rest:
        yield f"{first} {rest[0]}"
    yield first
    yield "*"
