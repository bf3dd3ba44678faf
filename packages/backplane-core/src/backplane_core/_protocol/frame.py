"""The envelope's bytes: how a frame is built on publish, and how its head is read on receive.

The format is written down in docs/reference/wire-format.md. The event is never touched here: it stays bytes.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from backplane_core._protocol.exclusion import Exclusion
from backplane_core._protocol.json import MAX_DEPTH
from backplane_core._protocol.trace import Trace
from backplane_core.errors import EnvelopeError, InvalidTargetError
from backplane_core.target import (
    MAX_ID_BYTES,
    MAX_INTERSECTED,
    MAX_INTERSECTIONS,
    MAX_KIND_CHARACTERS,
    Intersection,
    Target,
    check_id,
)

__all__ = [
    "FRAME_OVERHEAD_BYTES",
    "MAX_EXCLUDED",
    "MAX_NUMBER",
    "MAX_TARGETS",
    "SIGNED_START",
    "Head",
    "build_frame",
    "check_head",
    "decode_event_id",
    "decode_exclusion",
    "decode_head",
    "decode_key",
    "decode_plain_targets",
    "decode_target",
    "decode_targets",
    "decode_terms",
    "encode_ids",
    "encode_marks",
    "encode_pod_members",
    "encode_to",
    "frame_head",
    "frame_prefix",
    "is_beat",
    "read_head",
]

FRAME_OVERHEAD_BYTES: Final = 1024 * 1024
"""What a frame may contain besides its event: targets of a union, excluded ids."""

_PASCAL: Final = re.compile(r"(?:[A-Z][a-z0-9]*)+", re.ASCII)
_WORD: Final = re.compile(r"[A-Z][a-z0-9]*", re.ASCII)

# A pod receives the same targets over and over: a dict look-up is six times cheaper than decoding one.
_MAX_CACHED_TARGETS: Final = 65_536
# Spaces and escapes make a target's bytes as long as a frame: 65,536 of those would not fit any pod.
_MAX_CACHED_TARGET_BYTES: Final = 256

MAX_TARGETS: Final = 2_048
"""Targets of one union: the most expensive ones take some 20 ms to read, and no frame may cost a pod more than 50."""
MAX_EXCLUDED: Final = 65_536
"""Excluded ids of one frame, for the same reason; ids of a usual length reach the limit in bytes first."""
MAX_NUMBER: Final = 2**64 - 1
"""The largest `seq`: it fits a word in other languages, and no sender ever gets that far."""
_SURELY_SHORT: Final = MAX_ID_BYTES // 4  # a character takes at most four bytes

SIGNED_START: Final = b"backplane-signed-"
"""The start of a signed frame of any version. No JSON starts so: a pod without keys rejects it, and can say why."""

_encode: Final = msgspec.json.Encoder().encode


class To(msgspec.Struct):
    """Whom an event is for, where `target`, `also` and `exclude` can't say it."""

    any: list[msgspec.Raw]
    not_: list[msgspec.Raw] | None = msgspec.field(name="not", default=None)


class Head(msgspec.Struct, gc=False):
    """The private struct that frames are decoded into: target and event stay raw. 0.3 µs for 300 bytes."""

    origin: Annotated[str, Meta(min_length=1)]
    target: msgspec.Raw
    event: msgspec.Raw
    seq: Annotated[int, Meta(ge=1)] | None = None
    prev: Annotated[int, Meta(ge=0)] | None = None
    also: list[msgspec.Raw] | None = None
    exclude: list[str] | None = None
    to: To | None = None
    trace: msgspec.Raw = msgspec.Raw()  # empty means absent; `Raw | None` would decode only null
    key: Annotated[str, Meta(min_length=1, max_length=MAX_ID_BYTES)] | None = None
    event_id: Annotated[str, Meta(min_length=1, max_length=MAX_ID_BYTES)] | None = None
    receipt: Annotated[int, Meta(ge=1, le=2**53 - 1)] | None = None
    # Beats only.
    routing: Annotated[str, Meta(max_length=64)] | None = None
    lanes: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    doubt: bool | None = None


