"""A transport of your own: a hub for the worker processes of one machine, where no broker is installed.

uv run examples/own_transport.py                       starts a hub and two workers, and shows an event crossing
uv run examples/own_transport.py hub /run/app.sock     runs a hub until it is stopped
uv run examples/own_transport.py worker /run/app.sock  publishes the lines that you type, prints what arrives

`HubTransport` and `HubLink` are all that a fleet over any broker needs. Their protocol stands above them, the hub
below. docs/how-to/own-transport.md goes through it step by step.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import struct
import sys
import tempfile
from asyncio.subprocess import PIPE
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final, TypeAlias

from backplane_core import (
    ConfigurationError,
    DistributedBackplane,
    Frame,
    Gap,
    Link,
    Lost,
    Target,
    Traits,
    TransportError,
)

# The protocol: records of a kind, a channel and a payload, the latter two preceded by their lengths.

SUBSCRIBE, UNSUBSCRIBE, FRAME, PING, PONG = range(5)
HEAD: Final = struct.Struct(">BHI")
MAX_PAYLOAD_BYTES: Final = 2 * 1024 * 1024
"""An event of 1 MiB, the default limit, and whatever its envelope adds."""
MAX_BEHIND_BYTES: Final = 32 * 1024 * 1024
"""How much the hub keeps for a client that does not read before it cuts that client off. Redis has the same limit."""
READ_BYTES: Final = 256 * 1024
DEMO_TIMEOUT_S: Final = 30.0
"""The demo takes a second; this leaves room for a machine that is starved of CPU."""

Record: TypeAlias = tuple[int, str, bytes]


def record(kind: int, channel: str = "", payload: bytes = b"") -> bytes:
    """Return the bytes of a record."""
    name = channel.encode()
    return HEAD.pack(kind, len(name), len(payload)) + name + payload


async def read_records(reader: asyncio.StreamReader) -> AsyncIterator[list[Record]]:
    """Yield the records that each read completes, until the other side closes.

    Raises:
        OSError: The connection broke, or a payload exceeds the limit.
    """
    rest = b""
    while data := await reader.read(READ_BYTES):
        rest += data
        records: list[Record] = []
        start = 0
        while len(rest) >= start + HEAD.size:
            kind, name_size, size = HEAD.unpack_from(rest, start)
            if size > MAX_PAYLOAD_BYTES:
                raise ConnectionAbortedError(f"a payload of {size} bytes exceeds the limit of {MAX_PAYLOAD_BYTES}")
            name = start + HEAD.size
            payload = name + name_size
            if len(rest) < payload + size:
                break
            start = payload + size
            records.append((kind, rest[name:payload].decode("ascii", "replace"), rest[payload:start]))
        rest = rest[start:]
        yield records


# The transport.


class HubTransport:
    """A transport that opens links to the hub at `hub:///path/to.sock`.

    Args:
        url: Where the hub listens.

    Raises:
        ConfigurationError: The URL does not have that form.
    """

    traits = Traits(single_stream=True, max_payload_bytes=MAX_PAYLOAD_BYTES)

    def __init__(self, url: str) -> None:
        if not url.startswith("hub:///"):
            raise ConfigurationError("a hub's URL is hub:// and a path: hub:///run/app.sock")
        self._path = url.removeprefix("hub://")

    async def open(self) -> Link:
        """Make one attempt to connect."""
        try:
            return HubLink(*await asyncio.open_unix_connection(self._path))
        except OSError as error:
            raise TransportError(f"no hub answers at {self._path}: {error}") from None


class HubLink:
    """One connection to the hub. A PONG says that the hub has processed everything before the PING."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._waiting: deque[asyncio.Future[bool]] = deque()
        self._dead = False

    async def subscribe(self, channels: Sequence[str]) -> None:
        """Subscribe to the channels."""
        await self._confirmed([record(SUBSCRIBE, channel) for channel in channels])

    async def unsubscribe(self, channels: Sequence[str]) -> None:
        """Unsubscribe from the channels."""
        await self._confirmed([record(UNSUBSCRIBE, channel) for channel in channels])

    async def send(self, frames: Sequence[Frame]) -> None:
        """Hand the frames to the hub."""
        await self._confirmed([record(FRAME, frame[0], frame[1]) for frame in frames])

    async def _confirmed(self, records: list[bytes]) -> None:
        if not self._dead:
            pong = asyncio.get_running_loop().create_future()
            self._waiting.append(pong)
            self._writer.write(b"".join([*records, record(PING)]))
            if await pong:
                return
        raise TransportError("the link to the hub is dead")

    async def receive(self) -> AsyncIterator[list[Frame | Lost]]:
        """Yield what arrived, and resume the calls whose PONG came."""
        try:
            async for records in read_records(self._reader):
                sent = [record for record in records if record[0] == FRAME]
                frames: list[Frame | Lost] = [(channel, payload) for _, channel, payload in sent]
                for _ in range(len(records) - len(frames)):
                    self._answer(alive=True)
                if frames:
                    yield frames
            raise TransportError("the hub closed the connection")
        except OSError as error:
            raise TransportError(f"the connection to the hub broke: {error}") from None
        finally:
            self._die()

    async def aclose(self) -> None:
        """Close the socket."""
        self._die()
        self._writer.transport.abort()
        with suppress(OSError):
            await self._writer.wait_closed()

    def _answer(self, *, alive: bool) -> None:
        pong = self._waiting.popleft()
        if not pong.done():  # the caller may have been cancelled
            pong.set_result(alive)

    def _die(self) -> None:
        self._dead = True
        while self._waiting:
            self._answer(alive=False)


