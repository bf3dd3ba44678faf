"""A connection to one node of a cluster that says where a key went: `NodeSession`, `Redirected`."""

from __future__ import annotations

from typing import Any, Final

import hiredis
from backplane_core import TransportError

from backplane_redis._commands import pack_command
from backplane_redis._connection import LinkConnection
from backplane_redis._streams.session import Session
from backplane_redis._url import Address, format_address

__all__ = ["NodeSession", "Redirected"]

ASKING: Final = pack_command("ASKING")
MULTI: Final = pack_command("MULTI")
EXEC: Final = pack_command("EXEC")

_AGAIN: Final = ("MOVED", "ASK", "TRYAGAIN", "UNBLOCKED")
"""Refusals of a node that does not serve a key any longer, or not yet; nothing was done."""


class Redirected(TransportError):  # noqa: N818 -- it never leaves the adapter
    """A node does not serve a key: ask another.

    Args:
        message: For people.
        said: The reply; it holds a slot and an address, and nothing that a client sent.
        asked: The node that refused.
    """

    def __init__(self, message: str, said: str, asked: Address) -> None:
        super().__init__(message)
        self.said = said
        self.asked = asked


class NodeSession(Session):
    """Asks one node over one connection.

    Args:
        connection: Open, and not read from by anyone else.
        address: Where it leads.
        is_asking: Whether the node is asked for a key that is being moved to it.
    """

    def __init__(self, connection: LinkConnection, address: Address, *, is_asking: bool = False) -> None:
        super().__init__(connection, format_address(address))
        self.address = address
        self.is_asking = is_asking

    async def ask(self, *commands: bytes) -> list[Any]:
        """Write commands in one go, and return one reply for each, errors too; raise as `Session.ask`."""
        if not self.is_asking:
            return await super().ask(*commands)
        # It counts for one command, or up to the end of a transaction.
        written: list[bytes] = []
        places: list[int] = []
        is_inside = False
        for command in commands:
            if not is_inside:
                written.append(ASKING)
            is_inside = command == MULTI or (is_inside and command != EXEC)
            places.append(len(written))
            written.append(command)
        replies = await super().ask(*written)
        return [replies[place] for place in places]

    async def check_serves(self, channel: str) -> None:
        """Return if the node serves a stream.

        Raises:
            TransportError: It does not (`Redirected`), or the connection is dead.
        """
        [reply] = await self.ask(pack_command("XLEN", channel))
        if isinstance(reply, hiredis.ReplyError):
            raise self.refusal("XLEN", channel, str(reply))

    def refusal(self, command: str, channel: str, text: str) -> TransportError:
        """Return what an error reply to a command on a channel means; `Redirected` if another node is to be asked."""
        error = super().refusal(command, channel, text)
        return Redirected(str(error), text, self.address) if text.partition(" ")[0] in _AGAIN else error
