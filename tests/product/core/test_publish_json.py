"""`publish_json`: for those who hold JSON already. It is one value that everyone can read, or reaches nobody."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from importlib import import_module
from typing import Any

import pytest
from backplane_core import EventEncodeError, EventTooLargeError, InMemoryBackplane, Target
from backplane_core._protocol.json import MAX_DEPTH, decode_event, normalize_json
from flask import Flask
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic_core import to_json

from tests.product.core.test_envelope import json_values
from tests.product.core.test_event_encoding import typed
from tests.product.core.test_refused_events import counters
from tests.support.fleets import MemoryFleet
from tests.support.texts import error_texts

USER = Target.user("u1")


class Text(str):
    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return b"another text"


class Data(bytes):
    pass


@pytest.mark.parametrize("routing", ["broadcast", "interest"])
@pytest.mark.parametrize("way", ["publish_json", "publish_json_nowait"])
async def test_json_reaches_every_pod_as_the_value_that_it_is(way: str, routing: str) -> None:
    fleet = MemoryFleet(routing)
    async with fleet.stack:
        here, there = await fleet.pod(), await fleet.pod()
        near, far = await fleet.socket(here, "c1", USER), await fleet.socket(there, "c2", USER)
        left_out = await fleet.socket(here, "c3", USER)
        for data in (b'{"a":[1,2.5]}', '"\u00fc"', bytearray(b"null"), memoryview(b"[]"), Text("1"), Data(b"2")):
            delivered: Any = getattr(here, way)(USER, data, exclude=["c3"])
            assert (delivered if way == "publish_json_nowait" else await delivered) == 1
        await far.has(6)
        assert near.stream == far.stream == [{"a": [1, 2.5]}, "\u00fc", None, [], 1, 2]
        assert left_out.stream == []


def by_text(event: object) -> str:
    return json.dumps(event, default=str)


def by_django(event: object) -> str:
    encoder: Any = import_module("django.core.serializers.json")
    return json.dumps(event, cls=encoder.DjangoJSONEncoder)


def by_flask(event: object) -> str:
    return Flask("app").json.dumps(event)


def by_pydantic(event: object) -> bytes:
    return to_json(event)


@pytest.mark.parametrize("encode", [by_text, by_django, by_flask, by_pydantic])
async def test_what_a_hosts_own_encoder_makes_of_its_types_is_published(
    encode: Callable[[object], str | bytes],
) -> None:
    event = {"id": uuid.UUID(int=1), "at": dt.datetime(2026, 1, 2, 3, 4, tzinfo=dt.UTC), "price": Decimal("1.50")}
    async with InMemoryBackplane() as backplane, backplane.connection(None, USER) as connection:
        with pytest.raises(EventEncodeError, match=r'a value of type datetime at event\["at"\]'):
            await backplane.publish(USER, event)
        await backplane.publish_json(USER, encode(event))
        value: Any = (await anext(connection)).value
        assert value["id"] == str(uuid.UUID(int=1))
        assert "2026" in value["at"]
        assert value["price"] == "1.50"


@pytest.mark.parametrize(
    ("data", "sent"),
    [
        (b'{"a" : "\\n \\u00fc", "b": [ ]}', b'{"a" : "\\n \\u00fc", "b": [ ]}'),
        (b' {"a":1.0e2}\t', b'{"a":1.0e2}'),
        (b'{\n  "a": 1.0e2,\r\n  "b": "\\n  x"\n}\n', b'{"a":1.0e2,"b":"\\n  x"}'),
        ('\r"\u2028"\r', '"\u2028"'.encode()),
    ],
    ids=["on one line", "in blanks", "on several lines", "with a separator of lines"],
)
async def test_json_is_sent_as_it_is_but_on_one_line(data: bytes | str, sent: bytes) -> None:
    fleet = MemoryFleet()
    async with fleet.stack:
        here, there = await fleet.pod(), await fleet.pod()
        async with here.connection(None, USER) as near, there.connection(None, USER) as far:
            assert await here.publish_json(USER, data) == 1
            assert (await anext(near)).json == (await anext(far)).json == sent


async def test_what_happens_to_a_buffer_afterwards_does_not_change_the_event() -> None:
    async with InMemoryBackplane() as pod, pod.connection(None, USER) as connection:
        buffer = bytearray(b'"before"')
        await pod.publish_json(USER, memoryview(buffer))
        buffer[:] = b'"after.."'[: len(buffer)]
        assert (await anext(connection)).value == "before"


def released() -> memoryview:
    view = memoryview(b'"s3cret"')
    view.release()
    return view


REFUSED: dict[str, Any] = {
    "nothing": b"",
    "blanks alone": b" \n",
    "two values": b'"s3cret" 2',
    "two lines of JSON": b'{"a":"s3cret"}\n{"a":2}',
    "NaN": b'["s3cret",NaN]',
    "an infinity": b'["s3cret",-Infinity]',
    "a comma too many": b'["s3cret",]',
    "single quotes": b"{'a':'s3cret'}",
    "a key without quotes": b'{s3cret:"s3cret"}',
    "a number as key": b'{1:"s3cret"}',
    "an end that is missing": b'{"a":"s3cret"',
    "a leading zero": b'["s3cret",01]',
    "a comment": b'"s3cret" // s3cret',
    "a byte order mark": b'\xef\xbb\xbf"s3cret"',
    "a bare control character": b'"s3cret\x01"',
    "a bare line break in a text": b'"s3cret\n"',
    "a NUL": b'"s3cret"\0',
    "bytes that are no UTF-8": b'"s3cret\xff"',
    "a key that is no UTF-8": b'{"s3cret\xff":1}',
    "an encoded surrogate": b'"s3cret\xed\xa0\x80"',
    "an escaped lone surrogate": b'"s3cret\\ud800"',
    "a key with a lone surrogate": b'{"s3cret\\udfff":1}',
    "a str with a lone surrogate": '"s3cret\ud800"',
    "a number that no double holds": b'["s3cret",1e999]',
    "an int of 5,001 digits": b'["s3cret",1' + b"0" * 5000 + b"]",
    "257 lists": b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1),
    "257 dicts": b'{"k":' * MAX_DEPTH + b"{}" + b"}" * MAX_DEPTH,
    "10,000 lists": b"[" * 10_000 + b"]" * 10_000,
    "100,000 lists that do not end": b"[" * 100_000,
    "None": None,
    "a dict": {"a": "s3cret"},
    "an int": 1,
    "a list of bytes": [b'"s3cret"'],
    "memory that was released": released(),
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
async def test_what_is_not_json_reaches_nobody_and_the_error_does_not_show_it(data: Any) -> None:
    fleet = MemoryFleet()
    async with fleet.stack, InMemoryBackplane() as alone:
        here, there = await fleet.pod(), await fleet.pod()
        near, far = await fleet.socket(here, "c1"), await fleet.socket(there, "c2")
        await here.publish(Target.everyone(), "before")
        before = counters(here), counters(alone)
        for pod in (here, alone):
            with pytest.raises(EventEncodeError) as error:
                await pod.publish_json(Target.everyone(), data)
            assert "s3cret" not in error_texts(error.value)
            with pytest.raises(EventEncodeError):
                pod.publish_json_nowait(Target.everyone(), data)
        assert (counters(here), counters(alone)) == before
        await here.publish_json(Target.everyone(), b'"after"')
        await far.has(2)
        assert near.stream == far.stream == ["before", "after"]


async def test_json_over_the_limit_reaches_nobody() -> None:
    async with InMemoryBackplane(max_event_bytes=10) as pod, pod.connection(None, USER) as connection:
        with pytest.raises(EventTooLargeError) as error:
            await pod.publish_json(USER, b'"s3cret..."')
        assert (error.value.size, error.value.limit) == (11, 10)
        assert await pod.publish_json(USER, b"[\n1,\n2,\n3,\n4\n]") == 1
        assert (await anext(connection)).json == b"[1,2,3,4]"


@pytest.mark.parametrize(
    "data",
    [
        b"[" * MAX_DEPTH + b"]" * MAX_DEPTH,
        b'{"k":' * (MAX_DEPTH - 1) + b"{}" + b"}" * (MAX_DEPTH - 1),
        b"[" + b",".join([b"[]"] * 1000) + b"]",
        b'"' + b"[{" * 1000 + b'"',
    ],
    ids=["256 lists", "256 dicts", "1,000 lists beside each other", "brackets in a text"],
)
def test_levels_are_counted_and_not_brackets(data: bytes) -> None:
    assert normalize_json(data) == data


WRITERS: dict[str, Callable[[Any], bytes | str]] = {
    "short": lambda value: json.dumps(value, separators=(",", ":")),
    "in UTF-8": lambda value: json.dumps(value, ensure_ascii=False).encode(),
    "on many lines": lambda value: json.dumps(value, indent=2).encode(),
    "on many lines without a blank": lambda value: json.dumps(value, ensure_ascii=False, indent=0),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS.keys())
@given(value=json_values)
def test_any_json_is_taken_however_it_is_written(write: Callable[[Any], bytes | str], value: Any) -> None:
    sent = normalize_json(write(value))
    assert typed(decode_event(sent)) == typed(value)
    assert 10 not in sent
    assert 13 not in sent


@st.composite
def spoilt_json(draw: st.DrawFn) -> bytes:
    """JSON with a few bytes of it changed."""
    data = bytearray(json.dumps(draw(json_values), ensure_ascii=draw(st.booleans())).encode())
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(data)))
        data[place : place + draw(st.integers(0, 1))] = draw(st.sampled_from(SPOILERS))
    return bytes(data)


SPOILERS = [bytes([byte]) for byte in b'{}[],:"\\0129eE+-.ntu \n\r\t\0\x1f\x7f\xff\xed'] + [b"", b"\\ud83d", b"1e308"]


@given(st.binary(max_size=40) | spoilt_json())
@example(b"\xef\xbb\xbf1")
def test_what_is_taken_is_what_another_parser_reads_and_the_same_value(data: bytes) -> None:
    with suppress(EventEncodeError):
        sent = normalize_json(data)
        assert typed(decode_event(sent)) == typed(json.loads(data.decode(), parse_constant=pytest.fail))
