"""How much of the kernel's memory a client that does not read may take."""

from __future__ import annotations

import asyncio
import socket
from typing import Final

__all__ = ["bound_kernel_buffer"]

SEND_BUFFER_BYTES: Final = 64 * 1024
"""Of the kernel, per socket. By itself Linux lets a client that never reads pile up 4 MiB, minutes of events, before
anyone notices; with this it is 0.3 MiB, and still more than a fast line has on its way."""


def bound_kernel_buffer(transport: asyncio.BaseTransport) -> None:
    """Give a connection a kernel buffer that shows soon that its client does not read."""
    line = transport.get_extra_info("socket")
    if line is not None and line.family in {socket.AF_INET, socket.AF_INET6}:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
