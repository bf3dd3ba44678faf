"""Ports for servers, which no other process of this machine chooses while this one lives: `free_port`."""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Final

from attrs import frozen

__all__ = ["HOST", "PortBlock", "free_port"]

# Not "localhost": where that is ::1 first, each connect fails once before it succeeds.
HOST: Final = "127.0.0.1"

# Below every usual ephemeral range (Linux 32768+, macOS, Windows 49152+). A port that the kernel also hands
# out may be taken while the server is down: by any outgoing connection, and even by a client that tries to
# reconnect to the dead server, since TCP connects a socket to itself when its source happens to be that port.
_PORTS: Final = range(12_000, 32_000)
_BLOCK_SIZE: Final = 200


@frozen
class PortBlock:
    """Ports that this process has to itself.

    A port is often chosen some time before its server listens there, and belongs to a server that is down: were it
    another's by then, clients would find that one, and the server that comes back would find its port taken.

    Args:
        ports: The ports.
        lock: The descriptor of a locked file; the kernel unlocks it when this process ends, however that is.
    """

    ports: range
    lock: int

    @classmethod
    def take(cls) -> PortBlock:
        """Return a block that no living process has; if each is taken, some block."""
        folder = Path(tempfile.gettempdir()) / f"backplane-ports-{os.getuid()}"
        folder.mkdir(exist_ok=True)
        firsts = list(_PORTS[::_BLOCK_SIZE])
        random.shuffle(firsts)
        for first in firsts:
            lock = os.open(folder / str(first), os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
            else:
                return cls(range(first, first + _BLOCK_SIZE), lock)
        return cls(range(firsts[0], firsts[0] + _BLOCK_SIZE), -1)

    def in_turn(self) -> Iterator[int]:
        """Yield the ports, and repeat one only after all others."""
        return cycle(random.sample(self.ports, len(self.ports)))

    def release(self) -> None:
        """Let another process have the block. A forked child that closes what it inherits leaves it to its parent."""
        if self.lock >= 0:
            os.close(self.lock)


_block: PortBlock | None = None
_ports: Iterator[int] = iter(())


def free_port(host: str = HOST) -> int:
    """Return a port that nobody listens on, outside the range from which the kernel assigns ports by itself."""
    global _block, _ports  # noqa: PLW0603 -- one block per process is the point
    if _block is None:
        _block = PortBlock.take()
        _ports = _block.in_turn()
    while True:
        port = next(_ports)
        with socket.socket() as probe:
            # As servers do, so that connections of a dead one, still in TIME_WAIT, don't count as taken.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port


def _forget_in_child() -> None:
    global _block  # noqa: PLW0603 -- a forked child takes a block of its own
    if _block is not None:
        _block.release()
        _block = None


os.register_at_fork(after_in_child=_forget_in_child)
