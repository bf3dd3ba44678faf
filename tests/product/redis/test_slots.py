from __future__ import annotations

from typing import Any

import pytest
from backplane_redis._cluster.slots import SlotMap, slot_of
from backplane_redis._url import format_address

BY = ("seed", 7000)
REPLY: list[Any] = [
    [0, 5460, [b"10.0.0.1", 6379, b"id", []], [b"10.0.0.9", 6379, b"replica", []]],
    [5461, 5461, [b"2001:db8::1", 6380, b"id", []]],
    [5463, 16383, [b"10.0.0.1", 6379, b"id"]],
]


@pytest.mark.parametrize(
    ("channel", "slot"), [("123456789", 12739), ("backplane", 12304), ("backplane:@user:u1", 11224), ("", 0)]
)
def test_a_channels_slot_is_the_one_that_the_cluster_computes(channel: str, slot: int) -> None:
    assert slot_of(channel) == slot


def test_a_map_knows_the_master_of_each_slot() -> None:
    slots = SlotMap.parse(REPLY, BY)
    assert slots.owner(0) == slots.owner(5460) == slots.owner(5463) == slots.owner(16383) == ("10.0.0.1", 6379)
    assert slots.owner(5461) == ("2001:db8::1", 6380)
    assert slots.owner(5462) is None
    assert slots.owners == {("10.0.0.1", 6379), ("2001:db8::1", 6380)}


@pytest.mark.parametrize("host", [None, b"", b"?"])
def test_a_node_that_does_not_know_its_host_is_where_it_was_asked(host: bytes | None) -> None:
    slots = SlotMap.parse([[0, 16383, [host, 6381, b"id", []]]], BY)
    assert slots.owner(7) == ("seed", 6381)


def test_a_slot_that_moved_is_found_where_the_error_says() -> None:
    slots = SlotMap.parse(REPLY, BY)
    slots.correct("5462 10.0.0.2:6379", BY)
    slots.correct("5461 :6382", BY)
    slots.correct("0 2001:db8::2:6379", BY)
    assert slots.owner(5462) == ("10.0.0.2", 6379)
    assert slots.owner(5461) == ("seed", 6382)
    assert slots.owner(0) == ("2001:db8::2", 6379)
    assert slots.owner(1) == ("10.0.0.1", 6379)
    assert ("2001:db8::1", 6380) not in slots.owners


ONLY_IPS: list[Any] = [
    [0, 5460, [b"?", 6379, b"id", {b"ip": b"10.0.0.1"}]],
    [5461, 10922, [b"?", 6379, b"id", [b"ip", b"10.0.0.2"]]],
    [10923, 16383, [b"?", 6380, b"id", [b"hostname", b"", b"ip", b"10.0.0.3"]]],
]


def test_a_cluster_that_prefers_names_and_has_none_says_its_addresses_behind_its_ids() -> None:
    slots = SlotMap.parse(ONLY_IPS, BY)
    assert slots.owners == {("10.0.0.1", 6379), ("10.0.0.2", 6379), ("10.0.0.3", 6380)}


def test_a_slot_that_moved_to_a_node_without_a_name_is_found_at_the_only_node_on_that_port() -> None:
    slots = SlotMap.parse(ONLY_IPS, BY)
    slots.correct("0 ?:6380", ("10.0.0.1", 6379))
    assert slots.owner(0) == ("10.0.0.3", 6380)
    slots.correct("10923 ?:6379", ("10.0.0.3", 6380))
    assert slots.owner(10923) == ("10.0.0.3", 6379), "two are on that port: ask, where they are asked"
    slots.correct("1 ?:6379", ("10.0.0.1", 6379))
    assert slots.owner(1) in {("10.0.0.2", 6379), ("10.0.0.3", 6379), ("10.0.0.1", 6379)}


def test_an_address_is_shown_as_a_url_has_it() -> None:
    assert format_address(("redis.example", 6379)) == "redis.example:6379"
    assert format_address(("::1", 7000)) == "[::1]:7000"
