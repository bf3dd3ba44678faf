"""The frames of queues: what a job is on the wire, and what a queue may be called."""

from __future__ import annotations

import re
from typing import Final

import msgspec
from attrs import field, frozen

from backplane_core._protocol.frame import decode_head
from backplane_core._protocol.json import compact
from backplane_core.errors import ConfigurationError, EnvelopeError
from backplane_core.target import Target

__all__ = ["DEAD", "JobFrame", "check_queue", "decode_job", "encode_buried", "queue_target"]

DEAD: Final = ":dead"
"""The end of the name of the queue that has the jobs which another one gave up."""

_QUEUE: Final = re.compile(r"[A-Za-z0-9_-]{1,64}(?::dead)?", re.ASCII)


def check_queue(queue: object) -> str:
    """Return the name of a queue.

    Raises:
        ConfigurationError: It is none; says what is.
    """
    if not isinstance(queue, str) or not _QUEUE.fullmatch(queue):
        raise ConfigurationError(
            "a queue's name is 1 to 64 characters of [A-Za-z0-9_-]; those it gave up are in name:dead"
        )
    return queue


def queue_target(queue: str) -> Target:
    """Return whom a job is addressed to. No connection hears a queue's channel, whatever its targets."""
    return Target("queue", queue)


@frozen(kw_only=True)
class JobFrame:
    """What a frame of a queue says.

    Args:
        id: The job's.
        json: What was enqueued, on one line.
    """

    id: str
    json: bytes = field(repr=False)


class _Buried(msgspec.Struct, gc=False):
    id: str


class _Members(msgspec.Struct, gc=False):
    job: _Buried | None = None


_decode_members: Final = msgspec.json.Decoder(_Members).decode
_encode: Final = msgspec.json.Encoder().encode
_MAX_ID: Final = 2_048


def encode_buried(id_: str, attempts: int) -> bytes:
    """Return the member that a job has in the queue of those that were given up, as `,"job":{...}`."""
    return b',"job":{"id":%b,"attempts":%d}' % (_encode(id_), attempts)


def decode_job(payload: bytes) -> JobFrame:
    """Return what a frame of a queue says; it may come from anybody.

    Raises:
        EnvelopeError: It is no envelope, or its sender gave it no number.
    """
    head = decode_head(payload)
    if head.seq is None or head.routing is not None:
        raise EnvelopeError("not a job: it has no number, or is for pods")
    id_ = f"{head.origin}:{head.seq}"
    if b'"job"' in payload:
        try:
            buried = _decode_members(payload).job
        except msgspec.MsgspecError as error:
            raise EnvelopeError(f"not a job: {error}") from None
        if buried is not None:
            if not 0 < len(buried.id) <= _MAX_ID:
                raise EnvelopeError(f"not a job: an id has 1 to {_MAX_ID} characters")
            id_ = buried.id
    return JobFrame(id=id_, json=compact(bytes(head.event)))
