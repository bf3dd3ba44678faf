"""The first words on a connection: `shake_hands`, which switches to RESP3, logs in, sets a name, selects a database.

redis-py's own handshake takes every refusal for the same thing, and asks for more than is needed: CLIENT SETINFO, which
users often may not send and which makes some servers hang up.
"""

from __future__ import annotations

from collections.abc import Sequence
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

    All of it takes one round trip where the server knows HELLO. A name that may not be set is left out: it is for
    people who look at CLIENT LIST.

    Raises:
        Refused: The server answered with an error.
        RedisError: It closed the connection, or what it sends is no RESP.
    """
    connection.prepare()
    login = await _credentials(connection)
    settings = _settings(connection)
    wants_resp3 = int(cast("Any", connection.protocol)) == RESP3
    knows_hello = wants_resp3 and await _switch(connection, login, settings)
    if not connection.greeting.is_resp3:
        if login:
            await _ask(connection, "AUTH", *login)
        if knows_hello and not connection.greeting.mode:
            connection.greeting = Greeting.parse(await connection.ask("HELLO"))
        if settings:
            await connection.say(*settings)
    for command, *_ in settings:
        reply = await connection.next_reply()
        if isinstance(reply, hiredis.ReplyError) and not (command == "CLIENT" and is_about_rights(str(reply))):
            raise Refused("CLIENT SETNAME" if command == "CLIENT" else command, str(reply))


def _settings(connection: LinkConnection) -> list[tuple[str, ...]]:
    """Return the commands that set the connection's name, and choose its database."""
    name = [("CLIENT", "SETNAME", connection.client_name)] if connection.client_name else []
    return [*name, *([("SELECT", str(connection.db))] if connection.db else [])]


async def _switch(connection: LinkConnection, login: tuple[str, ...], settings: Sequence[tuple[str, ...]]) -> bool:
    """Switch to RESP3 and log in, in one step; leave both undone if the server knows no RESP3, and RESP2 will do.

    The settings go out in the same write. Their replies are still to be read if the server speaks RESP3 now.

    Returns:
        Whether the server knows HELLO.
    """
    try:
        reply = await _say_hello(connection, login, settings)
    except Refused as refused:
        if not connection.may_speak_resp2 or refused.step != "HELLO" or not lacks_resp3(refused.text):
            raise
        await _drop_replies(connection, settings)
        return refused.text.startswith("NOPROTO")
    if not isinstance(reply, dict | list):
        raise hiredis.ProtocolError
    connection.greeting = Greeting.parse(reply)
    if not connection.greeting.is_resp3:
        if not connection.may_speak_resp2:
            raise Refused("HELLO", "NOPROTO")
        await _drop_replies(connection, settings)
    return True


async def _say_hello(connection: LinkConnection, login: tuple[str, ...], settings: Sequence[tuple[str, ...]]) -> Any:  # noqa: ANN401 -- whatever Redis sends
    """Return the reply to HELLO, behind which those to the settings come.

    A refusal is raised without a look at what comes behind it: some servers leave replies out when a login failed.
    """
    auth = ("AUTH", *(login if len(login) > 1 else ("default", *login))) if login else ()
    try:
        return await _ask(connection, "HELLO", "3", *auth, then=settings)
    except Refused as refused:
        if not login or not refused.text.startswith("NOAUTH"):
            raise
    # A proxy that takes AUTH first, and nothing else before it.
    await _drop_replies(connection, settings)
    await _ask(connection, "AUTH", *login)
    return await _ask(connection, "HELLO", "3", then=settings)


async def _drop_replies(connection: LinkConnection, settings: Sequence[tuple[str, ...]]) -> None:
    """Read what the server said to settings that came too early; they are sent again."""
    for _ in settings:
        await connection.next_reply()


async def _credentials(connection: LinkConnection) -> tuple[str, ...]:
    """Return the user name and password, or the password alone, or nothing."""
    provider = connection.credential_provider
    if provider is None and (connection.username or connection.password):
        provider = UsernamePasswordCredentialProvider(connection.username, connection.password)
    return () if provider is None else tuple(await provider.get_credentials_async())


async def _ask(connection: LinkConnection, command: str, *operands: str, then: Sequence[tuple[str, ...]] = ()) -> Any:  # noqa: ANN401 -- whatever Redis sends
    await connection.say((command, *operands), *then)
    reply = await connection.next_reply()
    if isinstance(reply, hiredis.ReplyError):
        raise Refused(command, str(reply))
    return reply
