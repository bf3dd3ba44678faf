"""A Redis or Valkey server of your own: `RedisServer`."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Final
from urllib.parse import quote

from attrs import define, field

from backplane_testservers.broker import Kind, OptionsUnavailable
from backplane_testservers.process import ProcessBroker, Tls
from backplane_testservers.search import binaries

__all__ = ["RedisServer", "listen_lines"]

_VERSION: Final = re.compile(rb"v=(\d+)\.")


@define(kw_only=True, eq=False)
class RedisServer(ProcessBroker):
    """A `redis-server` or `valkey-server` that keeps nothing on disk.

    Args:
        user: An ACL user with this name and `password`; the default user is then switched off.
        password: The password of `user`, or else of the default user.
        unix_socket: Listen on `unix_path` too.
        query: Of its URL: options of clients, such as `protocol=2`.
        least_major: The oldest major version that will do.
    """

    ready_marker: ClassVar[bytes] = b"Ready to accept connections"
    # Redis 6 does not know the directive; from 7 on the connection type is a module that may be missing.
    no_tls_markers: ClassVar[Sequence[bytes]] = (b">>> 'tls-", b"Failed finding TLS support")

    user: str | None = None
    password: str | None = field(default=None, repr=False)
    unix_socket: bool = False
    query: str = ""
    least_major: int = 0

    @property
    def kind(self) -> Kind:
        return "redis"

    @property
    def url(self) -> str:
        scheme = "redis" if self.tls is None else "rediss"
        query = f"?{self.query}" if self.query else ""
        return f"{scheme}://{self._credentials()}{self.host}:{self.port}{query}"

    @property
    def unix_path(self) -> Path:
        """The socket's path; kept short, since the kernel takes 107 bytes."""
        return self.directory / "s"

    @property
    def unix_url(self) -> str:
        """The URL of the Unix socket."""
        return f"unix://{self._credentials()}{self.unix_path}"

    def binaries(self) -> Sequence[Path]:
        found = binaries("redis")
        if self.least_major:
            found = [path for path in found if _major(path) >= self.least_major]
            if not found:
                raise OptionsUnavailable(f"no Redis or Valkey server here is of version {self.least_major} or later")
        return found

    def command(self, binary: Path, config: Path) -> Sequence[str]:
        return [str(binary), str(config)]

    def config(self, port: int, directory: Path) -> str:
        lines = [
            f"bind {self.host}",
            f"dir {_quote(str(directory))}",
            'save ""',
            "protected-mode no",
            *listen_lines(port, self.tls),
        ]
        if self.unix_socket:
            lines.append(f"unixsocket {_quote(str(self.unix_path))}")
        if self.user is not None:
            secret = "nopass" if self.password is None else f">{self.password}"
            # `&*`: from Redis 7 on a new user may use no channel by default.
            lines += ["user default off", f"user {self.user} on {_quote(secret)} ~* &* +@all"]
        elif self.password is not None:
            lines.append(f"requirepass {_quote(self.password)}")
        return "\n".join([*lines, *self.extra, ""])

    def _credentials(self) -> str:
        if self.user is None and self.password is None:
            return ""
        return f"{quote(self.user or '', safe='')}:{quote(self.password or '', safe='')}@"


def listen_lines(port: int, tls: Tls | None) -> list[str]:
    """Return the lines that make a server listen on a port, with TLS or without."""
    if tls is None:
        return [f"port {port}"]
    return [
        "port 0",
        f"tls-port {port}",
        f"tls-cert-file {_quote(str(tls.cert))}",
        f"tls-key-file {_quote(str(tls.key))}",
        f"tls-ca-cert-file {_quote(str(tls.ca))}",
        f"tls-auth-clients {'yes' if tls.verify_clients else 'no'}",
    ]


def _quote(value: str) -> str:
    """Quote a value as Redis's configuration reader wants it."""
    plain = value.encode()
    return '"' + "".join(chr(b) if chr(b).isalnum() and b < 0x80 else f"\\x{b:02x}" for b in plain) + '"'


def _major(binary: Path) -> int:
    version = subprocess.run([binary, "--version"], capture_output=True, check=False).stdout
    found = _VERSION.search(version)
    return int(found[1]) if found else 0
