"""What must hold for any bytes from the bus, and the coverage-guided fuzzer that looks for bytes for which it does not.

$ uv run --group fuzz python -m tests.product.hostile.fuzz_envelope -runs=100000 found/ tests/product/hostile/corpus/
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Sequence
from random import Random
from types import FunctionType
from typing import Any, Final

from backplane_core import (
    BackplaneEnvelope,
    EnvelopeError,
    Event,
    EventEncodeError,
    Intersection,
    Target,
    decode_envelope,
    encode_envelope,
)
from backplane_core import envelope as _envelope
from backplane_core import target as _target
from backplane_core._protocol import frame as _frame
from backplane_core._protocol import json as _json
from backplane_core._protocol import signing as _signing
from backplane_core._protocol.exclusion import Exclusion
from backplane_core._protocol.frame import Head, decode_exclusion, decode_head, decode_targets
from backplane_core._protocol.json import MAX_DEPTH, compact
from backplane_core._protocol.signing import SIGNED_HEAD_BYTES, Signer, SigningKeys
from backplane_core._runtime.system import System

from tests.product.hostile.frames import GOOD, SECRET, mutate
from tests.support.texts import error_texts

REFUSED: Final = object()

SIGNER: Final = Signer(SigningKeys(["a key of 32 characters, no less."]), 300, System(wall=lambda: 1_764_000_000.0))
SIGNED: Final = tuple(SIGNER.sign("backplane", frame) for frame in GOOD)
"""The good frames, signed for the channel "backplane"."""


def check(data: bytes) -> bool:
    """Assert what holds for all bytes; return whether a pod takes them for an envelope.

    Nothing but `EnvelopeError` comes out, and it shows no payload. What the public decoder takes, a pod's reader takes
    and reads the same from it, and it encodes again. An event is one line of JSON, or has no value.
    """
    envelope = _read(lambda: decode_envelope(data))
    read = _read(lambda: _as_a_pod(data))
    if read is REFUSED:
        assert envelope is REFUSED
        return False
    head, targets, exclude, event = read
    text = event.text
    assert "\n" not in text
    assert "\r" not in text
    value = _read(lambda: event.value)
    if value is not REFUSED and not _is_deep(value):
        assert json.loads(text) == value
    if envelope is REFUSED:
        assert value is REFUSED or len(head.trace)
    else:
        left_out = exclude or Exclusion()
        assert (envelope.to or (envelope.target, *envelope.also)) == targets
        assert (envelope.exclude, envelope.to_exclude) == (left_out.ids, left_out.targets)
        assert (envelope.origin, envelope.seq) == (head.origin, head.seq)
        _encodes_again(envelope)
    return True


def check_signed(data: bytes) -> bool:
    """Assert what a fleet that signs promises of all bytes; return whether a pod of it takes them for signed.

    Nothing but `EnvelopeError` comes out, and it shows no payload. Only what was signed is taken, and only as it was
    signed, there and nowhere else. Nobody without keys takes anything that starts as signed messages do.
    """
    plain = _read(lambda: SIGNER.verify("backplane", data))
    assert (plain is REFUSED) is (data not in SIGNED)
    assert plain is REFUSED or plain == data[SIGNED_HEAD_BYTES:]
    assert _read(lambda: SIGNER.verify("backplane2", data)) is REFUSED
    if data.startswith(b"backplane-signed-"):
        assert _read(lambda: decode_envelope(data)) is REFUSED
        assert _read(lambda: _as_a_pod(data)) is REFUSED
    # Any bytes can be signed, and come back.
    assert SIGNER.verify("backplane", SIGNER.sign("backplane", data)) == data
    return plain is not REFUSED


def _as_a_pod(data: bytes) -> tuple[Head, Sequence[Target | Intersection], Exclusion | None, Event]:
    head = decode_head(data)
    return head, decode_targets(head), decode_exclusion(head), Event(compact(bytes(head.event)))


def _read(how: Callable[[], Any]) -> Any:
    try:
        return how()
    except EnvelopeError as error:
        shown = error_texts(error)
    assert SECRET not in shown
    return REFUSED


def _encodes_again(envelope: BackplaneEnvelope) -> None:
    try:
        again = encode_envelope(envelope)
    except EventEncodeError:
        assert _is_deep(envelope.event) or _is_deep(envelope.trace)
        return
    assert b"\n" not in again
    assert b"\r" not in again
    assert decode_envelope(again) == envelope


def _is_deep(value: Any) -> bool:
    """Whether it has more levels than an event that we send; the standard library's reader may stop soon after."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [
            item
            for outer in level
            if isinstance(outer, (list, dict))
            for item in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(item, (list, dict))
        ]
        if not level:
            return False
    return True


def fuzz() -> None:
    """Run libFuzzer over `check`; it ends the process, with 0 if nothing was found."""
    atheris: Any = importlib.import_module("atheris")

    def vary(data: bytes, max_size: int, seed: int) -> bytes:
        chance = Random(seed)
        # Bytes at random alone rarely get past the first brace.
        return mutate(chance, data)[:max_size] if chance.random() < 0.5 else atheris.Mutate(data, max_size)

    def run(data: bytes) -> None:
        check(data)
        check_signed(data)

    for module in (_json, _frame, _signing, _target, _envelope):
        for thing in vars(module).values():
            if isinstance(thing, FunctionType):
                atheris.instrument_func(thing)
    atheris.Setup(sys.argv, run, custom_mutator=vary)
    atheris.Fuzz()


if __name__ == "__main__":
    fuzz()
