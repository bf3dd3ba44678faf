"""A hostile frame of 1 MiB costs a pod about what a good one does: each is held against json.loads in the same run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache

import pytest
from backplane_core import EnvelopeError, Event, Target
from backplane_core._local.registry import Registry
from backplane_core._protocol.frame import MAX_EXCLUDED, MAX_TARGETS, decode_exclusion, decode_head, decode_targets
from backplane_core._protocol.json import compact
from backplane_core.target import MAX_INTERSECTED, MAX_INTERSECTIONS

from tests.product.hostile.frames import frame, nested

SIZE = 1 << 20


def many(make: Callable[[int], bytes], count: int | None = None) -> bytes:
    """So many different parts, or as many as fit into 1 MiB, with commas between."""
    parts: list[bytes] = []
    size = 0
    while size < SIZE if count is None else len(parts) < count:
        parts.append(make(len(parts)))
        size += len(parts[-1]) + 1
    return b",".join(parts)


def kind(number: int) -> bytes:
    """One of 65,536 kinds of sixteen words: the dearest to read."""
    return b"".join([b"AB"[number >> bit & 1 :][:1] for bit in range(16)])


def intersections(**last: str) -> bytes:
    """Return as many intersections as are taken, of rooms that all are in; `last` stands in place of the last one."""
    return json.dumps(
        [
            [*[{"Room": str(number + room)} for room in range(MAX_INTERSECTED - 1)], last or {"Room": str(number + 7)}]
            for number in range(MAX_INTERSECTIONS)
        ]
    ).encode()


@cache
def good() -> bytes:
    """Return a good event of small records, as hosts send them: what 1 MiB costs anyone who reads it."""
    return frame(
        event=b"[" + many(lambda number: b'{"id":%d,"name":"some name","ok":true,"share":1.5}' % number) + b"]"
    )


# Made when its test runs: megabytes that each worker would make in vain.
BAD: dict[str, Callable[[], bytes]] = {
    "deep, never closed": lambda: frame(event=b"[" * SIZE),
    "deep": lambda: frame(event=nested(SIZE // 2)),
    "deep objects": lambda: frame(event=b'{"a":' * (SIZE // 5)),
    "a deep unknown member": lambda: frame(later=nested(SIZE // 2)),
    "a deep target": lambda: frame(target=nested(SIZE // 2)),
    "lists of 250 levels": lambda: frame(event=b"[" + many(lambda _: nested(250), 500) + b"]"),
    "100,000 keys": lambda: frame(event=b"{" + many(lambda number: b'"%x":0' % number) + b"}"),
    "one key again and again": lambda: frame(event=b"{" + many(lambda _: b'"":0') + b"}"),
    "a number of a million digits": lambda: frame(event=b"9" * SIZE),
    "a fraction of a million digits": lambda: frame(event=b"0." + b"9" * SIZE),
    "numbers of 4,000 digits": lambda: frame(event=b"[" + many(lambda _: b"9" * 4_000) + b"]"),
    "numbers amid two doubles": lambda: frame(event=b"[" + many(lambda _: b"9007199254740992.9" + b"9" * 700) + b"]"),
    "seq of a million digits": lambda: frame(seq=b"9" * SIZE),
    "500,000 escapes": lambda: frame(event=b'"' + b"\\n" * (SIZE // 2) + b'"'),
    "surrogate escapes": lambda: frame(event=b'"' + b"\\ud83d\\ude00" * (SIZE // 12) + b'"'),
    "an escaped id": lambda: frame(target=b'{"User":"%b"}' % (b"\\u0041" * (SIZE // 6))),
    "line breaks": lambda: frame(event=b"[" + many(lambda _: b"\n1") + b"]"),
    "a target of spaces": lambda: frame(target=b'{"User":' + b" " * SIZE + b'"u1"}'),
    "a target of 90,000 keys": lambda: frame(target=b"{" + many(lambda number: b'"K%x":""' % number) + b"}"),
    "a kind of a million letters": lambda: frame(target=b'{"%b":"x"}' % (b"A" * SIZE)),
    "a kind of 500,000 words": lambda: frame(target=b'{"%b!":"x"}' % (b"Aa" * (SIZE // 2))),
    "an origin of 1 MiB": lambda: frame(origin=b'"' + b"x" * SIZE + b'"'),
    "90,000 targets": lambda: frame(also=b"[" + many(lambda number: b'{"A":"%x"}' % number) + b"]"),
    "as many targets as are taken": lambda: frame(
        also=b"[" + many(lambda number: b'{"%b":"%b"}' % (kind(number), b"\\u00e9" * 80), MAX_TARGETS - 1) + b"]"
    ),
    "90,000 intersected": lambda: frame(to=b'{"any":[[%b]]}' % many(lambda number: b'{"A":"%x"}' % number)),
    "40,000 intersections": lambda: frame(to=b'{"any":[%b]}' % many(lambda number: b'[{"A":"%x"},{"B":""}]' % number)),
    "as many intersections as are taken": lambda: frame(to=b'{"any":%b}' % intersections()),
    "as many excluded intersections as are taken": lambda: frame(
        to=b'{"any":["Everyone"],"not":%b}' % intersections(User="u1")
    ),
    "100,000 times everyone": lambda: frame(also=b"[" + many(lambda _: b'"Everyone"') + b"]"),
    "500,000 bad targets": lambda: frame(also=b"[" + many(lambda _: b"1") + b"]"),
    "300,000 excluded": lambda: frame(exclude=b"[" + many(lambda number: b'"%x"' % number, 300_000) + b"]"),
    "as many excluded as are taken": lambda: frame(
        exclude=b"[" + many(lambda number: b'"\xc3\xa9%x"' % number, MAX_EXCLUDED) + b"]"
    ),
    "100,000 unknown members": lambda: frame() [:-1] + b"," + many(lambda number: b'"%x":0' % number) + b"}",
    "one member again and again": lambda: frame()[:-1] + b"," + many(lambda _: b'"also":[]') + b"}",
}  # fmt: skip


def seconds(work: Callable[[], object]) -> float:
    """The least of three, of this thread's processor time: what the work takes when nothing else runs."""
    return min(_once(work) for _ in range(3))


