"""The events of all measurements, and whom they are for.

`nested` is what people publish: a new dict each time, with a dict and a list in it, some 200 bytes of JSON, for one of
a thousand users. `flat` is the cheapest event that can be counted, for rows that name it.
"""

from __future__ import annotations

import time
from typing import Any, Final

__all__ = ["SIZE", "USERS", "flat", "nested", "now", "user_id"]

USERS: Final = 1_000
SIZE: Final = 200
"""Of both kinds of event, in bytes of JSON, roughly."""

_PAD: Final = "x" * (SIZE - len('{"n":50000000,"pad":""}'))


def now() -> float:
    """Return seconds of the one clock that all processes of a machine share."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)


def user_id(number: int) -> str:
    """Return the id of the user whom the event of this number is for: a new string, as from a request or a row."""
    return f"u{number % USERS}"


def nested(number: int, user_id: str) -> dict[str, Any]:
    """Return the event of this number as an app builds it."""
    return {
        "n": number,
        "kind": "message_created",
        "author": {"id": user_id, "name": "Ada Lovelace", "admin": False},
        "tags": ["billing", "urgent"],
        "text": "Your invoice of October is ready: please sign by Friday.",
        "unread": 3,
    }


def flat(number: int) -> dict[str, Any]:
    """Return the event of this number with two keys."""
    return {"n": number, "pad": _PAD}
