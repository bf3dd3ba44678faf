"""What an event may hold: JSON as it is meant, or an error before anyone has got anything."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import collections
import datetime as dt
import enum
import fractions
import json
import uuid
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple, Self

import attrs
import pytest
from backplane_core import (
    EventEncodeError,
)
from backplane_core._protocol.json import MAX_DEPTH, decode_event, encode_event
from hypothesis import given
from hypothesis import strategies as st

from tests.product.core.test_envelope import json_values
from tests.support.texts import error_texts


@attrs.frozen
class Attrs:
    token: str = "s3cret"


@dataclass
class Data:
    token: str = "s3cret"


class Plain(enum.Enum):
    A = "s3cret"


class Float(float):
    __slots__ = ()


def nested(levels: int, shape: str = "list") -> Any:
    value: Any = []
    for _ in range(levels - 1):
        value = {"k": value} if shape == "dict" else (value,) if shape == "tuple" else [value]
    return value


CYCLE: list[Any] = ["s3cret"]
CYCLE.append({"again": CYCLE})

REFUSED: dict[str, Any] = {
    "NaN": float("nan"),
    "infinity": float("inf"),
    "minus infinity": float("-inf"),
    "a NaN of a subclass": Float("nan"),
    "bytes": b"s3cret",
    "a bytearray": bytearray(b"s3cret"),
    "a memoryview": memoryview(b"s3cret"),
    "a datetime": dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    "a date": dt.date(2026, 1, 1),
    "a timedelta": dt.timedelta(1),
    "a decimal": Decimal("1.5"),
    "a fraction": fractions.Fraction(1, 2),
    "a complex": 1j,
    "a uuid": uuid.UUID(int=1),
    "a set": {"s3cret"},
    "a frozenset": frozenset({"s3cret"}),
    "an object": object(),
    "a class": int,
    "a function": nested,
    "an attrs object": Attrs(),
    "a dataclass": Data(),
    "an enum": Plain.A,
    "a deque": collections.deque(["s3cret"]),
    "a UserDict": collections.UserDict({"a": "s3cret"}),
    "a dict view": {"s3cret": 1}.keys(),
    "a generator": (number for number in range(3)),
    "a range": range(3),
    "an exception": ValueError("s3cret"),
    "an int key": {1: "s3cret"},
    "a None key": {None: "s3cret"},
    "a bool key": {True: "s3cret"},
    "a float key": {1.5: "s3cret"},
    "a tuple key": {("s3cret",): 1},
    "a bytes key": {b"s3cret": 1},
    "a cycle": CYCLE,
    "257 lists": nested(MAX_DEPTH + 1),
    "257 dicts": nested(MAX_DEPTH + 1, "dict"),
    "257 tuples": nested(MAX_DEPTH + 1, "tuple"),
    "10,000 lists": nested(10_000),
    "a lone surrogate": "s3cret\ud800",
    "a lone surrogate in a key": {"s3cret\udfff": 1},
    "an int of 5,001 digits": 10**5000,
}


# Each also where a quick look would miss it: deep inside, beside what is fine.
def alone(value: Any) -> Any:
    return value


def inside(value: Any) -> Any:
    return {"fine": 1, "list": [True, ("s3cret", {"deep": value}), 2.5]}


PLACES: dict[str, Any] = {"alone": alone, "inside": inside}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES.keys())
@pytest.mark.parametrize("value", REFUSED.values(), ids=REFUSED.keys())
def test_what_is_not_json_is_refused_and_the_error_does_not_show_it(value: Any, place: Any) -> None:
    with pytest.raises(EventEncodeError) as error:
        encode_event(place(value))
    assert "s3cret" not in error_texts(error.value)


@pytest.mark.parametrize("shape", ["list", "dict", "tuple"])
def test_256_levels_are_taken(shape: str) -> None:
    encoded = encode_event(nested(MAX_DEPTH, shape))
    assert encoded == json.dumps(nested(MAX_DEPTH, shape), separators=(",", ":")).encode()


def deep_call(levels: int, event: Any) -> None:
    if levels:
        deep_call(levels - 1, event)
    else:
        encode_event(event)


@pytest.mark.parametrize("levels", [500, 700])
def test_a_caller_deep_in_its_own_recursion_gets_no_other_error(levels: int) -> None:
    with suppress(EventEncodeError):
        deep_call(levels, nested(MAX_DEPTH))


class Number(enum.IntEnum):
    A = 3


class Flag(enum.IntFlag):
    A = 1
    B = 2


class Text(enum.StrEnum):
    A = "x"


class Mixed(str, enum.Enum):  # noqa: UP042 -- hosts still have these, and they are encoded otherwise
    A = "y"


class Odd(str, enum.Enum):  # noqa: UP042 -- likewise
    """Its value is not its text."""

    def __new__(cls, text: str, value: object) -> Self:
        member = str.__new__(cls, text)
        member._value_ = value
        return member

    A = ("shown", b"s3cret")
    B = ("shown", float("nan"))


class Point(NamedTuple):
    x: int
    y: int


class SubStr(str):
    __slots__ = ()


class SubInt(int):
    def __repr__(self) -> str:
        return "no number"

    __str__ = __repr__


class SubList(list[Any]):
    pass


class SubTuple(tuple[Any, ...]):
    __slots__ = ()


class SubDict(dict[str, Any]):
    pass


SUBCLASSES: dict[str, Any] = {
    "IntEnum": Number.A,
    "IntFlag": Flag.A | Flag.B,
    "StrEnum": Text.A,
    "str Enum": Mixed.A,
    "an enum whose value is bytes": Odd.A,
    "an enum whose value is NaN": Odd.B,
    "namedtuple": Point(1, 2),
    "OrderedDict": collections.OrderedDict(b=1, a=2),
    "defaultdict": collections.defaultdict(int, a=1),
    "Counter": collections.Counter("aab"),
    "str": SubStr("s"),
    "int": SubInt(7),
    "float": Float(1.5),
    "list": SubList([1]),
    "tuple": SubTuple((1,)),
    "dict": SubDict(a=1),
    "str key": {SubStr("k"): 1},
    "StrEnum key": {Text.A: 1},
    "str Enum key": {Mixed.A: 1},
    "an odd enum as key": {Odd.A: 1},
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES.keys())
@pytest.mark.parametrize("value", SUBCLASSES.values(), ids=SUBCLASSES.keys())
def test_a_subclass_is_encoded_as_json_means_it_or_refused(value: Any, place: Any) -> None:
    meaning = json.loads(json.dumps(place(value), allow_nan=False))
    try:
        encoded = encode_event(place(value))
    except EventEncodeError:
        return
    assert json.loads(encoded) == meaning


@pytest.mark.parametrize("value", [2**63, 2**64, -(2**63) - 1, 2**200, -(2**200), 10**4000], ids=lambda v: str(v)[:9])
def test_an_int_of_any_size_that_the_interpreter_writes_comes_back(value: int) -> None:
    assert decode_event(encode_event({"n": value})) == {"n": value}


def as_lists(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [as_lists(item) for item in value]  # pyright: ignore[reportUnknownVariableType] -- JSON
    if isinstance(value, dict):
        return {key: as_lists(item) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType]
    return value


def typed(value: Any) -> Any:
    """Tell 1, 1.0 and True apart, and 0.0 from -0.0."""
    return repr(as_lists(value))


@given(st.recursive(json_values, lambda inner: st.tuples(inner, inner), max_leaves=4))
def test_any_json_value_comes_back_with_its_tuples_as_lists(value: Any) -> None:
    encoded = encode_event(value)
    assert typed(decode_event(encoded)) == typed(value)
    assert b"\n" not in encoded
    assert b"\r" not in encoded
