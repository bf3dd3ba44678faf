"""What a map of addresses may hold, and where it leads."""

from __future__ import annotations

from typing import Any

import pytest
from backplane_core import ConfigurationError
from backplane_core.sockets import AddressMap

GOOD: list[tuple[Any, tuple[str, int], tuple[str, int]]] = [
    (None, ("a", 1), ("a", 1)),
    ("a:1=b:2", ("a", 1), ("b", 2)),
    ("a:1=b:2", ("a", 9), ("a", 9)),
    ("a=b", ("a", 9), ("b", 9)),
    ("a:1=b", ("a", 1), ("b", 1)),
    (" a:1 = b:2 , c=d ", ("c", 3), ("d", 3)),
    ("a=b,a:1=c:2", ("a", 1), ("c", 2)),
    ("Node-1.Internal:1=localhost:2", ("node-1.internal", 1), ("localhost", 2)),
    ("node=b", ("NODE", 1), ("b", 1)),
    ("[fd00::1]:1=[::1]:2", ("fd00::1", 1), ("::1", 2)),
    ("fd00::1=::1", ("fd00::1", 7), ("::1", 7)),
    ({"10.0.0.5:6379": "localhost:7001"}, ("10.0.0.5", 6379), ("localhost", 7001)),
]


@pytest.mark.parametrize(("value", "announced", "reachable"), GOOD, ids=repr)
def test_an_announced_address_is_reached_where_the_map_says(
    value: Any, announced: tuple[str, int], reachable: tuple[str, int]
) -> None:
    assert AddressMap.parse(value).reachable(*announced) == reachable


BAD: list[Any] = ["", "a", "a:1", "a=", "=b", "a:0=b:1", "a:65536=b", "a=b:1", "a=b,a=c", "a=b=c", "a b=c", "u@a=b"]


@pytest.mark.parametrize("value", [*BAD, 5, ["a=b"], {"a": 1}, {1: "a"}, {"a": "b/c"}], ids=repr)
def test_what_is_no_map_says_what_one_is(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"10\.0\.0\.5:6379=localhost:7001"):
        AddressMap.parse(value)
