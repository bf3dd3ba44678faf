"""The error reply that redis-py made an exception of, for the way by its public API: `error_reply`."""

from __future__ import annotations

from typing import Any

import hiredis
from redis.exceptions import AskError, ClusterDownError, MovedError, NoPermissionError, ResponseError

from backplane_redis._refusals import is_unknown_command
from backplane_redis._verdicts import is_about_size

__all__ = ["error_reply"]


def error_reply(error: ResponseError) -> hiredis.ReplyError:
    """Return the reply that this exception stands for, as far as the exception still shows it."""
    return hiredis.ReplyError(_text(error))


def _text(error: ResponseError) -> str:
    if isinstance(error, NoPermissionError):
        return f"NOPERM {error}"
    if isinstance(error, MovedError):
        moved: Any = error  # untyped
        return f"MOVED {moved.slot_id} {moved.host}:{moved.port}"
    if isinstance(error, AskError):
        return "ASK"
    if isinstance(error, ClusterDownError):
        return "CLUSTERDOWN"
    # redis-py takes the code ERR away, so that a torn message may look like it.
    text = f"ERR {error}"
    return text if is_about_size(text) or is_unknown_command(text) else "ERR"
