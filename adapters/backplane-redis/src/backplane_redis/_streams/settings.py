"""Looks at the settings of a server that the promises of a log depend on: `SettingsCheck`, `find_weaknesses`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import hiredis

from backplane_redis._commands import pack_command
from backplane_redis._streams.session import Session, logger

__all__ = ["SettingsCheck", "find_weaknesses"]

MAX_CHECKED: Final = 1_024
"""Servers that are remembered as checked: where addresses come and go, the oldest may be warned of once more."""

_SET: Final = "set min-replicas-to-write 1 and min-replicas-max-lag 5"
_UNHEARD: Final = (
    "it confirms what no replica has: if it is cut off and replaced, what it confirmed meanwhile is lost, but for what "
    f"living pods send again (resend_s, 10 s); {_SET}"
)
_UNHEARD_LATER: Final = (
    f"once it has taken over, it confirms what no replica has: {_SET}, as any node may be the next primary"
)
_ALONE: Final = "it has no replica, so nothing takes over when it dies: add one, with appendonly yes as here"
_CLOSED: Final = (
    "it takes no writes now, as none of its replicas is close enough (min-replicas-to-write): what is published waits "
    "in the pods"
)
_BEHIND: Final = (
    "it has lost its primary, and is further behind each second: if it takes over, what it lacks is lost, but for what "
    "living pods send again (resend_s, 10 s)"
)


def parse_sections(reply: bytes) -> Mapping[str, str]:
    """Return what INFO says, by field."""
    lines = [line.partition(":") for line in reply.decode(errors="replace").splitlines()]
    return {name: value.strip() for name, separator, value in lines if separator}


def find_weaknesses(fields: Mapping[str, str], *, is_replicated: bool) -> Sequence[str]:
    """Return which promises of a log do not hold on a server, and what to set; one sentence each.

    Args:
        fields: What INFO says of memory, persistence and replication; one that is not there is not judged.
        is_replicated: Whether a replica may take over from it, or it is one that may.
    """
    found: list[str] = []
    policy = fields.get("maxmemory_policy", "")
    if policy.startswith("allkeys-") and fields.get("maxmemory", "0") != "0":
        found.append(
            f"its maxmemory-policy {policy} may delete a stream whole, and then events are lost, inside a gap: set "
            "noeviction, or a volatile- policy"
        )
    if fields.get("aof_enabled") == "0":
        found.append(
            "it writes no log of its own to disk: after a restart it has what living pods send again (resend_s), and "
            "nothing older; set appendonly yes if more is to be kept"
        )
    if is_replicated:
        found += _find_lonely(fields)
    return found


def _find_lonely(fields: Mapping[str, str]) -> Sequence[str]:
    """Return what a node and its replicas lack for one to take over from the other without a loss."""
    # INFO counts good replicas only where a write needs some.
    good = fields.get("min_slaves_good_slaves")
    if fields.get("role") == "slave":
        behind = [_BEHIND] if fields.get("master_link_status") == "down" else []
        return behind if good is not None else [*behind, _UNHEARD_LATER]
    if fields.get("role") != "master" or "connected_slaves" not in fields:
        return []
    alone = [_ALONE] if fields["connected_slaves"] == "0" else []
    if good == "0":
        return [*alone, _CLOSED]
    return alone if alone or good is not None else [_UNHEARD]


class SettingsCheck:
    """Asks each server once what it promises, and warns of what it does not; a user that may not ask learns nothing.

    Args:
        is_replicated: Whether a replica may take over.
    """

    def __init__(self, *, is_replicated: bool = False) -> None:
        self._is_replicated = is_replicated
        self._checked: dict[str, None] = {}

    async def run(self, session: Session) -> None:
        """Ask, unless that was done; warn.

        Raises:
            TransportError: The connection is dead.
        """
        if session.where in self._checked:
            return
        reply: Any
        [reply] = await session.ask(pack_command("INFO", "memory", "persistence", "replication"))
        # Also if it was refused: each refusal stands in the server's ACL LOG.
        self._checked[session.where] = None
        if len(self._checked) > MAX_CHECKED:
            del self._checked[next(iter(self._checked))]
        if isinstance(reply, hiredis.ReplyError) or not isinstance(reply, bytes):
            return
        for weakness in find_weaknesses(parse_sections(reply), is_replicated=self._is_replicated):
            logger.warning("Redis at %s: %s", session.where, weakness)
