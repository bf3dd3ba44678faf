"""Events as JSON: the strict encoder, and the decoder behind `Event.value` and decoding sinks."""

from __future__ import annotations

import gc
from types import NoneType
from typing import Final, TypeAlias, cast

import msgspec

from backplane_core.errors import EnvelopeError, EventEncodeError

__all__ = ["JSON", "MAX_DEPTH", "compact", "decode_event", "encode_event"]

JSON: TypeAlias = "bool | int | float | str | list[JSON] | tuple[JSON, ...] | dict[str, JSON] | None"
"""What an event may hold: None, bool, int, finite float, str, list, tuple, dict with str keys."""

MAX_DEPTH: Final = 256
"""Levels of nesting. Deep enough for any document; far from the recursion limit of the pod that has to read it."""

_LARGE_BYTES: Final = 64 * 1024

_ALLOWED: Final = "an event may hold None, bool, int, finite float, str, list, tuple and dict with str keys"
_TOO_DEEP: Final = f"the event is nested deeper than {MAX_DEPTH} levels, or holds itself"
_SCALARS: Final = frozenset({str, int, bool, NoneType})


def _plain(value: object) -> object:
    """Return what a subclass of str, int or float is without its class, as the standard library's encoder does."""
    for kind in (str, int, float):
        if isinstance(value, kind):
            return getattr(kind, "__str__" if kind is str else f"__{kind.__name__}__")(value)
    raise TypeError


_encode: Final = msgspec.json.Encoder(enc_hook=_plain).encode
_decode: Final = msgspec.json.Decoder().decode


def encode_event(event: object) -> bytes:
    """Return the event as JSON on one line, or raise before anyone has got anything.

    Raises:
        EventEncodeError: It holds something else than `JSON`, a cycle, over 256 levels, or a lone surrogate.
    """
    try:
        if type(event) is dict:
            # Most events are one flat dict: this loop costs half of what `_check` does.
            for key, item in event.items():  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] -- any
                if type(key) is not str or type(item) not in _SCALARS:  # pyright: ignore[reportUnknownArgumentType]
                    _check(event, MAX_DEPTH)  # pyright: ignore[reportUnknownArgumentType]
                    break
        elif type(event) not in _SCALARS:
            _check(event, MAX_DEPTH)
        return _encode(event)
    except EventEncodeError:
        raise
    except UnicodeEncodeError:
        problem = "the event holds a string with a lone surrogate: it has no UTF-8 form"
    except (TypeError, ValueError, OverflowError):
        problem = f"the event holds a value that JSON has no form for, or an integer of too many digits; {_ALLOWED}"
    except RecursionError:
        problem = _TOO_DEEP
    # Out here, where no `__context__` carries the event.
    raise EventEncodeError(problem)


def decode_event(data: bytes) -> object:
    """Return the Python value of an event's JSON; a new one on each call.

    Raises:
        EnvelopeError: It has none: a number beyond a double, or nesting beyond the recursion limit.
    """
    try:
        return _decode(data) if len(data) < _LARGE_BYTES else _decode_large(data)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        # ValueError: an integer of more digits than the interpreter converts.
        pass
    # Out here, where no `__context__` carries the event.
    raise EnvelopeError("an event's JSON has no Python value (a number out of range, or too deep)")


def _decode_large(data: bytes) -> object:
    """Decode without the garbage collector, which would walk over half a million new lists again and again."""
    # No other thread runs meanwhile: the decoder keeps the interpreter's lock.
    if not gc.isenabled():
        return _decode(data)
    gc.disable()
    try:
        return _decode(data)
    finally:
        gc.enable()


def compact(data: bytes) -> bytes:
    """Return JSON without line breaks: a foreign pod's pretty-printed event would break an SSE `data:` line."""
    return msgspec.json.format(data, indent=-1)


def _check(value: object, levels: int) -> None:
    """Raise unless `value` is JSON. msgspec would turn NaN into null and bytes into base64 without a word."""
    if isinstance(value, (dict, list, tuple)):
        _check_items(cast("dict[object, object] | list[object] | tuple[object, ...]", value), levels)
    elif isinstance(value, float):
        if value - value != 0:  # neither NaN nor an infinity less itself is nothing
            raise EventEncodeError(f"the event holds NaN or an infinity; {_ALLOWED}")
    elif not isinstance(value, (str, int)):
        raise EventEncodeError(f"the event holds a value of type {type(value).__name__}; {_ALLOWED}")


def _check_items(value: dict[object, object] | list[object] | tuple[object, ...], levels: int) -> None:
    if not levels:
        raise EventEncodeError(_TOO_DEEP)
    if isinstance(value, dict):
        for key in value:
            if type(key) is not str and not isinstance(key, str):
                raise EventEncodeError(f"the event holds a dict with a key of type {type(key).__name__}; {_ALLOWED}")
        value = list(value.values())
    for item in value:
        if type(item) not in _SCALARS:
            _check(item, levels - 1)
