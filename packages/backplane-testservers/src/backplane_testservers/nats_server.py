"""A NATS server of your own: `NatsServer`."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Final
from urllib.parse import quote

from attrs import define, field

from backplane_testservers.broker import BrokerFailed, Kind
from backplane_testservers.nats_keys import Operator
from backplane_testservers.process import START_TIMEOUT_S, ProcessBroker
from backplane_testservers.search import binaries

__all__ = ["NatsServer"]

_POLL_S: Final = 0.005


@define(kw_only=True, eq=False)
class NatsServer(ProcessBroker):
    """A `nats-server`. Choose at most one way to log in.

    Args:
        user: With `password`: the one user that may connect.
        token: The token that clients must send.
        nkey: The public key of the one user that may connect; see `nats_keys.user_key`.
        operator: Trust credentials that this operator's account signed; see `nats_keys.Operator`.
        max_payload: The largest message that the server accepts, in bytes; its own default is 1 MiB.
        jetstream: Switch JetStream on; streams survive a restart.
    """

    ready_marker: ClassVar[bytes] = b"Server is ready"

    user: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    nkey: str | None = None
    operator: Operator | None = field(default=None, repr=False)
    max_payload: int | None = None
    jetstream: bool = False

    @property
    def kind(self) -> Kind:
        return "nats"

    @property
    def url(self) -> str:
        scheme = "nats" if self.tls is None else "tls"
        return f"{scheme}://{self._credentials()}{self.host}:{self.port}"

    def reload(self) -> None:
        """Have it read its configuration again, and return once it has: fields or `extra` may have changed.

        It keeps the clients that may still be there.

        Raises:
            BrokerFailed: It can't use the configuration; says what it logged.
        """
        (self.directory / "nats.conf").write_text(self.config(self.port, self.directory))
        reloads = self._reloads()
        self._running().send_signal(signal.SIGHUP)
        deadline = time.monotonic() + START_TIMEOUT_S
        while self._reloads() == reloads:
            if time.monotonic() > deadline:
                raise BrokerFailed(f"the NATS server did not reload its configuration{self._tail()}")
            # Nothing to wait on: a server reports only in its log that it has reloaded.
            time.sleep(_POLL_S)

    def _reloads(self) -> int:
        return self._log_bytes().count(b"Reloaded server configuration")

    def binaries(self) -> Sequence[Path]:
        return binaries("nats")

    def command(self, binary: Path, config: Path) -> Sequence[str]:
        return [str(binary), "-c", str(config)]

    def config(self, port: int, directory: Path) -> str:
        lines = [f"listen: {_quote(f'{self.host}:{port}')}"]
        if self.tls is not None:
            files = {"cert_file": self.tls.cert, "key_file": self.tls.key, "ca_file": self.tls.ca}
            settings = "".join(f"{name}: {_quote(str(path))}, " for name, path in files.items())
            lines.append(f"tls: {{{settings}verify: {str(self.tls.verify_clients).lower()}}}")
        if self.user is not None:
            login = f"user: {_quote(self.user)}, password: {_quote(self.password or '')}"
            lines.append(f"authorization: {{{login}}}")
        if self.token is not None:
            lines.append(f"authorization: {{token: {_quote(self.token)}}}")
        if self.nkey is not None:
            lines.append(f"authorization: {{users: [{{nkey: {self.nkey}}}]}}")
        if self.operator is not None:
            lines.append(f"operator: {self.operator.jwt}")
            lines.append("resolver: MEMORY")
            lines.append(f"resolver_preload: {{{self.operator.account}: {self.operator.account_jwt}}}")
        if self.max_payload is not None:
            lines.append(f"max_payload: {self.max_payload}")
        if self.jetstream:
            lines.append(f"jetstream: {{store_dir: {_quote(str(directory / 'jetstream'))}}}")
        return "\n".join([*lines, *self.extra, ""])

    def _credentials(self) -> str:
        if self.token is not None:
            return f"{quote(self.token, safe='')}@"
        if self.user is not None:
            return f"{quote(self.user, safe='')}:{quote(self.password or '', safe='')}@"
        return ""


def _quote(value: str) -> str:
    # NATS's configuration knows JSON's escapes, except \u....
    return json.dumps(value, ensure_ascii=False)
