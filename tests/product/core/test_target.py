"""Who an event is for: what may be a target, and how it looks on the wire."""

from __future__ import annotations

import json
import re
from enum import StrEnum
from typing import Any

import pytest
from backplane_core import BackplaneEnvelope, InvalidTargetError, Target, decode_envelope, encode_envelope
from hypothesis import given
from hypothesis import strategies as st

KIND = re.compile(r"[a-z][a-z0-9]*(_[a-z][a-z0-9]*)*")
kinds = st.from_regex(KIND, fullmatch=True).filter(lambda kind: len(kind) <= 32 and kind != "everyone")
# Up to 256 characters of at most four bytes: always within 1,024.
ids = st.text(st.characters(codec="utf-8"), min_size=1, max_size=256)


@pytest.mark.parametrize(
    ("target", "wire"),
    [
        (Target.connection("c1"), '{"Connection":"c1"}'),
        (Target.session("s1"), '{"Session":"s1"}'),
        (Target.user("u1"), '{"User":"u1"}'),
        (Target.org("acme"), '{"Org":"acme"}'),
        (Target.agent("a1"), '{"Agent":"a1"}'),
        (Target("room", "42"), '{"Room":"42"}'),
        (Target("chat_room2", "42"), '{"ChatRoom2":"42"}'),
        (Target("a_b_c", "42"), '{"ABC":"42"}'),
        (Target.everyone(), '"Everyone"'),
        (Target.user('q"\\\n\u2028/ü🙂'), '{"User":"q\\"\\\\\\n\u2028/ü🙂"}'),
    ],
    ids=lambda value: value.kind if isinstance(value, Target) else "",
)
def test_a_target_on_the_wire_is_its_kind_in_pascal_case_to_its_id(target: Target, wire: str) -> None:
    assert json.loads(target.wire) == json.loads(wire)
    assert target.wire == wire.encode()


@pytest.mark.parametrize("kind", ["a", "room", "chat_room", "r2d2", "a1_b2", "x" * 32, "a_b_c_d"])
def test_a_kind_of_the_hosts_own_is_allowed(kind: str) -> None:
    assert Target(kind, "1").kind == kind


@pytest.mark.parametrize(
    "kind",
    [
        "",
        "Room",
        "chat__room",
        "_room",
        "room_",
        "chat_2",
        "1room",
        "chat-room",
        "chat room",
        "room\n",
        "röm",
        "x" * 33,
        None,
        5,
        b"room",
        ["room"],
    ],
    ids=repr,
)
def test_a_kind_that_could_not_be_read_back_is_refused(kind: Any) -> None:
    with pytest.raises(InvalidTargetError):
        Target(kind, "1")


@pytest.mark.parametrize("id_", ["x" * 1024, "é" * 512, "🙂" * 256, " ", "\0", "*.>", "\r\nPUB x", "a/b:c", "1"])
def test_an_id_of_up_to_1024_bytes_may_hold_any_character(id_: str) -> None:
    assert Target.user(id_).id == id_


@pytest.mark.parametrize(
    "id_",
    [
        "",
        "x" * 1025,
        "é" * 513,
        "🙂" * 257,
        "\ud800",
        "a\udfffb",
        "x" * 2000 + "\ud800",
        None,
        5,
        b"u1",
        ["u1"],
        Target.user("u1"),
    ],
    ids=lambda id_: repr(id_)[:12],
)
def test_any_other_id_is_refused(id_: Any) -> None:
    with pytest.raises(InvalidTargetError):
        Target.user(id_)


@pytest.mark.parametrize("id_", ["x", " ", 0, None, False, b""], ids=repr)
def test_everyone_is_reserved_and_takes_no_id(id_: Any) -> None:
    with pytest.raises(InvalidTargetError):
        Target("everyone", id_)


def test_everyone_is_one_target() -> None:
    assert Target.everyone() == Target("everyone", "")
    assert (Target.everyone().kind, Target.everyone().id) == ("everyone", "")


class Name(StrEnum):
    ROOM = "room"


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize("text", [Name.ROOM, Text("room")], ids=["enum", "subclass"])
def test_a_string_of_a_subclass_is_the_same_target_as_its_text(text: str) -> None:
    assert Target(text, text) == Target("room", "room")
    assert hash(Target(text, text)) == hash(Target("room", "room"))
    assert Target(text, text).wire == b'{"Room":"room"}'


def test_targets_are_values() -> None:
    assert Target.user("u1") == Target("user", "u1")
    assert len({Target.user("u1"), Target("user", "u1"), Target.org("u1"), Target.user("u2")}) == 3
    with pytest.raises(AttributeError):
        Target.user("u1").id = "u2"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue] -- that is the point
    assert repr(Target.user("u1")) == "Target(kind='user', id='u1')"


@given(kinds, ids)
def test_any_target_comes_back_from_an_envelope_as_it_was(kind: str, id_: str) -> None:
    target = Target(kind, id_)
    (pascal,) = json.loads(target.wire)
    assert pascal[0].isupper()
    assert "_" not in pascal
    assert decode_envelope(encode_envelope(BackplaneEnvelope("o", target, None))).target == target


@given(kinds, kinds)
def test_two_kinds_never_look_the_same_on_the_wire(one: str, other: str) -> None:
    assert (Target(one, "1").wire == Target(other, "1").wire) == (one == other)


@given(st.text(max_size=40))
def test_a_kind_is_taken_exactly_if_it_is_of_the_form_that_is_written_down(kind: str) -> None:
    allowed = KIND.fullmatch(kind) is not None and len(kind) <= 32 and kind != "everyone"
    try:
        Target(kind, "1")
    except InvalidTargetError:
        assert not allowed
    else:
        assert allowed
