"""The first words on a connection: `shake_hands`, which switches to RESP3, logs in, sets a name, selects a database.

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
from backplane_redis._refusals import is_about_rights, lacks_resp3

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
    wants_resp3 = int(cast("Any", connection.protocol)) == RESP3
    knows_hello = wants_resp3 and await _switch(connection, login)
    if not connection.greeting.is_resp3:
        if login:
            await _ask(connection, "AUTH", login)
        if knows_hello and not connection.greeting.mode:
            connection.greeting = Greeting.parse(await connection.ask("HELLO"))
    if connection.client_name:
        try:
            await _ask(connection, "CLIENT SETNAME", (connection.client_name,))
        except Refused as refused:
            if not is_about_rights(refused.text):
                raise
    if connection.db:
        await _ask(connection, "SELECT", (str(connection.db),))


async def _switch(connection: LinkConnection, login: tuple[str, ...]) -> bool:
    """Switch to RESP3 and log in, in one step; leave both undone if the server knows no RESP3, and RESP2 will do.

    Returns:
        Whether the server knows HELLO.
    """
    try:
        reply = await _say_hello(connection, login)
    except Refused as refused:
        if not connection.may_speak_resp2 or refused.step != "HELLO" or not lacks_resp3(refused.text):
            raise
        return refused.text.startswith("NOPROTO")
    if not isinstance(reply, dict | list):
        raise hiredis.ProtocolError
    connection.greeting = Greeting.parse(reply)
    if not connection.greeting.is_resp3 and not connection.may_speak_resp2:
        raise Refused("HELLO", "NOPROTO")
    return True


async def _say_hello(connection: LinkConnection, login: tuple[str, ...]) -> Any:  # noqa: ANN401 -- whatever Redis sends
    auth = ("AUTH", *(login if len(login) > 1 else ("default", *login))) if login else ()
    try:
        return await _ask(connection, "HELLO", ("3", *auth))
    except Refused as refused:
        if not login or not refused.text.startswith("NOAUTH"):
            raise
    # A proxy that takes AUTH first, and nothing else before it.
    await _ask(connection, "AUTH", login)
    return await _ask(connection, "HELLO", ("3",))


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
