"""Who an event is for: what may be a target, and how it looks on the wire."""

from __future__ import annotations

import copy
import gc
import json
import pickle
import re
import sys
import threading
import weakref
from collections.abc import Callable
from enum import StrEnum
from typing import Any

import attrs
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


def pickled(target: Target) -> Any:
    return pickle.loads(pickle.dumps(target))


@pytest.mark.parametrize("target", [Target.user("u1"), Target("chat_room", "ü" * 300), Target.everyone()], ids=repr)
@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickled, attrs.evolve], ids=lambda it: it.__name__)  # pyright: ignore[reportUnknownLambdaType, reportUnknownMemberType] -- functions
def test_a_target_that_was_copied_is_the_same_value(target: Target, duplicate: Callable[[Target], Target]) -> None:
    again = duplicate(target)
    assert again == target
    assert hash(again) == hash(target)
    assert (again.kind, again.id, again.wire) == (target.kind, target.id, target.wire)


def test_a_target_is_an_attrs_class_of_kind_and_id() -> None:
    changes: Any = {"id": "u2"}
    assert attrs.evolve(Target.user("u1"), **changes) == Target.user("u2")
    assert Target(kind="user", id="u1") == Target.user("u1")
    assert attrs.asdict(Target.user("u1")) == {"kind": "user", "id": "u1", "wire": b'{"User":"u1"}'}
    match Target.user("u1"):
        case Target("user", id_):
            assert id_ == "u1"
        case other:
            pytest.fail(repr(other))


class OwnTarget(Target):
    """What a host may derive: it stays what it is, and apart from the plain ones."""


@pytest.mark.parametrize("id_", ["u1", "x" * 500])
def test_a_subclass_makes_targets_of_its_own_class(id_: str) -> None:
    for target in (OwnTarget.user(id_), OwnTarget("user", id_), copy.copy(OwnTarget.user(id_))):
        assert type(target) is OwnTarget
        assert target != Target.user(id_)
        assert target.wire == Target.user(id_).wire
    assert type(Target.user(id_)) is Target


def room(id_: str) -> Target:
    return Target("room", id_)


MAKERS = (Target.connection, Target.session, Target.user, Target.org, Target.agent, room)


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)  # pyright: ignore[reportUnknownLambdaType, reportUnknownMemberType] -- functions
def test_a_target_that_was_made_recently_is_found_again(make: Callable[[str], Target]) -> None:
    assert make("again") is make("again")
    assert len({maker("again") for maker in MAKERS}) == len(MAKERS)


class Liar(str):
    """Says that it is any other string."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return hash("victim")


def test_no_id_yields_the_target_of_another_whatever_it_says_of_itself() -> None:
    victim = Target.user("victim")
    for liar in (Target.user(Liar("u2")), Target("user", Liar("u2")), Target(Liar("user"), "u2")):
        assert (liar.kind, liar.id, liar.wire) == ("user", "u2", b'{"User":"u2"}')
        assert type(liar.id) is str
        assert type(liar.kind) is str
        assert liar != victim
    assert Target("user", "victim").id == "victim"
    assert Target(Liar("org"), Liar("u3")).wire == b'{"Org":"u3"}'


@given(st.lists(st.tuples(st.sampled_from(["user", "org", "a", "a_b"]), ids), min_size=2, max_size=8))
def test_each_kind_and_id_yields_its_own_target_in_any_order_of_asking(asked: list[tuple[str, str]]) -> None:
    for kind, id_ in [*asked, *reversed(asked)]:
        target = Target(kind, id_)
        assert (target.kind, target.id) == (kind, id_)
        ((_, on_the_wire),) = json.loads(target.wire).items()
        assert on_the_wire == id_


def test_a_refused_id_is_refused_again() -> None:
    for _ in range(2):
        with pytest.raises(InvalidTargetError):
            Target.user("\ud800")
        with pytest.raises(InvalidTargetError):
            Target("Room", "1")


@pytest.mark.parametrize("id_", [[], {}, None, 5, b"u1", bytearray(b"u1")], ids=repr)
def test_an_id_that_is_no_string_is_refused_by_name_of_its_type(id_: Any) -> None:
    for make in MAKERS:
        with pytest.raises(InvalidTargetError, match=f"must be a string, not {type(id_).__name__}"):
            make(id_)


def test_a_flood_of_ids_leaves_no_memory_behind() -> None:
    def flood(start: int) -> int:
        for number in range(start, start + 20_000):
            Target.user(f"flood-{number}")
        gc.collect()
        return sys.getallocatedblocks()

    after_one = flood(0)
    assert flood(20_000) - after_one < 2_000


def test_a_long_id_is_not_kept() -> None:
    kept, gone = weakref.ref(Target.user("short")), weakref.ref(Target.user("x" * 200))
    gc.collect()
    assert kept() is not None
    assert gone() is None


def test_threads_that_ask_for_the_same_ids_get_what_they_asked_for() -> None:
    wrong: list[Target] = []

    def ask(start: int) -> None:
        for number in range(start, start + 20_000):
            id_ = f"t{number % 12_000}"
            target = Target.user(id_)
            if target.id != id_ or target.wire != b'{"User":"%b"}' % id_.encode():
                wrong.append(target)

    threads = [threading.Thread(target=ask, args=(start,)) for start in (0, 1, 6_000, 11_999)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


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


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("user:u1", Target.user("u1")),
        ("chat_room:a:b", Target("chat_room", "a:b")),
        ("everyone", Target.everyone()),
        ("user: é", Target.user(" é")),
    ],
)
def test_a_target_is_read_from_text_and_written_as_it_was(text: str, target: Target) -> None:
    assert Target.parse(text) == target
    assert target.text == text


@pytest.mark.parametrize("text", ["", "user", "user:", ":u1", "everyone:u1", "User:u1"])
def test_text_that_is_no_target_is_refused(text: str) -> None:
    with pytest.raises(InvalidTargetError):
        Target.parse(text)
