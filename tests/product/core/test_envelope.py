"""What travels on the bus: the bytes, what is read from them, and that hostile ones are refused in one way only."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest
from attrs import evolve
from backplane_core import BackplaneEnvelope, EnvelopeError, Target, decode_envelope, encode_envelope
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.product.core.test_target import ids, kinds

GOLDEN = b'{"origin":"6f1c","target":{"Session":"s1"},"event":{"kind":"job_status"},"seq":42}'

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
    max_leaves=12,
)
targets = st.builds(Target, kinds, ids) | st.just(Target.everyone())


@st.composite
def envelopes_of_any_shape(draw: st.DrawFn) -> BackplaneEnvelope:
    target, *also = draw(st.lists(targets, min_size=1, max_size=4, unique=True))
    seq = draw(st.none() | st.integers(1, 2**63))
    return BackplaneEnvelope(
        draw(ids),
        target,
        draw(json_values),
        seq=seq,
        prev=draw(st.integers(1, seq - 1)) if seq is not None and seq > 1 and draw(st.booleans()) else None,
        also=also,
        exclude=draw(st.lists(ids, max_size=3)),
        trace=draw(json_values),
        key=draw(st.none() | ids),
    )


envelopes = envelopes_of_any_shape()


def envelope_bytes(**members: bytes) -> bytes:
    parts = {"origin": b'"o"', "target": b'{"User":"u1"}', "event": b"1", **members}
    return b"{" + b",".join(b'"%b":%b' % (name.encode(), value) for name, value in parts.items()) + b"}"


@given(envelopes)
def test_an_envelope_comes_back_as_it_was(envelope: BackplaneEnvelope) -> None:
    data = encode_envelope(envelope)
    assert decode_envelope(data) == envelope
    assert b"\n" not in data
    assert b"\r" not in data


@given(envelopes)
def test_the_bytes_are_what_the_format_says_to_any_json_reader(envelope: BackplaneEnvelope) -> None:
    read = json.loads(encode_envelope(envelope))
    assert list(read)[:3] == ["origin", "target", "event"]
    assert read["event"] == envelope.event
    assert read.get("seq") == envelope.seq
    assert ("also" in read, "exclude" in read) == (bool(envelope.also), bool(envelope.exclude))


def test_the_golden_bytes_are_written_and_read() -> None:
    envelope = BackplaneEnvelope("6f1c", Target.session("s1"), {"kind": "job_status"}, seq=42)
    assert encode_envelope(envelope) == GOLDEN
    assert decode_envelope(GOLDEN) == envelope


def test_a_full_envelope_has_its_members_in_the_order_of_the_format() -> None:
    envelope = BackplaneEnvelope(
        "6f1c",
        Target.user("u1"),
        None,
        seq=3,
        prev=2,
        also=(Target.everyone(), Target("chat_room", "4")),
        exclude=("c1",),
        trace={"id": 1},
        key="AAPL",
    )
    data = (
        b'{"origin":"6f1c","target":{"User":"u1"},"event":null,"seq":3,"prev":2,'
        b'"also":["Everyone",{"ChatRoom":"4"}],"exclude":["c1"],"trace":{"id":1},"key":"AAPL"}'
    )
    assert encode_envelope(envelope) == data
    assert decode_envelope(data) == envelope


def test_unknown_members_are_ignored_and_space_does_not_matter() -> None:
    data = b'\n { "later" : [1, {"a": null}], "event" : {"kind":"job_status"}, "target": {"Session": "s1"}, "origin": "6f1c", "seq": 42, "x": 1e999 }\n '  # noqa: E501
    assert decode_envelope(data) == decode_envelope(GOLDEN)


@pytest.mark.parametrize("trace", [b"null", b"1", b'"t"', b"[1]", b'{"traceparent":"00-1"}'])
def test_a_trace_of_any_shape_is_carried(trace: bytes) -> None:
    assert decode_envelope(envelope_bytes(trace=trace)).trace == json.loads(trace)


def test_of_equal_members_the_last_one_wins() -> None:
    data = (
        b'{"origin":"a","origin":"b","target":{"User":"a"},"target":{"User":"b","User":"c"},'
        b'"event":{"k":1},"event":{"k":2,"k":3},"seq":1,"seq":2}'
    )
    assert decode_envelope(data) == BackplaneEnvelope("b", Target.user("c"), {"k": 3}, seq=2)


def nested(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


HOSTILE: dict[str, bytes] = {
    "empty": b"",
    "no json": b"hello",
    "cut off": GOLDEN[:-1],
    "trailing garbage": GOLDEN + b"x",
    "two envelopes": GOLDEN + GOLDEN,
    "a byte order mark": b"\xef\xbb\xbf" + GOLDEN,
    "utf-16": GOLDEN.decode().encode("utf-16"),
    "a list": b"[" + GOLDEN + b"]",
    "null": b"null",
    "no origin": b'{"target":{"User":"u1"},"event":1}',
    "no target": b'{"origin":"o","event":1}',
    "no event": b'{"origin":"o","target":{"User":"u1"}}',
    "bad utf-8 in an unknown member": envelope_bytes(x=b'"\xff"'),
    **{
        f"origin {value!r}": envelope_bytes(origin=value)
        for value in (b"1", b"null", b'""', b'"\xff"', b'"\\ud800"', b'["o"]')
    },
    **{
        f"target {value!r}": envelope_bytes(target=value)
        for value in (
            b"null",
            b"1",
            b'"User"',
            b'"everyone"',
            b'["User","u1"]',
            b"{}",
            b'{"User":"a","Org":"b"}',
            b'{"user":"a"}',
            b'{"uSER":"a"}',
            b'{"chat_room":"a"}',
            b'{"Chat_Room":"a"}',
            b'{"":"a"}',
            b'{"User":""}',
            b'{"User":1}',
            b'{"User":null}',
            b'{"User":["a"]}',
            b'{"User":"\\ud800"}',
            b'{"User":"\\udc00\\ud800"}',
            b'{"User":"\xff"}',
            b'{"User":"%b"}' % (b"x" * 1025),
            b'{"\xc3\x84":"a"}',
            b'{"Everyone":"x"}',
            b'{"Everyone":""}',
            b'{"%b":"a"}' % (b"A" * 33),
        )
    },
    **{
        f"seq {value!r}": envelope_bytes(seq=value)
        for value in (b"0", b"-1", b"true", b"false", b"1.0", b"1e3", b"1.5", b'"1"', b"[1]", b"NaN", b"9" * 6000)
    },
    **{f"prev {value!r}": envelope_bytes(seq=b"9", prev=value) for value in (b"true", b"1.5", b'"1"', b"9" * 6000)},
    **{f"also {value!r}": envelope_bytes(also=value) for value in (b"1", b"{}", b"[1]", b"[{}]", b'["User"]')},
    **{
        f"exclude {value!r}": envelope_bytes(exclude=value)
        for value in (b"1", b'"c1"', b"[1]", b'["\\ud800"]', b'[""]', b'["%b"]' % (b"x" * 1025))
    },
    **{
        f"event {value!r}"[:40]: envelope_bytes(event=value)
        for value in (
            b"NaN",
            b"Infinity",
            b"-Infinity",
            b"01",
            b"1.",
            b".5",
            b"+1",
            b"-",
            b"0x1",
            b"'a'",
            b"[1,]",
            b"{1:1}",
            b"nul",
            b'{"a":1,}',
            b'"\n"',
            b'"\\x41"',
            b'"\\u12"',
            b'"\\ud800"',
            b'["\\udfff"]',
            b'"\xff"',
            b'"\xed\xa0\x80"',
            b'"\xc0\xaf"',
            b'"\xf8\x88\x80\x80\x80"',
            b"1e400",
            b"-1e400",
            b"9" * 6000,
            b"[" + b"9" * 6000 + b"]",
            b"1" + b"0" * 400 + b".5",
            b"",
        )
    },
    # Where the bound is depends on the interpreter: some 1,000 levels, or, from Python 3.14 on, what its stack holds.
    "500,000 levels": envelope_bytes(event=nested(500_000)),
    "100,000 levels, open": envelope_bytes(event=b"[" * 100_000),
    "100,000 objects": envelope_bytes(event=b'{"a":' * 100_000),
    "a deep unknown member": envelope_bytes(x=nested(500_000)),
    "a deep target": envelope_bytes(target=nested(500_000)),
    "a deep union": envelope_bytes(also=nested(500_000)),
    "a deep trace": envelope_bytes(trace=nested(500_000)),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=[name[:40] for name in HOSTILE])
def test_what_is_no_envelope_is_an_envelope_error(data: bytes) -> None:
    with pytest.raises(EnvelopeError):
        decode_envelope(data)


@pytest.mark.parametrize("event", [b'"s3cret-\\ud800"', b'"s3cret-\xff"', b'{"s3cret":1e400}', b'"s3cret'])
def test_an_envelope_error_does_not_show_the_payload(event: bytes) -> None:
    with pytest.raises(EnvelopeError) as error:
        decode_envelope(envelope_bytes(event=event))
    assert "s3cret" not in f"{error.value} {error.value!r}"


def test_the_string_everyone_is_a_target() -> None:
    assert decode_envelope(envelope_bytes(target=b'"Everyone"')).target == Target.everyone()


@pytest.mark.thorough
@settings(max_examples=400)
@given(
    envelopes | st.just(decode_envelope(GOLDEN)),
    st.lists(
        st.tuples(st.sampled_from(["set", "delete", "insert", "repeat"]), st.integers(0, 10_000), st.integers(0, 255)),
        min_size=1,
        max_size=4,
    ),
)
@example(decode_envelope(GOLDEN), [("set", 0, 0)])
def test_mutated_envelopes_are_read_or_refused_and_nothing_else(
    envelope: BackplaneEnvelope, edits: list[tuple[str, int, int]]
) -> None:
    data = bytearray(encode_envelope(envelope))
    for kind, at, byte in edits:
        place = at % (len(data) or 1)
        if kind == "set" and data:
            data[place] = byte
        elif kind == "delete":
            del data[place : place + 1 + byte % 8]
        elif kind == "insert":
            data.insert(place, byte)
        else:
            data[place:place] = data[: byte * 4]
    try:
        read = decode_envelope(bytes(data))
    except EnvelopeError:
        return
    # Beside no number of its own, a previous one says nothing, and is not written.
    meant = read if read.seq is not None else evolve(read, prev=None)
    assert decode_envelope(encode_envelope(read)) == meant


@pytest.mark.thorough
@settings(max_examples=200)
@given(st.binary(max_size=200) | json_values.map(json.dumps).map(str.encode))
def test_any_other_bytes_are_refused(data: bytes) -> None:
    try:
        decode_envelope(data)
    except EnvelopeError:
        return
    assert {"origin", "target", "event"} <= set(cast("dict[str, Any]", json.loads(data)))


def test_a_repr_shows_neither_event_nor_trace() -> None:
    shown = repr(BackplaneEnvelope("o", Target.user("u1"), {"token": "s3cret"}, trace="s3cret"))
    assert "s3cret" not in shown
    assert "user" in shown
