"""What an event may hold: JSON as it is meant, or an error before anyone has got anything."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import collections
import datetime as dt
import enum
import fractions
import json
import math
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple, Self

import attrs
import pytest
from backplane_core import (
    EventEncodeError,
)
from backplane_core._protocol.json import MAX_DEPTH, decode_event, encode_event, normalize_json
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


class Bytes(enum.Enum):
    A = b"s3cret"


class Infinite(enum.Enum):
    A = ("s3cret", float("inf"))


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
    "a set": {"s3cret"},
    "a frozenset": frozenset({"s3cret"}),
    "an object": object(),
    "a class": int,
    "a function": nested,
    "an attrs object": Attrs(),
    "a dataclass": Data(),
    "an enum whose value is bytes": Bytes.A,
    "an enum whose value holds an infinity": Infinite.A,
    "an enum's class": Bytes,
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
    "a uuid key": {uuid.UUID(int=1): "s3cret"},
    "an enum key": {Bytes.A: 1},
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


class Plain(enum.Enum):
    TEXT = "t"
    NUMBER = 1
    FRACTION = 1.5
    NOTHING = None
    LIST = ("a", [1, {"b": None}])
    UUID = uuid.UUID(int=1)


class Outer(enum.Enum):
    A = Plain.NUMBER
    B = (Plain.TEXT, {"k": Plain.UUID})


class Marks(enum.Flag):
    A = 1
    B = 2


class Meta(enum.EnumMeta):
    """As Django's choices have one."""


class Choice(enum.Enum, metaclass=Meta):
    A = ("x", uuid.UUID(int=2))


class SubUUID(uuid.UUID):
    def __str__(self) -> str:
        return "no uuid"


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

    def __repr__(self) -> str:  # enum's own takes the value for text
        return f"{type(self).__name__}.{self.name}"

    A = ("shown", b"s3cret")
    B = ("shown", float("nan"))


TEXT_OF_ONE = "00000000-0000-0000-0000-000000000001"

# Each with the JSON value that it stands for.
STAND_INS: dict[str, tuple[Any, Any]] = {
    "a uuid": (uuid.UUID(int=1), TEXT_OF_ONE),
    "a uuid of a subclass": (SubUUID(int=1), TEXT_OF_ONE),
    "an enum of text": (Plain.TEXT, "t"),
    "an enum of a number": (Plain.NUMBER, 1),
    "an enum of a fraction": (Plain.FRACTION, 1.5),
    "an enum of None": (Plain.NOTHING, None),
    "an enum of a tuple": (Plain.LIST, ["a", [1, {"b": None}]]),
    "an enum of a uuid": (Plain.UUID, TEXT_OF_ONE),
    "an enum of an enum": (Outer.A, 1),
    "an enum that holds enums": (Outer.B, ["t", {"k": TEXT_OF_ONE}]),
    "a flag": (Marks.A | Marks.B, 3),
    "an int enum": (Number.A, 3),
    "an int flag": (Flag.A | Flag.B, 3),
    "a str enum": (Text.A, "x"),
    "an enum that is a str": (Mixed.A, "y"),
    "an enum that is a str and has another value": (Odd.A, "shown"),
    "an enum of another metaclass": (Choice.A, ["x", "00000000-0000-0000-0000-000000000002"]),
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES.keys())
@pytest.mark.parametrize(("value", "meaning"), STAND_INS.values(), ids=STAND_INS.keys())
def test_a_uuid_is_encoded_as_its_text_and_an_enum_as_its_value(value: Any, meaning: Any, place: Any) -> None:
    assert encode_event(place(value)) == encode_event(place(meaning))
    assert json.loads(encode_event(value)) == meaning


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


class LyingList(list[Any]):
    """Holds bytes and shows a number."""

    def __iter__(self) -> Iterator[Any]:
        return iter([1])


class LyingTuple(tuple[Any, ...]):
    __slots__ = ()

    def __iter__(self) -> Iterator[Any]:
        return iter([1])


class LyingDict(dict[str, Any]):
    def items(self) -> Any:
        return {"a": 1}.items()

    def values(self) -> Any:
        return {"a": 1}.values()


@pytest.mark.parametrize("value", [LyingList([b"x"]), LyingTuple((b"x",)), LyingDict(a=b"x")], ids=type)
def test_what_a_subclass_says_of_itself_hides_nothing_that_it_holds(value: Any) -> None:
    with pytest.raises(EventEncodeError, match="bytes"):
        encode_event({"a": [value]})


