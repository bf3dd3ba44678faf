"""What a server says of itself, and which of its settings a fleet should know: `Greeting`, `judge`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from attrs import frozen
from backplane_core import Access, BrokerReport

from backplane_nats._url import Server

__all__ = ["Greeting", "judge"]

USUAL_PAYLOAD: Final = 1024 * 1024
"""Bytes of the largest event by default, and of what a server takes by default."""
PAIR: Final = 2
_OLD: Final = re.compile(r"[01]\.|2\.[0-9]\.")


@frozen(kw_only=True)
class Greeting:
    """What a server says of itself when a client connects.

    Args:
        server: Which one.
        info: Its INFO; empty if it is not known, and then nothing of it is judged.
        nodes: How many nodes its cluster announces; 0 if it is alone.
        is_clustered: Whether it is a node of a cluster; True if that is not known.
    """

    server: Server
    info: Mapping[str, Any]
    nodes: int
    is_clustered: bool

    @property
    def access(self) -> Access:
        """How it is reached."""
        return Access(
            host=self.server.host,
            has_login=bool(self.info.get("auth_required")),
            uses_tls=bool(self.info.get("tls_required") or self.info.get("tls_available")),
            tls_scheme="tls",
        )

    def report(self, weaknesses: Sequence[str] = ()) -> BrokerReport:
        """Return what it is, and what a fleet should know of it.

        Args:
            weaknesses: What is known already, one sentence each.
        """
        kind = f"one of {self.nodes} nodes" if self.nodes > 1 else "alone"
        advice = [*judge(self.info, self.nodes), *self.access.advice] if self.info else []
        return BrokerReport(
            server=f"NATS {self.info.get('version', 'of an unknown version')} at {self.server}, {kind}",
            advice=[*weaknesses, *advice],
        )


def judge(info: Mapping[str, Any], nodes: int) -> Iterator[str]:
    """Yield what a fleet should know of a server, and what to set; one sentence each.

    Args:
        info: Its INFO; what is not there is not judged.
        nodes: How many nodes its cluster announces.
    """
    version = str(info.get("version", ""))
    if _OLD.match(version):
        yield f"NATS {version} is older than what is tested: use 2.10 or newer"
    limit = info.get("max_payload")
    if isinstance(limit, int) and limit < USUAL_PAYLOAD:
        yield f"its max_payload is {limit} bytes, less than an event may have: raise it, or lower max_event_bytes"
    if nodes == PAIR:
        yield "its cluster has two nodes: cut off from each other neither is the larger part, so use three"
