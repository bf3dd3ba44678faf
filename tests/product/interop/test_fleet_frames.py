"""What pods say to each other, held against golden frames and the schema that other languages take."""

from __future__ import annotations

import json
from typing import Any

import pytest
from backplane_core import EnvelopeError
from backplane_core._outbound.frame_builder import FrameBuilder
from backplane_core._protocol.fleet_frame import (
    ORDERS,
    Answer,
    Listed,
    PodState,
    Question,
    Saying,
    check_answer,
    check_order,
    decode_saying,
    encode_saying,
)
from backplane_core._protocol.own_frames import OwnFrames
from backplane_core._protocol.presence_frame import (
    Ask,
    Change,
    Page,
    PresenceSaying,
    Present,
    check_ask,
    check_change,
    check_leases,
    check_page,
)
from backplane_core._protocol.routing import make_routing
from backplane_core.options import Settings
from msgspec import Raw

from tests.product.interop.golden import FRAMES
from tests.product.interop.test_schema import valid

ROOM = Raw(b'{"ChatRoom":"42"}')
PRESENCE: dict[str, PresenceSaying] = {
    "says_presence_ask": PresenceSaying(ask=Ask(1048577, ROOM, watch=True)),
    "says_presence_ask_of_one": PresenceSaying(ask=Ask(1048578, ROOM, "a1b2", "bob", watch=True)),
    "says_presence_page": PresenceSaying(
        page=Page(
            "a1b2",
            1048577,
            at=4,
            present=[Present("ann", Raw(b'{"name":"Ann"}')), Present("bob", Raw(b"{}"))],
            more=True,
        )
    ),
    "says_presence_page_of_nobody": PresenceSaying(page=Page("a1b2", 1048577, at=4)),
    "says_presence_refusal": PresenceSaying(page=Page("a1b2", 1048577, no="refused")),
    "says_presence_change": PresenceSaying(
        change=Change(ROOM, 5, 4, joined=[Present("cid", Raw(b'{"name":"Cid"}'))], left=["ann"], lost=["bob"])
    ),
    "says_presence_stand": PresenceSaying(change=Change(ROOM, 5)),
    "says_presence_watch": PresenceSaying(watch=[ROOM, Raw(b'"Everyone"')]),
    "says_presence_unwatch": PresenceSaying(unwatch=[ROOM]),
}
SAYINGS: dict[str, Saying] = {
    **{name: Saying(1, presence=presence) for name, presence in PRESENCE.items()},
    "says_question_pods": Saying(1, ask=Question(1, "pods")),
    "says_question_count": Saying(1, ask=Question(7, "count", targets=[Raw(b'{"User":"u1"}'), Raw(b'{"Org":"acme"}')])),
    "says_question_count_of_both": Saying(
        1, ask=Question(13, "count", targets=[Raw(b'[{"User":"u1"},{"App":"web"}]'), Raw(b'{"Org":"acme"}')])
    ),
    "says_question_connections": Saying(1, ask=Question(8, "connections", targets=[Raw(b'"Everyone"')], limit=1000)),
    "says_question_targets": Saying(1, ask=Question(9, "targets", conn="c1", limit=10_000)),
    "says_answer_pods": Saying(
        1, answer=Answer("a1b2", 1, pod=PodState(1764000000.25, 2, 3, "broadcast", "0.1.0", "live"))
    ),
    "says_answer_count": Saying(1, answer=Answer("a1b2", 7, count=2)),
    "says_answer_count_of_none": Saying(1, answer=Answer("a1b2", 7)),
    "says_answer_connections": Saying(
        1,
        answer=Answer(
            "a1b2",
            8,
            count=2,
            listed=[Listed("c1", 1764000000.5, Raw(b'{"app":"web"}')), Listed("c2", 1764000001.0)],
        ),
    ),
    "says_answer_targets": Saying(1, answer=Answer("a1b2", 9, count=1, targets=[Raw(b'{"User":"u1"}')])),
    "says_refusal": Saying(1, answer=Answer("a1b2", 7, no="refused")),
    "says_order_associate": Saying(
        1, order=Question(10, "associate", targets=[Raw(b'{"User":"u1"}')], target=Raw(b'{"ChatRoom":"42"}'))
    ),
    "says_order_close": Saying(
        1, ask=Question(11, "close", targets=[Raw(b'{"User":"u1"}')], code=4001, reason="signed out")
    ),
    "says_question_receipt": Saying(1, ask=Question(12, "receipt", targets=[Raw(b'{"User":"u1"}')])),
    "says_hello": Saying(1, hello=True),
    "says_leaving": Saying(1, leaving=True),
}
BEATS = [name for name in FRAMES if "beat" in name]


