"""The first words on a connection: switch to RESP3, authenticate, set a name, select a database: `shake_hands`.

redis-py's own handshake takes every refusal for the same thing, and asks for more than is needed: CLIENT SETINFO, which
users often may not send and which makes some servers hang up.
"""

from __future__ import annotations

from typing import Any, cast

import hiredis
from attrs import frozen
from redis.credentials import UsernamePasswordCredentialProvider

from backplane_redis._connection import LinkConnection
from backplane_redis._greeting import RESP3, Greeting
from backplane_redis._refusals import is_about_rights

__all__ = ["Refused", "shake_hands"]


@frozen
class Refused(Exception):  # noqa: N818 -- what the server said
    """The server refused a step of the handshake.

    Args:
        step: The command, in words: `HELLO`, `CLIENT SETNAME`, `SELECT`.
        text: The error reply. Never shown as it is: a server may quote the command, password included.
    """

    step: str
    text: str


async def shake_hands(connection: LinkConnection) -> None:
    """Do all that has to be done before a connection is used; `connection.greeting` is what the server said of itself.

    A name that may not be set is left out: it is for people who look at CLIENT LIST.

    Raises:
        Refused: The server answered with an error.
        RedisError: It closed the connection, or what it sends is no RESP.
    """
    connection.prepare()
    login = await _credentials(connection)
    if int(cast("Any", connection.protocol)) == RESP3:
        auth = ("AUTH", *(login if len(login) > 1 else ("default", *login))) if login else ()
        reply = await _ask(connection, "HELLO", ("3", *auth))
        if not isinstance(reply, dict | list):
            raise hiredis.ProtocolError
        connection.greeting = Greeting.parse(reply)
        if not connection.greeting.is_resp3:
            raise Refused("HELLO", "NOPROTO")
    elif login:
        await _ask(connection, "AUTH", login)
    if connection.client_name:
        try:
            await _ask(connection, "CLIENT SETNAME", (connection.client_name,))
        except Refused as refused:
            if not is_about_rights(refused.text):
                raise
    if connection.db:
        await _ask(connection, "SELECT", (str(connection.db),))


async def _credentials(connection: LinkConnection) -> tuple[str, ...]:
    """Return the user name and password, or the password alone, or nothing."""
    provider = connection.credential_provider
    if provider is None and (connection.username or connection.password):
        provider = UsernamePasswordCredentialProvider(connection.username, connection.password)
    return () if provider is None else tuple(await provider.get_credentials_async())


async def _ask(connection: LinkConnection, step: str, operands: tuple[str, ...]) -> Any:  # noqa: ANN401 -- whatever Redis sends
    reply = await connection.ask(*step.split(), *operands)
    if isinstance(reply, hiredis.ReplyError):
        raise Refused(step, str(reply))
    return reply
