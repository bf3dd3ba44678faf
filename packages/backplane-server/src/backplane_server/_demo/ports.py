"""Free ports of this machine, and HTTP requests to them: `free_ports`, `request`."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

__all__ = ["HOST", "free_ports", "request"]

HOST: Final = "127.0.0.1"
ANSWER_S: Final = 5.0
"""Seconds for an answer: a machine that is starved of processor time may take long."""


def free_ports(count: int) -> Sequence[int]:
    """Return this many different ports that are free now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server((HOST, 0))) for _ in range(count)]
        return [it.getsockname()[1] for it in sockets]


async def request(port: int, method: str, path: str, body: object = None) -> tuple[int, bytes]:
    """Send a request, and return the status and the body of the response.

    Args:
        port: The port on this machine.
        method: GET or POST.
        path: The path with its query.
        body: Sent as JSON; None: nothing is.

    Raises:
        OSError: Nothing answers in time.
    """
    return await asyncio.to_thread(_request, port, method, path, body)


def _request(port: int, method: str, path: str, body: object) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(HOST, port, timeout=ANSWER_S)
    try:
        data = None if body is None else json.dumps(body).encode()
        connection.request(method, path, data, {} if data is None else {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    except http.client.HTTPException as error:
        raise ConnectionError(f"no answer in HTTP: {type(error).__name__}") from None
    finally:
        connection.close()