SUBCLASSES: dict[str, Any] = {
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


# Each with what its error says before "; an event may hold".
AT: dict[str, tuple[Any, str]] = {
    "deep inside": (
        {"items": [1, 2.5, ("a",), {"name": "n", "price": Decimal("1.5")}]},
        'a value of type Decimal at event["items"][3]["price"]',
    ),
    "in a tuple": ({"pair": (1, {b"s3cret"})}, 'a value of type set at event["pair"][1]'),
    "in a list": ([[], [None, float("inf")]], "NaN or an infinity at event[1][1]"),
    "the event itself": (dt.date(2026, 1, 1), "a value of type date"),
    "a key": ({"a-b": {"c": {1: "s3cret"}}}, 'a dict with a key of type int at event["a-b"]["c"]'),
    "behind a key that is data": (
        {"users": {"ann": 1, "s3cret@example.org": {"at": dt.time(1)}}},
        'a value of type time at event["users"][<key 2>]["at"]',
    ),
    "behind a key that may be a token": ({"s3cret" * 6: b""}, "a value of type bytes at event[<key 1>]"),
    "behind a key that ends a string": ({'x"]': b""}, "a value of type bytes at event[<key 1>]"),
    "behind a key of a subclass": ({Text.A: {Mixed.A: b""}}, 'a value of type bytes at event["x"]["y"]'),
    "inside of an enum": ({"why": Infinite.A}, 'NaN or an infinity at event["why"][1]'),
    "an enum": ({"why": Bytes.A}, 'a value of type bytes at event["why"]'),
    "a lone surrogate": (["s3cret\ud800"], "a string with a lone surrogate (it has no UTF-8 form) at event[0]"),
    "many digits": ({"a": 10**5000}, 'an integer of too many digits at event["a"]'),
    "the first of two": ({"a": [1, b""], "b": b""}, 'a value of type bytes at event["a"][1]'),
    "very deep": (
        [[[[[[[[[[[[[[{"a": {"b": b""}}]]]]]]]]]]]]]],
        'a value of type bytes at event[0][0][0][0][0][…][0][0][0][0]["a"]["b"]',
    ),
}


@pytest.mark.parametrize(("value", "found"), AT.values(), ids=AT.keys())
def test_the_error_says_where_in_the_event_it_is(value: Any, found: str) -> None:
    with pytest.raises(EventEncodeError) as error:
        encode_event(value)
    assert str(error.value).startswith(f"the event holds {found}; an event may hold None, ")
    assert "s3cret" not in error_texts(error.value)


@pytest.mark.parametrize("value", [REFUSED["a cycle"], nested(10_000, "dict"), nested(10_000, "tuple")])
def test_what_is_nested_too_deep_is_shown_by_both_ends_of_its_path(value: Any) -> None:
    with pytest.raises(EventEncodeError, match="nested deeper than 256 levels, or holds itself at event") as error:
        encode_event({"deep": value})
    assert '["deep"]' in str(error.value)
    assert "[…]" in str(error.value)
    assert len(str(error.value)) < 250


def test_ready_json_that_is_nested_too_deep_is_shown_by_its_path_too() -> None:
    with pytest.raises(EventEncodeError, match=r'deeper than 256 levels, or holds itself at event\["a"\]\[0\]'):
        normalize_json(b'{"a":' + b"[" * 300 + b"]" * 300 + b"}")


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


class NotJSON(Exception):  # noqa: N818 -- what a value is
    pass


def meaning(value: Any, levels: int = MAX_DEPTH) -> Any:  # noqa: PLR0911 -- one per kind of value
    """What the contract says that a value is as JSON, written down once more as plainly as can be."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float) and math.isfinite(value):
        return float.__float__(value)
    if isinstance(value, uuid.UUID):
        return uuid.UUID.__str__(value)
    if isinstance(value, enum.Enum):
        return meaning(value.value, levels)
    if isinstance(value, (list, tuple)) and levels:
        return [meaning(item, levels - 1) for item in value]  # pyright: ignore[reportUnknownVariableType] -- anything
    if isinstance(value, dict) and levels and all(isinstance(key, str) for key in value):  # pyright: ignore[reportUnknownVariableType] -- likewise
        return {str.__str__(key): meaning(item, levels - 1) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] -- likewise
    raise NotJSON


FEW_REFUSED = ("NaN", "bytes", "a datetime", "a decimal", "a set", "an object", "an attrs object", "a dataclass")
ODD: dict[str, Any] = {
    **{name: value for name, (value, _) in STAND_INS.items()},
    **SUBCLASSES,
    **{
        name: REFUSED[name] for name in (*FEW_REFUSED, "a lone surrogate", "an enum whose value is bytes", "an int key")
    },
    "minus nothing": -0.0,
    "64 bits and one more": 2**64,
    "the text null": "null",
    "200 lists": nested(200),
}
keys = st.text(st.characters(codec="utf-8"), max_size=3) | st.sampled_from([SubStr("k"), Text.A, 1, None, b"k"])
anything: st.SearchStrategy[Any] = st.recursive(
    json_values | st.sampled_from(sorted(ODD)).map(ODD.__getitem__),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.lists(inner, max_size=4).map(SubList)
        | st.dictionaries(keys, inner, max_size=4)
        | st.dictionaries(keys, inner, max_size=4).map(collections.OrderedDict)
    ),
    max_leaves=10,
)


@given(anything)
def test_whatever_is_published_is_refused_or_read_as_what_it_means(value: Any) -> None:
    try:
        expected = meaning(value)
    except NotJSON:
        with pytest.raises(EventEncodeError):
            encode_event(value)
        return
    try:
        encoded = encode_event(value)
    except EventEncodeError as error:
        # Allowed by its class, and yet without a form: a lone surrogate, a key of a subclass of str.
        refused = str(error)
    else:
        assert typed(json.loads(encoded)) == typed(expected)
        return
    assert "surrogate" in refused or "no form for" in refused


@given(anything)
def test_whatever_is_refused_is_found_again(value: Any) -> None:
    found = ""
    try:
        encode_event(value)
    except EventEncodeError as error:
        found = str(error)
    assert "no form for" not in found
