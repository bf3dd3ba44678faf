"""The trace that an event belongs to, in the words of W3C Trace Context: `Trace`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Self

import msgspec
from attrs import frozen

from backplane_core.errors import EventEncodeError

__all__ = ["Trace"]

MAX_BYTES: Final = 2_048
"""Of what a frame says of its trace: a `tracestate` has 512 characters at most, each of which JSON may escape."""
_PARENT: Final = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_STATE: Final = re.compile(r"[\x20-\x7e]{1,512}")
_SAMPLED: Final = 1

_MEMBER: Final = b',"trace":'

_encode: Final = msgspec.json.Encoder().encode


class Carrier(msgspec.Struct):
    """What a frame says of its trace; other members are ignored."""

    traceparent: str = ""
    tracestate: str = ""


class Marked(msgspec.Struct):
    """The members of a frame that has a trace; others are ignored."""

    trace: Carrier


_decode: Final = msgspec.json.Decoder(Carrier).decode
_decode_marked: Final = msgspec.json.Decoder(Marked).decode


@frozen
class Trace:
    """A trace that is recorded.

    What comes from another service or the bus may be anything. The standard says to go on without a trace that is not
    well formed: no event is refused for its sake, and nothing of it is logged.

    Args:
        parent: The `traceparent`.
        state: The `tracestate`; empty: there is none.
    """

    parent: str
    state: str

    @classmethod
    def read(cls, carrier: Mapping[str, str]) -> Self | None:
        """Return what a carrier holds; None: no trace, or one that nobody records.

        Raises:
            EventEncodeError: It is no carrier.
        """
        if not isinstance(carrier, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance] -- callers without a type checker
            raise EventEncodeError("trace is a mapping with a traceparent, as OpenTelemetry's inject() fills it")
        return cls._checked(carrier.get("traceparent"), carrier.get("tracestate"))

    @classmethod
    def decode(cls, raw: bytes) -> Self | None:
        """Return what a frame holds; None: no trace of this kind, or one that nobody records."""
        if len(raw) > MAX_BYTES:
            return None
        try:
            carrier = _decode(raw)
        except msgspec.MsgspecError:
            return None
        return cls._checked(carrier.traceparent, carrier.tracestate)

    @classmethod
    def find(cls, marks: bytes) -> Self | None:
        """Return the trace among the members that `encode_marks` returned; None: it is not there."""
        if not marks.startswith(_MEMBER):
            return None
        carrier = _decode_marked(b"{%b}" % marks[1:]).trace
        return cls(carrier.traceparent, carrier.tracestate)

    @classmethod
    def _checked(cls, parent: object, state: object) -> Self | None:
        if not isinstance(parent, str) or not _PARENT.fullmatch(parent) or not int(parent[-2:], 16) & _SAMPLED:
            return None
        has_state = isinstance(state, str) and _STATE.fullmatch(state)
        return cls(parent, str(state) if has_state else "")

    def encode(self) -> bytes:
        """Return the member of a frame that holds it."""
        carrier = {"traceparent": self.parent}
        if self.state:
            carrier["tracestate"] = self.state
        return _MEMBER + _encode(carrier)