def _once(work: Callable[[], object]) -> float:
    started = time.thread_time()
    work()
    return time.thread_time() - started


def a_pods_registry() -> Registry:
    registry = Registry()
    for number in range(1_000):
        registry.attach(f"c{number}", print, raw=True, on_gap=None, now=0)
        for room in range(MAX_INTERSECTIONS + MAX_INTERSECTED):
            registry.associate(f"c{number}", Target("room", str(room)))
        if number % 2:
            registry.associate(f"c{number}", Target.user("u1"))
    return registry


def as_a_pod_does(registry: Registry, data: bytes, also: Iterable[Callable[[Event], object]] = ()) -> None:
    try:
        head = decode_head(data)
        registry.resolve(decode_targets(head), decode_exclusion(head))
        event = Event(compact(bytes(head.event)))
        for step in also:
            step(event)
    except EnvelopeError:
        pass


@pytest.mark.parametrize("name", BAD)
def test_a_hostile_frame_costs_no_more_than_a_few_times_a_good_one(
    name: str, record_property: Callable[[str, object], None]
) -> None:
    registry, bad = a_pods_registry(), BAD[name]()
    yardstick = seconds(lambda: json.loads(good()))
    delivery = seconds(lambda: as_a_pod_does(registry, bad))
    reading = seconds(lambda: as_a_pod_does(registry, bad, [lambda event: event.value]))
    record_property("milliseconds", [round(1e3 * figure, 2) for figure in (yardstick, delivery, reading)])
    spent = f"{1e3 * delivery:.1f} ms until delivered, {1e3 * reading:.1f} ms with its value"
    print(f"{spent}; good: {1e3 * yardstick:.1f} ms")  # noqa: T201 -- pytest -rP shows it
    # A pod's own work: with a kind of a million letters, or 90,000 targets, it was twenty times as much and more.
    assert delivery < 8 * yardstick
    # The value is decoded by who wants one, in their own time: lists of lists cost any reader this much.
    assert reading < 8 * max(yardstick, _loads_s(bad))


def _loads_s(data: bytes) -> float:
    def work() -> None:
        with suppress(ValueError, RecursionError):
            json.loads(data)

    return seconds(work)
