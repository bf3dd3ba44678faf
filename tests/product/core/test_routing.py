"""From targets to channels: no id can reach a wildcard, a protocol byte, or another target's channel."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import re

import pytest
from backplane_core import Target
from backplane_core._protocol import routing as routing_module
from backplane_core._protocol.routing import CHANNEL, Interest, id_token, make_routing
from hypothesis import given
from hypothesis import strategies as st

from tests.product.core.test_target import ids, kinds

targets = st.builds(Target, kinds, ids)
channels = st.from_regex(CHANNEL, fullmatch=True).filter(lambda name: len(name) <= 200)
# What a link is promised: words of this alphabet joined by colons.
ON_THE_BUS = re.compile(r"[A-Za-z0-9_@=-]+(:[A-Za-z0-9_@=-]+)*", re.ASCII)


@given(channels, targets, st.integers(1, 8))
def test_every_channel_is_of_the_alphabet_that_links_are_promised(channel: str, target: Target, lanes: int) -> None:
    for routing in (make_routing("broadcast", channel, lanes), make_routing("interest", channel, 1)):
        for name in (*routing.base, routing.channel((target,)), routing.interest(target) or channel):
            assert ON_THE_BUS.fullmatch(name)


@given(channels, channels, targets, targets)
def test_targets_share_a_channel_only_if_they_are_the_same_on_the_same_backplane(
    channel: str, other_channel: str, target: Target, other: Target
) -> None:
    one = make_routing("interest", channel, 1).interest(target)
    two = make_routing("interest", other_channel, 1).interest(other)
    assert (one == two) == ((channel, target) == (other_channel, other))


@given(channels, targets, st.integers(2, 5))
def test_what_is_below_a_backplanes_channel_is_no_channel_that_a_host_may_choose(
    channel: str, target: Target, lanes: int
) -> None:
    name = make_routing("interest", channel, 1).interest(target)
    assert name is not None
    assert not CHANNEL.fullmatch(name)
    assert not any(map(CHANNEL.fullmatch, make_routing("broadcast", channel, lanes).base[1:]))


@given(ids)
def test_a_token_is_short_and_plain_ids_stay_readable(id_: str) -> None:
    token = id_token(id_)
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}|=[0-9a-f]{32}", token, re.ASCII)
    assert (token == id_) == bool(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", id_, re.ASCII))


@given(ids, ids)
def test_different_ids_have_different_tokens(one: str, other: str) -> None:
    assert (id_token(one) == id_token(other)) == (one == other)


@pytest.mark.parametrize(
    "id_", ["*", ">", "a.b", "a b", "a:b", "@1", "=" + "0" * 32, "\r\nPUB x 1", "\0", "x" * 65, "é"]
)
def test_an_odd_or_long_id_is_hashed(id_: str) -> None:
    assert re.fullmatch(r"=[0-9a-f]{32}", id_token(id_))


def test_tokens_are_the_same_in_every_process() -> None:
    routing = make_routing("interest", "backplane", 1)
    assert routing.interest(Target.user("u1")) == "backplane:@user:u1"
    assert routing.interest(Target("chat_room", "é")) == "backplane:@chat_room:=4a99557e4033c3539de2eb65472017ca"
    assert make_routing("broadcast", "b", 3).base == ("b", "b:@0", "b:@1", "b:@2")


@given(targets, st.integers(2, 16))
def test_a_target_keeps_its_lane(target: Target, lanes: int) -> None:
    routing = make_routing("broadcast", "backplane", lanes)
    lane = routing.channel((target,))
    assert lane in routing.base[1:]
    assert make_routing("broadcast", "backplane", lanes).channel((Target(target.kind, target.id),)) == lane
    assert routing.interest(target) is None


def test_lanes_are_the_same_in_every_process() -> None:
    routing = make_routing("broadcast", "b", 4)
    assert [routing.channel((Target.user(f"u{number}"),)) for number in range(6)] == [
        f"b:@{lane}" for lane in [0, 3, 2, 1, 0, 3]
    ]


def test_lanes_share_the_load() -> None:
    routing = make_routing("broadcast", "backplane", 4)
    counts = dict.fromkeys(routing.base[1:], 0)
    for number in range(4_000):
        counts[routing.channel((Target.user(str(number)),))] += 1
    assert min(counts.values()) > 700


@pytest.mark.parametrize("name", ["broadcast", "interest"])
def test_unions_and_everyone_take_the_channel_that_all_pods_hear(name: str) -> None:
    routing = make_routing(
        "interest" if name == "interest" else "broadcast", "backplane", 1 if name == "interest" else 4
    )
    assert routing.shared == routing.base[0] == "backplane"
    assert routing.channel((Target.everyone(),)) == "backplane"
    assert routing.channel((Target.user("u1"), Target.org("acme"))) == "backplane"
    assert routing.interest(Target.everyone()) is None


def test_a_flood_of_targets_forgets_the_oldest_names_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing_module, "_MAX_CACHED_NAMES", 3)
    interest = Interest("c")
    names = {f"u{number}": interest.interest(Target.user(f"u{number}")) for number in range(10)}
    assert list(interest._names.values()) == [names["u7"], names["u8"], names["u9"]]
    for id_, name in names.items():
        assert interest.interest(Target.user(id_)) == name == f"c:@user:{id_}"