def test_every_golden_saying_is_one_of_ours() -> None:
    assert set(SAYINGS) == {name for name in FRAMES if name.startswith("says")}


@pytest.mark.parametrize("name", SAYINGS)
def test_what_a_pod_says_is_the_golden_frame_to_the_byte(name: str) -> None:
    routing = make_routing("broadcast", "backplane", 1)
    frames = FrameBuilder(OwnFrames.of("6f1c", routing, "web-3"), routing, Settings.of({}), is_signed=False)
    for _ in range(11):
        frames.numbering.take("backplane")
    assert frames.saying("backplane", encode_saying(SAYINGS[name])) == ("backplane", FRAMES[name])


@pytest.mark.parametrize("name", SAYINGS)
def test_a_golden_saying_is_read_as_it_is_meant(name: str) -> None:
    read = decode_saying(FRAMES[name])
    assert read is not None
    assert encode_saying(read) == encode_saying(SAYINGS[name])
    if read.answer is not None:
        check_answer(read.answer)
    for order in (read.order, read.ask):
        if order is not None and order.what in ORDERS:
            check_order(order)
    if read.presence is not None:
        check_presence(read.presence)
    assert valid(json.loads(FRAMES[name]))


@pytest.mark.parametrize("name", BEATS)
def test_a_beat_says_its_level_or_nothing(name: str) -> None:
    read = decode_saying(FRAMES[name])
    assert read == (Saying(1) if name.startswith("beat") else None)


GOOD: dict[str, Any] = {
    "a later level": {"level": 9},
    "members of a later version": {"level": 2, "sings": True, "ask": {"id": 1, "what": "dance", "how": ["well"]}},
    "nulls": {"level": 1, "ask": None, "answer": None},
    "no connections": {"level": 0},
    "presence of a later version": {"level": 2, "presence": {"waves": True, "ask": None, "page": None, "change": None}},
    "a value of null": {
        "level": 1,
        "presence": {"page": {"to": "o", "id": 1, "present": [{"key": "k", "value": None}]}},
    },
    "an info of null": {"level": 1, "answer": {"to": "o", "id": 1, "listed": [{"id": "c", "since": 1, "info": None}]}},
}