# The hub, in the place of a broker.


class Hub:
    """Hands each frame to every client that is subscribed to its channel, the sender included, in order."""

    def __init__(self) -> None:
        self.clients: dict[asyncio.StreamWriter, set[str]] = {}
        self.hearers: dict[str, set[asyncio.StreamWriter]] = {}
        self._closed = False

    async def serve(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        """Serve a client until it disconnects."""
        self.clients[client] = set()
        if self._closed:
            client.transport.abort()
        try:
            async for records in read_records(reader):
                for receiver, answers in self._work(client, records).items():
                    self._hand(receiver, b"".join(answers))
        except OSError:
            pass  # it is gone, or does not speak the protocol
        finally:
            for channel in list(self.clients[client]):
                self._leave(client, channel)
            del self.clients[client]
            client.transport.abort()

    async def aclose(self) -> None:
        """Cut off every client, and return once all are gone."""
        self._closed = True
        for client in self.clients:
            client.transport.abort()
        while self.clients:  # noqa: ASYNC110 -- two or three turns of the loop
            await asyncio.sleep(0)

    def _work(self, client: asyncio.StreamWriter, records: list[Record]) -> dict[asyncio.StreamWriter, list[bytes]]:
        """Return what the records mean for each client, so that each client gets a single write."""
        out: defaultdict[asyncio.StreamWriter, list[bytes]] = defaultdict(list)
        for kind, channel, payload in records:
            if kind == SUBSCRIBE:
                self.clients[client].add(channel)
                self.hearers.setdefault(channel, set()).add(client)
            elif kind == UNSUBSCRIBE:
                self._leave(client, channel)
            elif kind == FRAME:
                frame = record(FRAME, channel, payload)
                for hearer in self.hearers.get(channel, ()):
                    out[hearer].append(frame)
            else:
                out[client].append(record(PONG))
        return out

    def _hand(self, client: asyncio.StreamWriter, data: bytes) -> None:
        if client.transport.is_closing():
            return
        if client.transport.get_write_buffer_size() > MAX_BEHIND_BYTES:
            # Skipping a frame loses it silently. Cutting the client kills its link, which
            # becomes a Gap.
            client.transport.abort()
        else:
            client.write(data)

    def _leave(self, client: asyncio.StreamWriter, channel: str) -> None:
        self.clients[client].discard(channel)
        hearers = self.hearers.get(channel, set())
        hearers.discard(client)
        if not hearers:
            self.hearers.pop(channel, None)


@asynccontextmanager
async def serve_hub(path: str) -> AsyncGenerator[None]:
    """Run a hub at this path during the block. Only the owner may open the file: anyone who can open it can publish.

    Raises:
        BlockingIOError: Another hub runs there. Taking its place would split the fleet in two.
    """
    hub = Hub()
    with Path(f"{path}.lock").open("w") as lock:  # noqa: ASYNC230 -- no client waits yet
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        server = await asyncio.start_unix_server(hub.serve, path, start_serving=False)
        try:
            Path(path).chmod(0o600)  # noqa: ASYNC240 -- no client waits yet
            await server.start_serving()
            yield
        finally:
            server.close()
            await hub.aclose()


async def run_hub(path: str) -> None:
    """Run a hub until this process is stopped."""
    async with serve_hub(path):
        print(f"the hub listens at {path}", flush=True)
        await asyncio.Event().wait()


# The demo.


async def worker(path: str) -> None:
    """Act as one worker of an app: publish what is typed, print what the others publish."""
    logging.basicConfig(format="%(message)s", stream=sys.stdout)
    room = Target("room", "lobby")

    async def listen() -> None:
        async for event in connection:
            print(event.value, flush=True)

    def missed(gap: Gap) -> None:
        print(f"events may be missing here: {gap.reason}", flush=True)

    typed = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(typed), sys.stdin)
    async with (
        DistributedBackplane(HubTransport(f"hub://{path}")) as backplane,
        backplane.connection(None, room, on_gap=missed) as connection,
        asyncio.TaskGroup() as tasks,
    ):
        tasks.create_task(listen())
        print("connected", flush=True)
        async for line in typed:
            await backplane.publish(room, line.decode().strip(), exclude=[connection.conn_id])
        await backplane.aclose(drain_s=1)  # ends the loop over the connection, and with it the group


