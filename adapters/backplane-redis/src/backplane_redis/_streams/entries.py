"""What a server says of a stream and its entries."""

from __future__ import annotations

from typing import Any, Final

import hiredis
from backplane_core import TransportError

from backplane_redis._streams.place import StreamInfo
from backplane_redis._streams.session import Session

__all__ = ["FIELD", "parse_info", "read_payload"]

FIELD: Final = b"f"
"""The field of an entry that holds the frame."""


def read_payload(fields: Any) -> bytes:  # noqa: ANN401 -- whatever is in the stream
    """Return the frame of an entry; of one that somebody else added, nothing that is an envelope."""
    try:
        name, payload = fields
    except (TypeError, ValueError):  # none, or other ones
        return b""
    return payload if name == FIELD and type(payload) is bytes else b""


def parse_info(session: Session, channel: str, reply: Any) -> StreamInfo:  # noqa: ANN401 -- whatever Redis sends
    """Return what the reply to `XINFO STREAM` says; of a stream that is not there, that it never had an entry.

    Raises:
        TransportError: It was refused, or the server is too old.
    """
    if isinstance(reply, hiredis.ReplyError):
        if str(reply).startswith("ERR no such key"):
            return StreamInfo()
        raise session.refusal("XINFO STREAM", channel, str(reply))
    info = StreamInfo.parse(reply)
    if info is None:
        raise TransportError(
            f"Redis at {session.where} does not count what is added to a stream: use Redis 7.0 or later, or Valkey",
            retryable=False,
        )
    return info
