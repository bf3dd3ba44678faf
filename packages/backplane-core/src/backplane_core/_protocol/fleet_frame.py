"""What pods say to each other besides events: the member `fleet` of a beat, as bytes and as structs.

The format is written down in docs/reference/wire-format.md, "Fleet frames".
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from backplane_core._protocol.frame import decode_target, decode_terms
from backplane_core._protocol.presence_frame import PresenceSaying
from backplane_core.errors import EnvelopeError, InvalidTargetError
from backplane_core.target import Target, check_id

__all__ = [
    "LEVEL",
    "MAX_INFO_BYTES",
    "MAX_LISTED",
    "ORDERS",
    "RECEIPT",
    "Answer",
    "Listed",
    "PodState",
    "Question",
    "Saying",
    "check_answer",
    "check_order",
    "decode_saying",
    "encode_level",
    "encode_saying",
    "is_close_code",
    "target_of",
]

LEVEL: Final = 1
"""What this version can answer. A pod whose beats say a lower level, or none, is not waited for."""

MAX_LISTED: Final = 10_000
"""Connections, or targets, that one question may ask a pod to list: nobody reads as many, and it takes some 10 ms."""

MAX_INFO_BYTES: Final = 1024
"""The largest `info` of a connection, as JSON: a label for people and tools, not a place to keep data."""

ORDERS: Final = frozenset({"associate", "dissociate", "close"})
"""Questions that have every pod do something with its connections."""

RECEIPT: Final = "receipt"
"""The question how many connections took the event that bears its number."""

MAX_CLOSE_CODE: Final = 4999
MAX_REASON_BYTES: Final = 123
"""What a WebSocket close frame has room for."""

MAX_QUESTION_ID: Final = 2**53 - 1
"""The largest number that every language's JSON reads exactly."""


class Question(msgspec.Struct, omit_defaults=True):
    """What one pod asks all others."""

    id: Annotated[int, Meta(ge=1, le=MAX_QUESTION_ID)]
    what: Annotated[str, Meta(max_length=32)]
    # Those that it is about, as in the envelope: a union.
    targets: list[msgspec.Raw] = []
    conn: str | None = None
    # An order: the target to associate or dissociate, or how to close.
    target: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    code: Annotated[int, Meta(ge=0, le=MAX_CLOSE_CODE)] = 0
    reason: Annotated[str, Meta(max_length=MAX_REASON_BYTES)] = ""
    limit: Annotated[int, Meta(ge=0, le=MAX_LISTED)] = 0


class PodState(msgspec.Struct, omit_defaults=True):
    """What a pod says of itself."""

    since: float
    connections: Annotated[int, Meta(ge=0)]
    targets: Annotated[int, Meta(ge=0)]
    routing: Annotated[str, Meta(max_length=32)]
    version: Annotated[str, Meta(max_length=64)]
    state: Annotated[str, Meta(max_length=32)]


class Listed(msgspec.Struct, omit_defaults=True):
    """One connection in an answer."""

    id: str
    since: float
    info: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class Answer(msgspec.Struct, omit_defaults=True):
    """What one pod answers to one question of another."""

    to: str
    id: Annotated[int, Meta(ge=1, le=MAX_QUESTION_ID)]
    # Why there is none: "refused", "unknown" or "large".
    no: Annotated[str, Meta(max_length=32)] | None = None
    count: Annotated[int, Meta(ge=0)] = 0
    pod: PodState | None = None
    listed: list[Listed] = []
    targets: list[msgspec.Raw] = []


class Saying(msgspec.Struct, omit_defaults=True):
    """The member `fleet`: what its sender can answer, and what it says besides.

    An order stands for itself on the channel of its targets; the roll call that follows is a question under its number.
    """

    level: Annotated[int, Meta(ge=0, le=1_000_000)]
    ask: Question | None = None
    answer: Answer | None = None
    order: Question | None = None
    # It has begun to hear, and every pod that hears this beats soon.
    hello: bool = False
    leaving: bool = False
    # Those who are present, see presence_frame.py.
    presence: PresenceSaying | None = None


class _PodFrame(msgspec.Struct):
    fleet: Saying | None = None


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(_PodFrame).decode


def is_close_code(code: int) -> bool:
    """Return whether a service may close a WebSocket with this code."""
    return code == 1000 or 3000 <= code <= MAX_CLOSE_CODE  # noqa: PLR2004 -- as RFC 6455 has them


def check_order(order: Question) -> None:
    """Raise unless this is an order that can be followed.

    Raises:
        EnvelopeError: It is not.
    """
    if order.what not in ORDERS:
        raise EnvelopeError("not an envelope: this is no order")
    decode_terms(order.targets)
    target = target_of(order)
    if (order.what == "close") is (target is not None):
        raise EnvelopeError("not an envelope: to associate and to dissociate take a target, to close takes none")
    if target is not None and target.kind in {"connection", "everyone"}:
        raise EnvelopeError("not an envelope: each connection has such a target by itself")
    if target is None and (not is_close_code(order.code) or len(order.reason.encode()) > MAX_REASON_BYTES):
        raise EnvelopeError("not an envelope: no socket can be closed so")


def target_of(order: Question) -> Target | None:
    """Return what an order associates or dissociates; None if it does neither.

    Raises:
        EnvelopeError: It is no target.
    """
    return None if isinstance(order.target, msgspec.UnsetType) else decode_target(bytes(order.target))


def check_answer(answer: Answer) -> None:
    """Raise unless what an answer lists is what a pod lists.

    Raises:
        EnvelopeError: An id or a target is none, or there is more than may be asked for.
    """
    if len(answer.listed) > MAX_LISTED or len(answer.targets) > MAX_LISTED:
        raise EnvelopeError(f"not an envelope: an answer lists at most {MAX_LISTED}")
    for target in answer.targets:
        decode_target(bytes(target))
    try:
        for one in answer.listed:
            check_id(one.id, "an id in an answer")
    except InvalidTargetError as error:
        raise EnvelopeError(f"not an envelope: {error}") from None


def encode_level(level: int) -> bytes:
    """Return the member that every beat ends with, as `,"fleet":{...}`."""
    return b',"fleet":%b' % _encode(Saying(level))


def encode_saying(saying: Saying) -> bytes:
    """Return the member of a frame that says something, as `,"fleet":{...}`."""
    return b',"fleet":%b' % _encode(saying)


def decode_saying(frame: bytes) -> Saying | None:
    """Return what a beat says, whose head was read already; None if its sender is a pod that says nothing.

    It is no member of `Head`: every frame would pay for it.

    Raises:
        EnvelopeError: The member is not of that form.
    """
    try:
        return _decode(frame).fleet
    except (msgspec.MsgspecError, RecursionError):
        problem = "not an envelope: fleet is not what one pod says to others"
    # Out here, where no `__context__` carries the frame.
    raise EnvelopeError(problem)
