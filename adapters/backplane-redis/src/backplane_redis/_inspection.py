"""What a server says of itself, and which of its settings a fleet should know: `inspect_node`, `judge`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

import hiredis
from backplane_core import Access, BrokerReport, TransportError
from redis.exceptions import RedisError

from backplane_redis._connection import LinkConnection
from backplane_redis._greeting import Greeting
from backplane_redis._streams.settings import find_weaknesses, parse_sections
from backplane_redis._url import Address, format_address

__all__ = ["inspect_node", "judge"]

MIB: Final = 1024 * 1024
LEAST_BUFFER: Final = 8 * MIB
"""Bytes that a pod may be behind, at least: a burst of some thousand events, eight of the largest."""
FULL: Final = 0.9
"""Of what a server takes; the rest is gone before somebody reacts."""
BUFFERS: Final = "client-output-buffer-limit"
_PUBSUB: Final = re.compile(r"\bpubsub ([0-9]+) ([0-9]+) ([0-9]+)")
_OLD: Final = re.compile(r"[0-5]\.|6\.[01]\.")


async def inspect_node(
    connection: LinkConnection,
    address: Address | None,
    access: Access,
    *,
    is_log: bool = False,
    is_replicated: bool = False,
) -> BrokerReport:
    """Ask a server about itself, and close the connection.

    Args:
        connection: Just opened, and this function's from here on.
        address: Where to; None: its socket.
        access: How it is reached.
        is_log: Whether its streams are used, and not pub/sub.
        is_replicated: Whether a replica may take over from it, or it is one that may.

    Raises:
        TransportError: It closed the connection.
    """
    where = "its socket" if address is None else format_address(address)
    unasked: list[str] = []
    try:
        info: object = await connection.ask("INFO", "default")
        if not isinstance(info, bytes):
            unasked.append("its memory and its clients: grant +info")
        buffers: object = await connection.ask("CONFIG", "GET", BUFFERS)
        if isinstance(buffers, hiredis.ReplyError):
            unasked.append(f"its {BUFFERS}: grant +config|get")
    except (RedisError, OSError, hiredis.ProtocolError):
        unasked = []
    else:
        fields = parse_sections(info if isinstance(info, bytes) else b"")
        greeting = connection.greeting
        name = (greeting.server or "Redis").capitalize()
        version = fields.get("valkey_version") or greeting.version or fields.get("redis_version", "unknown version")
        advice = [*judge(greeting, fields, str(buffers), is_log=is_log, is_replicated=is_replicated), *access.advice]
        return BrokerReport(
            server=" ".join(filter(None, (f"{name} {version} at {where},", greeting.mode or fields.get("redis_mode")))),
            advice=[f"{where}: {text}" for text in advice],
            unasked=[f"{where}: {what}" for what in unasked],
        )
    finally:
        await connection.disconnect(nowait=True)
    raise TransportError(f"Redis at {where} closed the connection")  # out here, without `__context__`


def judge(
    greeting: Greeting,
    fields: Mapping[str, str],
    buffers: str,
    *,
    is_log: bool,
    is_replicated: bool = False,
) -> Iterator[str]:
    """Yield what a fleet should know of a server, and what to set; one sentence each.

    Args:
        greeting: What it says of itself.
        fields: What INFO says; one that is not there is not judged.
        buffers: What CONFIG says of `client-output-buffer-limit`; anything else is not judged.
        is_log: Whether its streams are used, and not pub/sub.
        is_replicated: Whether a replica may take over from it, or it is one that may.
    """
    if greeting.tears_messages:
        yield f"Valkey {greeting.version} tears large messages of pub/sub: use 9.1.2 or newer"
    if greeting.server == "redis" and _OLD.match(greeting.version):
        yield f"Redis {greeting.version} is older than what is tested: use 6.2 or newer"
    if is_log:
        yield from find_weaknesses(fields, is_replicated=is_replicated)
    elif found := _PUBSUB.search(buffers):
        yield from _judge_buffer(*map(int, found.groups()))
    connected, most = fields.get("connected_clients", ""), fields.get("maxclients", "")
    if connected.isdecimal() and most.isdecimal() and int(connected) > FULL * int(most):
        yield f"{connected} of at most {most} clients are connected, and each pod is one: raise maxclients"
    used, limit = fields.get("used_memory", ""), fields.get("maxmemory", "")
    if used.isdecimal() and limit.isdecimal() and 0 < FULL * int(limit) < int(used):
        yield f"{int(used) // MIB} of its {int(limit) // MIB} MiB of memory are taken: raise maxmemory"


def _judge_buffer(hard: int, soft: int, soft_s: int) -> Iterator[str]:
    if not hard and not soft:
        yield (
            f"its {BUFFERS} for pubsub is 0: a pod that stops reading takes the server's memory without a limit: set "
            "pubsub 32mb 8mb 60"
        )
    elif hard and hard < LEAST_BUFFER:
        yield (
            f"its {BUFFERS} for pubsub ends a pod that is {hard} bytes behind, and that is a gap: set pubsub "
            "32mb 8mb 60"
        )
    elif soft and soft < MIB and soft_s < 10:  # noqa: PLR2004 -- a burst of seconds is usual, and one of 1 MiB small
        yield (
            f"its {BUFFERS} for pubsub ends a pod that is {soft} bytes behind for {soft_s} s, a gap: set pubsub "
            "32mb 8mb 60"
        )
