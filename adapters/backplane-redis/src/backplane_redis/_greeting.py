"""What a server says of itself: `Greeting`."""

from __future__ import annotations

import re
from typing import Any, Final, Self, cast

from attrs import frozen

__all__ = ["RESP2", "RESP3", "Greeting"]

RESP2: Final = 2
RESP3: Final = 3


@frozen(kw_only=True)
class Greeting:
    """What a server says of itself in its reply to HELLO; empty where it says nothing.

    Args:
        server: `redis`, `valkey`, or another name.
        version: As that server counts.
        mode: `standalone`, `cluster` or `sentinel`.
        role: `master` or `replica`.
        is_resp3: Whether it speaks RESP3 from now on.
        client_id: Its number for this connection; None: it did not say.
    """

    server: str = ""
    version: str = ""
    mode: str = ""
    role: str = ""
    is_resp3: bool = False
    client_id: int | None = None

    @classmethod
    def parse(cls, reply: Any) -> Self:  # noqa: ANN401 -- whatever Redis sends
        """Return what a reply to HELLO says; it is a map in RESP3 and a flat list in RESP2."""
        if isinstance(reply, list):
            flat = cast("list[object]", reply)
            fields = dict(zip(flat[::2], flat[1::2], strict=False))
        else:
            fields = cast("dict[object, object]", reply) if isinstance(reply, dict) else {}
        texts = {name: value.decode("utf-8", "replace") for name, value in fields.items() if isinstance(value, bytes)}
        said = {name: texts.get(name.encode(), "") for name in ("server", "version", "mode", "role")}
        number = fields.get(b"id")
        return cls(
            **said,
            is_resp3=fields.get(b"proto") == RESP3,
            client_id=number if isinstance(number, int) else None,
        )

    @property
    def is_replica(self) -> bool:
        """Whether it says that it is a replica."""
        return self.role in {"replica", "slave"}

    @property
    def tears_messages(self) -> bool:
        """Whether it is a Valkey that tears large messages."""
        return self.server == "valkey" and re.match(r"9\.0\.|9\.1\.[01]\b", self.version) is not None