_decode_head: Final = msgspec.json.Decoder(Head).decode
_decode_list: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_target: Final = msgspec.json.Decoder(str | dict[str, str]).decode
_targets: Final[OrderedDict[bytes, Target]] = OrderedDict()


def decode_head(payload: bytes) -> Head:
    """Return the head of a frame, with everything checked except targets, excluded ids and the size of the event.

    Raises:
        EnvelopeError: See `read_head` and `check_head`.
    """
    head = read_head(payload)
    check_head(head)
    return head


def read_head(payload: bytes) -> Head:
    """Return the head of a frame, with the JSON syntax and UTF-8 of all of it checked.

    Raises:
        EnvelopeError: Not JSON, not UTF-8, wrong types, or nested too deep.
    """
    try:
        if not payload.isascii():
            payload.decode()  # msgspec does not check UTF-8 inside what it leaves raw
        return _decode_head(payload)
    except UnicodeDecodeError:
        problem = "not UTF-8"
    except msgspec.MsgspecError as error:
        problem = str(error)
    except RecursionError:
        problem = "nested too deep"
    if payload.startswith(SIGNED_START):
        problem = "it is signed, and this pod has no signing_keys: give it those of the fleet"
    # Out here, where no `__context__` carries the frame.
    raise EnvelopeError(f"not an envelope: {problem}")


def is_beat(head: Head) -> bool:
    """Return whether a frame is a message between pods, not an event."""
    return head.routing is not None and bytes(head.event) == b"null"


def check_head(head: Head) -> None:
    """Raise unless the numbers and the origin are plausible.

    Raises:
        EnvelopeError: A number is larger than any sender gets to, or the origin is longer than an id.
    """
    seq, prev = head.seq, head.prev
    if (seq or prev or 0) > MAX_NUMBER or (seq is not None and prev is not None and prev >= seq):
        raise EnvelopeError("not an envelope: seq has 64 bits, and prev comes before it")
    if len(head.origin) > _SURELY_SHORT and len(head.origin.encode()) > MAX_ID_BYTES:
        raise EnvelopeError(f"not an envelope: an origin has at most {MAX_ID_BYTES} bytes")


def decode_target(raw: bytes) -> Target:
    """Return the target written as `{"User":"u1"}` or `"Everyone"`.

    Raises:
        EnvelopeError: It is not a target.
    """
    target = _targets.get(raw)
    if target is None:
        target = _read_target(raw)
        if len(raw) <= _MAX_CACHED_TARGET_BYTES:
            if len(_targets) >= _MAX_CACHED_TARGETS:
                _targets.popitem(last=False)  # one for one: to forget all at once would hold the loop
            _targets[raw] = target
    return target


def decode_targets(head: Head) -> tuple[Target | Intersection, ...]:
    """Return all targets of a frame: one, or a union without repeats.

    Raises:
        EnvelopeError: One of them is not a target, or there are too many.
    """
    plain = decode_plain_targets(head)  # also with `to`: a frame is accepted as a whole or not at all
    return plain if head.to is None else decode_terms(head.to.any)


def decode_plain_targets(head: Head) -> tuple[Target, ...]:
    """Return the targets in `target` and `also` of a frame, without repeats.

    Raises:
        EnvelopeError: One of them is not a target, or there are over 2,048.
    """
    first = decode_target(bytes(head.target))
    if not head.also:
        return (first,)
    if len(head.also) >= MAX_TARGETS:
        raise EnvelopeError(f"not an envelope: {len(head.also) + 1} targets, at most {MAX_TARGETS} are taken")
    return tuple(dict.fromkeys([first, *[decode_target(bytes(raw)) for raw in head.also]]))


