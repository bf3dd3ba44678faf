"""Golden signed messages: the bytes in golden/signed/, and what is to be said of each in golden_signed.json.

A message is good (its `plain` frame, in golden/, is what a reader gets) or it is `refused`, with the reason.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from attrs import frozen

__all__ = ["KEYS", "MESSAGES", "Message"]

HERE: Final = Path(__file__).parent
KNOWN: Final[dict[str, Any]] = json.loads((HERE / "golden_signed.json").read_bytes())

KEYS: Final = tuple(bytes.fromhex(key) for key in KNOWN["keys"])
"""Of the fleet that hears them."""


@frozen(kw_only=True)
class Message:
    """A message as a pod of the fleet hears it.

    Args:
        payload: Its bytes.
        channel: Where it is heard.
        now: The wall clock at that time, Unix time in seconds.
        plain: The frame that it stands for; None if it must be refused.
        refused: Why it must be refused; None if it must not.
    """

    payload: bytes
    channel: str
    now: float
    plain: bytes | None
    refused: str | None

    @classmethod
    def named(cls, name: str) -> Message:
        """Return the message of that name."""
        known = {**KNOWN["heard"], **KNOWN["messages"][name]}
        plain = known.get("plain")
        return cls(
            payload=(HERE / "golden/signed" / f"{name}.frame").read_bytes(),
            channel=known["channel"],
            now=known["now"],
            plain=plain and (HERE / "golden" / f"{plain}.json").read_bytes(),
            refused=known.get("refused"),
        )


MESSAGES: Final = {name: Message.named(name) for name in KNOWN["messages"]}
