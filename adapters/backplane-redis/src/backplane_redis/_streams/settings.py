"""Looks at the settings of a server that the promises of a log depend on: `SettingsCheck`, `find_weaknesses`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import hiredis

from backplane_redis._commands import pack_command
from backplane_redis._streams.session import Session, logger

__all__ = ["SettingsCheck", "find_weaknesses"]


def parse_sections(reply: bytes) -> Mapping[str, str]:
    """Return what INFO says, by field."""
    lines = [line.partition(":") for line in reply.decode(errors="replace").splitlines()]
    return {name: value.strip() for name, separator, value in lines if separator}


def find_weaknesses(fields: Mapping[str, str]) -> Sequence[str]:
    """Return which promises of a log do not hold on a server, and what to set; one sentence each.

    Args:
        fields: What INFO says of memory and persistence; one that is not there is not judged.
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
    return found


class SettingsCheck:
    """Asks a server once what it promises, and warns of what it does not; a user that may not ask learns nothing."""

    def __init__(self) -> None:
        self._is_done = False

    async def run(self, session: Session) -> None:
        """Ask, unless that was done; warn.

        Raises:
            TransportError: The connection is dead.
        """
        if self._is_done:
            return
        reply: Any
        [reply] = await session.ask(pack_command("INFO", "memory", "persistence"))
        self._is_done = True  # also if it was refused: each refusal stands in the server's ACL LOG
        if isinstance(reply, hiredis.ReplyError) or not isinstance(reply, bytes):
            return
        for weakness in find_weaknesses(parse_sections(reply)):
            logger.warning("Redis at %s: %s", session.where, weakness)