def decode_terms(raws: Sequence[msgspec.Raw]) -> tuple[Target | Intersection, ...]:
    """Return the targets and intersections of a union, without repeats.

    Raises:
        EnvelopeError: An entry is neither, there is none, or there are too many.
    """
    if not 0 < len(raws) <= MAX_TARGETS:
        raise EnvelopeError(f"not an envelope: {len(raws)} targets, 1 to {MAX_TARGETS} are taken")
    terms = tuple(dict.fromkeys([_decode_term(bytes(raw)) for raw in raws]))
    _check_intersections(terms)
    return terms


def _decode_term(raw: bytes) -> Target | Intersection:
    if not raw.startswith(b"["):
        return decode_target(raw)
    raws = _decode_list(raw)
    if len(raws) > MAX_INTERSECTED:  # before any is read
        raise EnvelopeError(
            f"not an envelope: an intersection of {len(raws)} targets, 2 to {MAX_INTERSECTED} are taken"
        )
    try:
        return Intersection([decode_target(bytes(one)) for one in raws])
    except InvalidTargetError as error:
        raise EnvelopeError(f"not an envelope: {error}") from None


def _check_intersections(terms: Sequence[Target | Intersection]) -> None:
    if sum([type(term) is Intersection for term in terms]) > MAX_INTERSECTIONS:
        raise EnvelopeError(f"not an envelope: at most {MAX_INTERSECTIONS} intersections are taken")


def decode_exclusion(head: Head) -> Exclusion | None:
    """Return who must not get the event of a frame; None: nobody is left out.

    Raises:
        EnvelopeError: One of them is not a valid id or target, or there are too many.
    """
    barred = () if head.to is None else head.to.not_ or ()
    if not head.exclude and not barred:
        return None
    if len(barred) > MAX_INTERSECTIONS:
        raise EnvelopeError(f"not an envelope: at most {MAX_INTERSECTIONS} excluded targets are taken")
    return Exclusion(_decode_ids(head), decode_terms(barred) if barred else ())


def _decode_ids(head: Head) -> tuple[str, ...]:
    if head.exclude is not None and len(head.exclude) > MAX_EXCLUDED:
        raise EnvelopeError(f"not an envelope: {len(head.exclude)} excluded ids, at most {MAX_EXCLUDED} are taken")
    try:
        return tuple([check_id(id_, "an excluded connection id") for id_ in head.exclude or ()])
    except InvalidTargetError as error:
        raise EnvelopeError(f"not an envelope: {error}") from None


def decode_key(head: Head) -> str | None:
    """Return the key of a frame; None if it has none.

    Raises:
        EnvelopeError: It is too long.
    """
    if head.key is not None and len(head.key.encode()) > MAX_ID_BYTES:
        raise EnvelopeError(f"not an envelope: a key has at most {MAX_ID_BYTES} bytes")
    return head.key


def decode_event_id(head: Head) -> str:
    """Return the id of a frame's event, which has one.

    Raises:
        EnvelopeError: It is too long.
    """
    event_id = head.event_id or ""
    if len(event_id.encode()) > MAX_ID_BYTES:
        raise EnvelopeError(f"not an envelope: an event_id has at most {MAX_ID_BYTES} bytes")
    return event_id


def _read_target(raw: bytes) -> Target:
    try:
        value = _decode_target(raw)
        if isinstance(value, str):
            if value == "Everyone":
                return Target.everyone()
            raise EnvelopeError('not an envelope: a target is one-key, or the string "Everyone"')
        if len(value) != 1:
            raise EnvelopeError(f"not an envelope: a target has one key, this one has {len(value)}")
        ((pascal, id_),) = value.items()
        # The length first: the pattern backtracks over a long word.
        if len(pascal) > MAX_KIND_CHARACTERS or not _PASCAL.fullmatch(pascal):
            raise EnvelopeError("not an envelope: a target's kind is written in PascalCase")
        if pascal == "Everyone":
            raise EnvelopeError('not an envelope: everyone is the string "Everyone", without an id')
        return Target("_".join([word.lower() for word in _WORD.findall(pascal)]), id_)
    except msgspec.MsgspecError as error:
        raise EnvelopeError(f"not an envelope: target: {error}") from None
    except InvalidTargetError as error:
        raise EnvelopeError(f"not an envelope: {error}") from None
    except RecursionError:
        raise EnvelopeError("not an envelope: target: nested too deep") from None


