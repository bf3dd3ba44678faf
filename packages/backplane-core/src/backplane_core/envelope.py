"""What travels on the bus: `BackplaneEnvelope` and its codec.

The format is public (docs/reference/wire-format.md): pods in other languages write and read it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from attrs import Attribute, field, frozen
from attrs.validators import instance_of

from backplane_core._protocol.exclusion import Exclusion
from backplane_core._protocol.frame import (
    MAX_EXCLUDED,
    MAX_NUMBER,
    MAX_TARGETS,
    build_frame,
    decode_event_id,
    decode_exclusion,
    decode_head,
    decode_key,
    decode_plain_targets,
    decode_targets,
    encode_ids,
    encode_marks,
    encode_to,
    frame_prefix,
)
from backplane_core._protocol.json import decode_event, encode_event
from backplane_core.errors import EnvelopeError, InvalidTargetError
from backplane_core.target import MAX_INTERSECTIONS, Intersection, Target, check_id

__all__ = ["BackplaneEnvelope", "decode_envelope", "encode_envelope"]


def _targets(values: Iterable[Target]) -> tuple[Target, ...]:
    return tuple(values)


def _terms(values: Iterable[Target | Intersection]) -> tuple[Target | Intersection, ...]:
    return tuple(values)


def _ids(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(values)


def _check_origin(_: object, __: object, origin: str) -> None:
    try:
        check_id(origin, "origin")
    except InvalidTargetError as error:
        raise EnvelopeError(str(error)) from None


def _check_seq(_: object, attribute: Attribute[Any], number: int | None) -> None:
    if number is not None and (type(number) is not int or not 1 <= number <= MAX_NUMBER):
        raise EnvelopeError(f"{attribute.name} is a whole number from 1 that has 64 bits, or None")


def _check_key(_: object, attribute: Attribute[Any], key: str | None) -> None:
    try:
        if key is not None:
            check_id(key, attribute.name)
    except InvalidTargetError as error:
        raise EnvelopeError(str(error)) from None


@frozen
class BackplaneEnvelope:
    """One event on its way between pods.

    Args:
        origin: Opaque id of the publishing pod, non-empty.
        target: Who should get the event.
        event: The JSON value; never shown in a repr.
        seq: Number of the frame, from 1, per origin and channel, below 2**64; None from unnumbered pods.
        prev: The previous `seq` on the channel; None if the sender does not know it.
        also: Further targets of a union, at most 2,047.
        exclude: Ids of connections that must not get the event, at most 65,536.
        trace: A tracing context, carried unchanged; never shown in a repr.
        key: Of the events of this target and key only the newest matters; None: all do.
        event_id: Another event of this target with the same id is this one, published again; None: it has none.
        to: Whom the event is for, if `target` and `also` can't express it; `target` is then one that no connection has.
        to_exclude: With `to`: connections that have one of these targets must not get the event, at most 64.

    Raises:
        EnvelopeError: The origin, the key or the event's id is not a valid id, a number is out of range, `prev` is not
            below `seq`, or there are too many targets or excluded ids.
    """

    origin: str = field(validator=_check_origin)
    target: Target = field(validator=instance_of(Target))
    event: Any = field(repr=False)
    seq: int | None = field(default=None, validator=_check_seq)
    prev: int | None = field(default=None, validator=_check_seq)
    also: tuple[Target, ...] = field(default=(), converter=_targets)
    exclude: tuple[str, ...] = field(default=(), converter=_ids)
    trace: Any = field(default=None, repr=False)
    key: str | None = field(default=None, validator=_check_key)
    event_id: str | None = field(default=None, validator=_check_key)
    to: tuple[Target | Intersection, ...] = field(default=(), converter=_terms)
    to_exclude: tuple[Target | Intersection, ...] = field(default=(), converter=_terms)

    def __attrs_post_init__(self) -> None:
        if self.prev is not None and self.seq is None:
            raise EnvelopeError("prev needs seq: an unnumbered sender has no previous number")
        if self.prev is not None and self.seq is not None and self.prev >= self.seq:
            raise EnvelopeError("prev comes before seq")
        if len(self.to) > MAX_TARGETS or len(self.to_exclude) > MAX_INTERSECTIONS or (self.to_exclude and not self.to):
            raise EnvelopeError(
                f"to has at most {MAX_TARGETS} targets, and to_exclude needs it and has {MAX_INTERSECTIONS}"
            )
        if len(self.also) >= MAX_TARGETS or len(self.exclude) > MAX_EXCLUDED:
            raise EnvelopeError(f"at most {MAX_TARGETS} targets and {MAX_EXCLUDED} excluded ids are allowed")


def encode_envelope(envelope: BackplaneEnvelope) -> bytes:
    """Return the envelope's bytes: UTF-8 JSON on one line, members in the order of the format's description.

    Args:
        envelope: What to encode.

    Raises:
        EventEncodeError: The event or the trace contains something that JSON cannot represent.
        InvalidTargetError: An excluded id is not a valid id.
    """
    return build_frame(
        frame_prefix(envelope.origin),
        (envelope.target, *envelope.also),
        encode_event(envelope.event),
        envelope.seq,
        envelope.prev,
        encode_ids([check_id(id_, "an excluded connection id") for id_ in envelope.exclude])
        if envelope.exclude
        else None,
        (b"" if envelope.trace is None else b',"trace":' + encode_event(envelope.trace))
        + encode_marks(envelope.key, event_id=envelope.event_id),
        encode_to(envelope.to, envelope.to_exclude) if envelope.to else b"",
    )


def decode_envelope(data: bytes) -> BackplaneEnvelope:
    """Return the envelope in these bytes. Unknown members are ignored.

    Args:
        data: A message from the bus, not signed.

    Raises:
        EnvelopeError: They are not an envelope: not JSON, wrong types, a target with two keys, bad UTF-8, nesting too
            deep, or an event with a number that does not fit a double.
    """
    if not isinstance(data, (bytes, bytearray, memoryview)):  # pyright: ignore[reportUnnecessaryIsInstance] -- callers without a type checker
        raise EnvelopeError(f"an envelope is bytes, not {type(data).__name__}")
    head = decode_head(bytes(data))
    first, *also = decode_plain_targets(head)
    exclusion = decode_exclusion(head) or Exclusion()
    return BackplaneEnvelope(
        origin=head.origin,
        target=first,
        event=decode_event(bytes(head.event)),
        seq=head.seq,
        prev=head.prev or None if head.seq else None,
        also=also,
        exclude=exclusion.ids,
        trace=decode_event(trace) if (trace := bytes(head.trace)) else None,
        key=decode_key(head),
        event_id=None if head.event_id is None else decode_event_id(head),
        to=() if head.to is None else decode_targets(head),
        to_exclude=exclusion.targets,
    )