class Terminal:
    """A worker process, and what its user would see."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self._name, self._process = name, process

    @classmethod
    async def start(cls, name: str, path: str) -> Terminal:
        """Start a worker and wait until it is connected."""
        command = [sys.executable, __file__, "worker", path]
        process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
        terminal = cls(name, process)
        await terminal.prints()
        return terminal

    async def prints(self, lines: int = 1) -> None:
        """Show the next lines that the worker prints."""
        assert self._process.stdout is not None
        for _ in range(lines):
            line = await self._process.stdout.readline()
            if not line:
                sys.exit(f"worker {self._name} ended")
            print(f"  {self._name}: {line.decode().strip()}", flush=True)

    def types(self, text: str) -> None:
        """Type a line."""
        assert self._process.stdin is not None
        print(f"  {self._name}> {text}", flush=True)
        self._process.stdin.write(f"{text}\n".encode())

    async def close(self) -> None:
        """Let the worker exit."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()


async def demo() -> None:
    """Show an event crossing, and how two workers react when their hub stops."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/app.sock"
        async with asyncio.timeout(DEMO_TIMEOUT_S):
            async with serve_hub(path):
                print(f"A hub at {path} and two workers, each a process of its own:")
                a, b = await Terminal.start("A", path), await Terminal.start("B", path)
                a.types("hello")
                await b.prints()
            print("The hub is gone:")
            await a.prints()
            await b.prints()
            async with serve_hub(path):
                print("The hub is back:")
                await a.prints(2)  # what the log says of the link, and the gap
                await b.prints(2)
                b.types("still there?")
                await a.prints()
                await a.close()
                await b.close()
    print("An event crossed before and after the outage, and both workers were notified of the gap in between.")


def main() -> None:
    """Run what the command line asks for."""
    match sys.argv[1:]:
        case []:
            run = demo()
        case ["hub", path]:
            run = run_hub(path)
        case ["worker", path]:
            run = worker(path)
        case _:
            sys.exit((__doc__ or "").partition("\n\n")[2])
    with suppress(KeyboardInterrupt):
        asyncio.run(run)


if __name__ == "__main__":
    main()