def frame_prefix(origin: str) -> bytes:
    """Return the start of every frame of this origin, by which an echo is recognized without decoding it."""
    return b'{"origin":%b,"target":' % _encode(origin)


def frame_head(prefix: bytes, wire: bytes, to: bytes = b"") -> bytes:
    """Return the start of a frame to the target with this wire form; the event comes next."""
    return b'%b%b%b,"event":' % (prefix, wire, to)


def encode_to(targets: Sequence[Target | Intersection], barred: Sequence[Target | Intersection]) -> bytes:
    """Return `,"to":{...}` for an event that `target`, `also` and `exclude` can't address; empty if they can.

    A frame with it is addressed to nobody, so that a pod that does not know the member delivers it to nobody.

    Args:
        targets: Whom the event is for.
        barred: Who must not get it.
    """
    if not barred and all(type(target) is not Intersection for target in targets):
        return b""
    whom = b",".join([target.wire for target in targets])
    unless = b',"not":[%b]' % b",".join([target.wire for target in barred]) if barred else b""
    return b',"to":{"any":[%b]%b}' % (whom, unless)


def encode_pod_members(pod_name: str, routing: str, lanes: int) -> bytes:
    """Return the members that a frame for pods has besides those of any frame, as `,"name":value`."""
    return b',"pod":%b,"routing":%b,"lanes":%d' % (_encode(pod_name), _encode(routing), lanes)


def encode_ids(ids: Iterable[str]) -> bytes:
    """Return connection ids, already checked, as a JSON list."""
    return _encode(tuple(ids))


def encode_marks(
    key: str | None, number: int | None = None, event_id: str | None = None, trace: Trace | None = None
) -> bytes:
    """Return the members that an event has besides those that say who gets it, as `,"name":value`.

    Args:
        key: The newest event of a target and key is the one that matters.
        number: By which pods answer how many connections took it.
        event_id: The event's: another one with the same id and targets is the same event, published again.
        trace: What it belongs to.

    Raises:
        InvalidTargetError: The key or the id is none.
    """
    marks = b"" if trace is None else trace.encode()
    if key is not None:
        marks += b',"key":%b' % _encode(check_id(key, "key"))
    if event_id is not None:
        marks += b',"event_id":%b' % _encode(check_id(event_id, "event_id"))
    return marks if number is None else marks + b',"receipt":%d' % number


def build_frame(  # noqa: PLR0917 -- in the order of the frame
    prefix: bytes,
    targets: Sequence[Target],
    event: bytes,
    seq: int | None,
    prev: int | None,
    exclude: bytes | None = None,
    extra: bytes = b"",
    to: bytes = b"",
) -> bytes:
    """Return the bytes of an envelope.

    Args:
        prefix: The result of `frame_prefix`.
        targets: At least one target.
        event: The event as JSON.
        seq: The number of the frame, from 1; None from an unnumbered sender.
        prev: The previous `seq` on the channel; None if it is not known.
        exclude: The result of `encode_ids`.
        extra: More members, as `,"name":value`.
        to: The result of `encode_to`; if it is not empty, `targets` is a connection that no pod has.
    """
    frame = frame_head(prefix, targets[0].wire, to) + event
    if seq is not None:
        frame += b',"seq":%d' % seq
        if prev is not None:
            frame += b',"prev":%d' % prev
    if len(targets) > 1:
        frame += b',"also":[%b]' % b",".join([target.wire for target in targets[1:]])
    if exclude is not None:
        frame += b',"exclude":%b' % exclude
    return frame + extra + b"}"


if MAX_DEPTH >= 500:  # noqa: PLR2004 -- half of CPython's default recursion limit
    raise RuntimeError("an event that one pod accepts must be readable on another, whose stack may be deep")