BAD: dict[str, Any] = {
    "a number": 1,
    "a list": [],
    "no level": {},
    "a level below 0": {"level": -1},
    "a level of text": {"level": "1"},
    "a level beyond the limit": {"level": 1_000_001},
    "a question without an id": {"level": 1, "ask": {"what": "pods"}},
    "a question without what": {"level": 1, "ask": {"id": 1}},
    "a question of 0": {"level": 1, "ask": {"id": 0, "what": "pods"}},
    "a number that JavaScript rounds": {"level": 1, "ask": {"id": 2**53, "what": "pods"}},
    "a long word": {"level": 1, "ask": {"id": 1, "what": "x" * 33}},
    "a limit beyond the limit": {"level": 1, "ask": {"id": 1, "what": "pods", "limit": 10_001}},
    "targets that are no list": {"level": 1, "ask": {"id": 1, "what": "count", "targets": {"User": "u1"}}},
    "a connection that is no text": {"level": 1, "ask": {"id": 1, "what": "targets", "conn": 1}},
    "a close code beyond the limit": {"level": 1, "ask": {"id": 1, "what": "close", "code": 5_000}},
    "a long reason": {"level": 1, "order": {"id": 1, "what": "close", "reason": "x" * 124}},
    "an answer to nobody": {"level": 1, "answer": {"id": 1}},
    "an answer to no question": {"level": 1, "answer": {"to": "o"}},
    "a count below 0": {"level": 1, "answer": {"to": "o", "id": 1, "count": -1}},
    "a pod without a state": {"level": 1, "answer": {"to": "o", "id": 1, "pod": {"since": 1}}},
    "a connection without an id": {"level": 1, "answer": {"to": "o", "id": 1, "listed": [{"since": 1}]}},
    "a connection with an empty id": {"level": 1, "answer": {"to": "o", "id": 1, "listed": [{"id": "", "since": 1}]}},
    "a target that is none": {"level": 1, "answer": {"to": "o", "id": 1, "targets": [{"user": "u1"}]}},
    "too many targets": {"level": 1, "answer": {"to": "o", "id": 1, "targets": ["Everyone"] * 10_001}},
    "a hello that is no boolean": {"level": 1, "hello": "Ann"},
    "a leaving that is no boolean": {"level": 1, "leaving": 1},
    **{
        f"presence: {name}": {"level": 1, "presence": presence}
        for name, presence in {
            "a number": 1,
            "a question without a target": {"ask": {"id": 1}},
            "a question of 0": {"ask": {"id": 0, "target": "Everyone"}},
            "a question about a connection": {"ask": {"id": 1, "target": {"Connection": "c1"}}},
            "a question about no target": {"ask": {"id": 1, "target": "Nobody"}},
            "a page to nobody": {"page": {"id": 1}},
            "a page with a number below 0": {"page": {"to": "o", "id": 1, "at": -1}},
            "one without a value": {"page": {"to": "o", "id": 1, "present": [{"key": "k"}]}},
            "an empty key": {"page": {"to": "o", "id": 1, "present": [{"key": "", "value": 1}]}},
            "a change without a number": {"change": {"target": "Everyone"}},
            "a change of 0": {"change": {"target": "Everyone", "at": 0}},
            "a change in a connection": {"change": {"target": {"Connection": "c1"}, "at": 1}},
            "an empty key that left": {"change": {"target": "Everyone", "at": 1, "left": [""]}},
            "a key that is no text": {"change": {"target": "Everyone", "at": 1, "lost": [1]}},
            "too many keys": {"change": {"target": "Everyone", "at": 1, "lost": ["k"] * 10_001}},
            "a connection that is watched": {"watch": [{"Connection": "c1"}]},
            "too many that are watched": {"watch": ["Everyone"] * 257},
            "too many that are not": {"unwatch": ["Everyone"] * 257},
        }.items()
    },
}


def check_presence(said: PresenceSaying) -> None:
    check_leases(said)
    if said.ask is not None:
        check_ask(said.ask)
    if said.page is not None:
        check_page(said.page)
    if said.change is not None:
        check_change(said.change)


def read_whole(data: bytes) -> None:
    """Read a saying as the pod does that it is for."""
    read = decode_saying(data)
    if read is not None and read.answer is not None:
        check_answer(read.answer)
    if read is not None and read.presence is not None:
        check_presence(read.presence)


def frame(fleet: object) -> dict[str, Any]:
    return {**json.loads(FRAMES["beat_of_broadcast"]), "fleet": fleet}


@pytest.mark.parametrize("fleet", GOOD.values(), ids=[*GOOD])
def test_what_later_versions_may_say_is_read_without_what_is_new(fleet: object) -> None:
    assert valid(frame(fleet))
    assert decode_saying(json.dumps(frame(fleet)).encode()) is not None


@pytest.mark.parametrize("fleet", BAD.values(), ids=[*BAD])
def test_what_no_pod_says_is_refused_by_us_and_by_the_schema(fleet: object) -> None:
    assert not valid(frame(fleet))
    with pytest.raises(EnvelopeError) as refused:
        read_whole(json.dumps(frame(fleet)).encode())
    assert "not an envelope" in str(refused.value)
