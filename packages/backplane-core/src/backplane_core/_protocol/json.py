"""Events as JSON: the strict encoder, the check of JSON that a host made itself, and the decoder behind `Event.value`.

msgspec writes, and a walk in Python decides what it may write, as it would turn NaN into null and bytes into base64
without a word. orjson could do both in half the time, but its newest releases (3.12.0 and 3.13.0) have no limit for
nested tuples and overwrite memory beyond their buffer, so an event that holds itself would kill the pod.
"""

# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# -- an event may be anything

from __future__ import annotations

import gc
from collections.abc import Iterable
from enum import Enum
from types import NoneType
from typing import Any, Final, TypeAlias
from uuid import UUID

import msgspec

from backplane_core._protocol.bad_value import ALLOWED, describe_bad_value
from backplane_core.errors import EnvelopeError, EventEncodeError

__all__ = ["JSON", "MAX_DEPTH", "compact", "decode_event", "encode_event", "normalize_json"]

JSON: TypeAlias = "bool | int | float | str | UUID | Enum | list[JSON] | tuple[JSON, ...] | dict[str, JSON] | None"
"""What an event may hold: None, bool, int, finite float, str, UUID, Enum, list, tuple, dict with str keys.

A UUID travels as its text. A member of an Enum travels as the str or int that it is, else as its value, which must be
one of these in turn.
"""

MAX_DEPTH: Final = 256
"""Levels of nesting. Deep enough for any document; far from the recursion limit of the pod that has to read it."""

_LARGE_BYTES: Final = 64 * 1024

_TOO_DEEP: Final = f"the event is nested deeper than {MAX_DEPTH} levels"
_SCALARS: Final = frozenset({str, int, bool, NoneType})


def _plain(value: object) -> object:
    """Return what a subclass is without its class, as the standard library's encoder does."""
    for kind in (str, int, float):
        if isinstance(value, kind):
            return getattr(kind, "__str__" if kind is str else f"__{kind.__name__}__")(value)
    if isinstance(value, Enum):  # msgspec before 0.21 knows only those of Enum's own metaclass
        return value._value_
    raise TypeError


_encode: Final = msgspec.json.Encoder(enc_hook=_plain).encode
_decode: Final = msgspec.json.Decoder().decode


def encode_event(event: object) -> bytes:  # noqa: C901, PLR0912 -- calls are what it saves
    """Return the event as JSON on one line, or raise before anyone has got anything.

    Raises:
        EventEncodeError: It holds something else than `JSON`, a cycle, over 256 levels, or a lone surrogate.
    """
    try:
        if type(event) is not dict:
            if type(event) not in _SCALARS:
                _check(event, MAX_DEPTH)
            return _encode(event)
        # Nearly every event is a dict of plain values with at most a few dicts and lists of such in it. This look at it
        # takes two thirds of the time that `_check_members` does, which looks at whatever else there is.
        for key, item in event.items():
            if type(key) is not str:
                break
            kind = type(item)
            if kind in _SCALARS or (kind is float and item - item == 0):
                continue
            if kind is dict:
                for inner_key, inner in item.items():
                    if type(inner_key) is not str or type(inner) not in _SCALARS:
                        break
                else:
                    continue
            elif kind is list:
                for inner in item:
                    if type(inner) not in _SCALARS:
                        break
                else:
                    continue
            break
        else:
            return _encode(event)
        _check_members(event.items(), MAX_DEPTH)
        return _encode(event)
    except (TypeError, ValueError, OverflowError):
        problem = f"the event holds a value that JSON has no form for; {ALLOWED}"
    except RecursionError:
        problem = f"{_TOO_DEEP}, or than the caller's stack has room for"
    # Out here, where no `__context__` carries the event.
    raise EventEncodeError(describe_bad_value(event, MAX_DEPTH) or problem)


def normalize_json(data: object) -> bytes:
    """Return JSON that a host holds already as bytes on one line, or raise before anyone has got anything.

    It is read once, completely, so that everyone who gets it can read it too.

    Raises:
        EventEncodeError: It is not exactly one JSON value in UTF-8, nests over 256 levels, or holds a number that no
            double holds or a lone surrogate.
    """
    value: object = None
    try:
        if type(data) is not bytes:
            data = _as_bytes(data)
        value = _decode(data) if len(data) < _LARGE_BYTES else _decode_large(data)
        # Text may hold brackets too, so this counts too many levels and never too few.
        if data.count(b"[") + data.count(b"{") > MAX_DEPTH:
            _check(value, MAX_DEPTH)
        return (compact(data) if 10 in data or 13 in data else data).strip()  # noqa: PLR2004 -- LF and CR
    except EventEncodeError:
        raise
    except _RefusedError:
        problem = describe_bad_value(value, MAX_DEPTH) or _TOO_DEEP
    except UnicodeEncodeError:
        problem = "the event is not JSON: it holds a lone surrogate, which has no UTF-8 form"
    except msgspec.MsgspecError as error:
        problem = f"the event is not JSON: {error}"  # says where, and shows nothing of it
    except RecursionError:
        problem = _TOO_DEEP
    except ValueError:
        problem = "the event is not JSON: it holds an integer of too many digits, or its memory is released"
    # Out here, where no `__context__` carries the event.
    raise EventEncodeError(problem)


def _as_bytes(data: object) -> bytes:
    if isinstance(data, str):
        return str.encode(data)
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data)
    raise EventEncodeError(f"JSON is given as bytes or str, not as {type(data).__name__}")


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


# The walk over an event, which costs more than to write it: so what is most frequent is looked at in place. It says
# only that it refuses; what is in the way, and where, is for `describe_bad_value` to find.


class _RefusedError(ValueError):
    """An event holds what JSON has no form for."""


def _check_members(members: Iterable[tuple[object, Any]], levels: int) -> None:
    """Raise unless the members of a dict are JSON, in at most so many levels, its own included."""
    if not levels:
        raise _RefusedError
    for key, item in members:
        if type(key) is not str and not isinstance(key, str):
            raise _RefusedError
        kind = type(item)
        if kind is str or kind in _SCALARS or (kind is float and item - item == 0):
            continue
        if kind is dict:
            _check_members(item.items(), levels - 1)
        elif kind is list:
            _check_items(item, levels - 1)
        else:
            _check(item, levels - 1)


def _check_items(items: Iterable[Any], levels: int) -> None:
    """Raise unless the items of a list or tuple are JSON, in at most so many levels, its own included."""
    if not levels:
        raise _RefusedError
    for item in items:
        kind = type(item)
        if kind is str or kind in _SCALARS or (kind is float and item - item == 0):
            continue
        if kind is dict:
            _check_members(item.items(), levels - 1)
        else:
            _check(item, levels - 1)


def _check(value: object, levels: int) -> None:
    """Raise unless a value of any class is JSON, in at most so many levels."""
    if isinstance(value, float):
        if value - value != 0:  # neither NaN nor an infinity less itself is nothing
            raise _RefusedError
    # What a subclass really holds, as msgspec reads it, and not what its own methods say.
    elif isinstance(value, list):
        _check_items(list.__iter__(value), levels)
    elif isinstance(value, tuple):
        _check_items(tuple.__iter__(value), levels)
    elif isinstance(value, dict):
        _check_members(dict.items(value), levels)
    elif isinstance(value, Enum) and not isinstance(value, (str, int)):
        _check(value._value_, levels)
    elif not isinstance(value, (str, int, NoneType, UUID)):
        raise _RefusedError
