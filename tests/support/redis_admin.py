"""What an operator does to a Redis server: `execute`."""

from __future__ import annotations

from typing import Any

import redis

__all__ = ["execute"]


def execute(url: str, *words: str) -> Any:
    """Send one command as the user of the URL, and return the reply."""
    untyped: Any = redis.Redis
    client = untyped.from_url(url, decode_responses=True)
    try:
        return client.execute_command(*words)
    finally:
        client.close()
