"""The JSON Schema that other languages take: it takes all that we write and read, and refuses what we refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from backplane_core import BackplaneEnvelope, EnvelopeError, decode_envelope, encode_envelope
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it has no py.typed

from tests.product.core.test_envelope import envelopes, json_values
from tests.product.interop.golden import FRAMES

ROOT = Path(__file__).parents[3]
SCHEMA: dict[str, Any] = json.loads((ROOT / "docs/envelope.schema.json").read_bytes())
VALIDATOR = Draft202012Validator(SCHEMA)

GOOD: dict[str, Any] = {"origin": "o", "target": {"User": "u1"}, "event": 1}


def valid(value: Any) -> bool:
    return bool(VALIDATOR.is_valid(value))  # pyright: ignore[reportUnknownMemberType] -- typed in part


def changed(**members: Any) -> dict[str, Any]:
    return {**GOOD, **members}


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in GOOD.items() if key != name}


def each(member: str, values: list[Any], **others: Any) -> dict[str, Any]:
    return {f"{member} {value!r}": changed(**{**others, member: value}) for value in values}


BAD: dict[str, Any] = {
    "null": None,
    "a list": [GOOD],
    "a string": "hello",
    "a number": 1,
    "an empty object": {},
    "no origin": without("origin"),
    "no target": without("target"),
    "no event": without("event"),
    **each("origin", [None, 1, "", ["o"], {"o": 1}, True]),
    "an origin of 1,025 characters": changed(origin="x" * 1025),
    **each("target", [None, 1, True, "", "User", "everyone", ["User", "u1"], {}, {"User": "a", "Org": "b"}]),
    **each("target", [{"user": "a"}, {"uSER": "a"}, {"chat_room": "a"}, {"Chat_Room": "a"}, {"Chat Room": "a"}]),
    **each("target", [{"2Room": "a"}, {"": "a"}, {"Ärzte": "a"}, {"kind": "user", "id": "u1"}]),
    **each("target", [{"User": ""}, {"User": 1}, {"User": None}, {"User": ["a"]}, {"User": {"id": "a"}}]),
    **each("target", [{"Everyone": "x"}, {"Everyone": ""}, {"Everyone": None}]),
    "an id of 1,025 characters": changed(target={"User": "x" * 1025}),
    "a kind of 33 characters": changed(target={"A" + "a" * 32: "x"}),
    **each("seq", [0, -1, True, 1.5, "1", [1], {}]),
    **each("prev", [-1, False, 1.5, "1", [1], {}], seq=9),
    **each("also", [1, "Everyone", {"User": "a"}, [1], [{}], ["User"], [None], [{"User": "a", "Org": "b"}]]),
    **each("exclude", [1, "c1", {}, [1], [""], [None], ["c1", ["c2"]]]),
    "an excluded id of 1,025 characters": changed(exclude=["x" * 1025]),
    **each("to", [1, [], {}, {"any": []}, {"any": 1}, {"any": [1]}, {"any": [[]]}, {"any": [[{"User": "a"}]]}]),
    **each(
        "to",
        [{"any": [["Everyone", {"user": "a"}]]}, {"any": ["Everyone"], "not": 1}, {"any": ["Everyone"], "not": [1]}],
    ),
    "nine intersected": changed(to={"any": [[{"User": str(number)} for number in range(9)]]}),
    "65 excluded targets": changed(to={"any": ["Everyone"], "not": [{"User": str(number)} for number in range(65)]}),
    **each("key", [1, True, "", [], {}, "x" * 1025]),
    **each("event_id", [1, True, "", [], {}, "x" * 1025]),
    **each("routing", [1, True, [], {}], seq=1),
    **each("lanes", ["1", True, 1.5, []], seq=1),
}

# What the schema takes and a reader refuses: a schema sees values, not bytes or their spelling, and counts characters.
BEYOND_A_SCHEMA: dict[str, bytes] = {
    "a whole number written with a fraction": b'{"origin":"o","target":{"User":"u1"},"event":1,"seq":1.0}',
    "a whole number written with an exponent": b'{"origin":"o","target":{"User":"u1"},"event":1,"seq":1e3}',
    "an id of 1,026 bytes": '{"origin":"o","target":{"User":"%s"},"event":1}'.__mod__("é" * 513).encode(),
    "a key of 1,026 bytes": '{"origin":"o","target":{"User":"u1"},"event":1,"key":"%s"}'.__mod__("é" * 513).encode(),
    "an event_id of 1,026 bytes": '{"origin":"o","target":{"User":"u1"},"event":1,"event_id":"%s"}'.__mod__(
        "é" * 513
    ).encode(),
    "a kind of 33 characters with its underscores": b'{"origin":"o","target":{"%b":"a"},"event":1}' % (b"A" * 17),
    "an event beyond a double": b'{"origin":"o","target":{"User":"u1"},"event":1e400}',
    "a lone surrogate": b'{"origin":"o","target":{"User":"\\ud800"},"event":1}',
    "a number that is none": b'{"origin":"o","target":{"User":"u1"},"event":NaN}',
}


def test_it_is_a_schema_of_the_draft_that_it_names() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == Draft202012Validator.META_SCHEMA["$schema"]
    assert SCHEMA["$id"].endswith("/docs/envelope.schema.json")


@pytest.mark.parametrize("name", FRAMES)
def test_it_takes_every_golden_frame(name: str) -> None:
    assert valid(json.loads(FRAMES[name]))


@given(envelopes)
def test_it_takes_all_that_our_encoder_makes(envelope: BackplaneEnvelope) -> None:
    assert valid(json.loads(encode_envelope(envelope)))


@pytest.mark.parametrize("envelope", BAD.values(), ids=[name[:40] for name in BAD])
def test_what_it_refuses_our_decoder_refuses_too(envelope: Any) -> None:
    assert not valid(envelope)
    with pytest.raises(EnvelopeError):
        decode_envelope(json.dumps(envelope).encode())


def test_the_good_envelope_that_the_bad_ones_differ_from_is_taken() -> None:
    assert valid(GOOD)
    decode_envelope(json.dumps(GOOD).encode())


odd_values: st.SearchStrategy[Any] = json_values | st.sampled_from([-1, 0, 1, 2, "Everyone", ["c1"], [{"Org": "acme"}]])
# What pods say to each other, and to workers of a job, is for those that take it: a reader of events ignores it.
members: st.SearchStrategy[dict[str, Any]] = st.dictionaries(
    st.sampled_from(sorted({*SCHEMA["properties"], "x"} - {"fleet", "job"})), odd_values, max_size=4
)


@given(members)
def test_whatever_our_decoder_takes_it_takes_too(members: dict[str, Any]) -> None:
    envelope = changed(**members)
    try:
        decode_envelope(json.dumps(envelope).encode())
    except EnvelopeError:
        return
    assert valid(envelope)


@pytest.mark.parametrize("data", BEYOND_A_SCHEMA.values(), ids=BEYOND_A_SCHEMA.keys())
def test_what_only_a_reader_can_check_is_refused_by_ours_and_not_by_a_schema(data: bytes) -> None:
    assert valid(json.loads(data))
    with pytest.raises(EnvelopeError):
        decode_envelope(data)
