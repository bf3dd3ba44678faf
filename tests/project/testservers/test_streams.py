"""A stand-in that ends leaves no connection, in whichever moment a client came."""

from __future__ import annotations

import asyncio
import socket
import ssl

import pytest
from backplane_testservers import ScriptedRedis
from backplane_testservers.leftovers import no_leftovers
from backplane_testservers.streams import serve
from backplane_testservers.tls import Certificates

from tests.support.leaks import find_leaks

TURNS = range(6)
"""When it ends, in turns of the loop after a client came."""


async def stay(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.read()


@pytest.mark.every_loop
@pytest.mark.parametrize("over_tls", [False, True])
async def test_a_client_of_the_last_moment_is_closed(certificates: Certificates, *, over_tls: bool) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.server.cert, certificates.server.key)
    for turns in TURNS:
        with socket.socket() as client:
            client.settimeout(0)
            async with no_leftovers(), serve(stay, tls=context if over_tls else None) as port:
                await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", port))
                for _ in range(turns):
                    await asyncio.sleep(0)
            assert await asyncio.to_thread(is_closed, client)


def is_closed(client: socket.socket) -> bool:
    client.settimeout(10)
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


async def test_what_a_handler_raises_is_raised_at_the_end() -> None:
    async def stumble(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        raise LookupError("the script has no answer")

    async def call() -> None:
        async with serve(stumble) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"x")
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()

    with pytest.raises(ExceptionGroup) as raised:
        await call()
    assert isinstance(raised.value.exceptions[0], LookupError)


def test_a_scripted_server_leaves_nothing_of_a_client_that_just_came() -> None:
    find_leaks()  # of others
    for _ in range(50):
        with ScriptedRedis() as server:
            clients = [socket.create_connection((server.host, server.port)) for _ in range(3)]
        for client in clients:
            client.close()
    assert find_leaks() == []
