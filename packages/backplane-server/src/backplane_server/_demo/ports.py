"""Free ports of this machine, and requests to what listens at them: `free_ports`, `request`."""

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
"""What is asked is on this machine; this leaves room for one that is starved of processor time."""


def free_ports(count: int) -> Sequence[int]:
    """Return ports that are free now, each another one."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server((HOST, 0))) for _ in range(count)]
        return [it.getsockname()[1] for it in sockets]


async def request(port: int, method: str, path: str, body: object = None) -> tuple[int, bytes]:
    """Return the status and the body of an answer.

    Args:
        port: Of this machine.
        method: GET or POST.
        path: With its query.
        body: Sent as JSON; None: nothing is.

    Raises:
        OSError: Nothing answers there.
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
