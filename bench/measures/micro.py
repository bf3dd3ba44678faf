"""What single operations of a publish cost in one process: making a target, encoding an event."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final

import msgspec
from attrs import field, frozen
from backplane_core import Target
from backplane_core._protocol.json import encode_event

from bench.events import USERS, flat, nested, user_id
from bench.findings import Findings, Goal
from bench.measure import Measure, Progress, option
from bench.spreads import ratios, shown, spread

__all__ = ["Figures", "Micro"]

_MSGSPEC: Final = "msgspec alone: the nested event"
_LIMITS_US: Final[Mapping[str, float]] = {
    "a new target": 0.8,
    "a recently used target": 0.25,
    "encoding the nested event": 0.8,
}
_METHOD: Final = """\
One process does each operation {times:,} times in a loop; the time of an empty loop over the same items is
subtracted. Counted is the processor time of the thread, without garbage collections; {rounds} rounds, in which all
operations take turns. A new target: `Target.user(id)` for an id that never came before. A recently used one:
{users:,} ids in turn, each a new string. The nested event is that of the [throughput](#throughput) measurement, as it
is encoded for `publish`: checked, too. msgspec's encoder alone checks nothing and is the measure for all: the ratio
to it in the same round stands next to each."""
_NOTE: Final = """\
Encoding refuses what is no JSON: NaN, keys that are no strings, bytes, dates, anything over 64 bits, lone surrogates.
msgspec and `json.dumps` let some of it pass, or change it."""


@frozen(kw_only=True)
class Figures:
    """What is measured."""

    times: int  # how often each operation is done in a round
    us: Mapping[str, Sequence[float]]  # microseconds per operation, round by round


@frozen
class _Operation:
    """Something that is done to each of many items."""

    what: str  # in words
    call: Callable[[Any], object]  # does it
    items: Callable[[int], Iterable[Any]] = field(repr=False)  # what it takes; made again for each round


def _ids(times: int) -> list[str]:
    return [user_id(number) for number in range(times)]


def _operations() -> list[_Operation]:
    encode = msgspec.json.Encoder().encode
    rounds = iter(range(1_000_000))

    def new_ids(times: int) -> list[str]:
        turn = next(rounds)
        return [f"n{turn}-{number}" for number in range(times)]

    def repeated(event: dict[str, Any]) -> Callable[[int], Iterable[Any]]:
        return lambda times: [event] * times

    event = nested(50_000_000, "u123")
    return [
        _Operation("a new target", Target.user, new_ids),
        _Operation("a recently used target", Target.user, _ids),
        _Operation(_MSGSPEC, encode, repeated(event)),
        _Operation("encoding the nested event", encode_event, repeated(event)),
        _Operation("encoding it with a None in it", encode_event, repeated({**event, "reply_to": None})),
        _Operation("encoding a flat event of two keys", encode_event, repeated(flat(50_000_000))),
        _Operation("json.dumps: the nested event", json.dumps, repeated(event)),
    ]


@frozen(kw_only=True)
class Micro(Measure[Figures]):
    """What single operations of a publish cost in one process: making a target, encoding an event."""

    name: ClassVar = "micro"
    title: ClassVar = "What single operations cost"
    figures: ClassVar = Figures
    quick: ClassVar = {"times": 2_000, "rounds": 1}
    usual_s: ClassVar = 15

    times: int = option(50_000, "how often each operation is done in a round")
    rounds: int = option(9, "in each of which all operations take turns")

    def measure(self, progress: Progress) -> Figures:
        """Do each operation in a loop."""
        operations = _operations()
        progress.expect(self.rounds)
        us: dict[str, list[float]] = {one.what: [] for one in operations}
        for turn in range(self.rounds):
            progress.step(f"round {turn + 1} of {self.rounds}")
            for one in operations:
                us[one.what].append(_us(one, self.times))
        return Figures(times=self.times, us=us)

    @classmethod
    def findings(cls, figures: Figures) -> Findings:
        """Return the table and the goals."""
        alone = figures.us[_MSGSPEC]
        return Findings(
            method=_METHOD.format(times=figures.times, rounds=len(alone), users=USERS),
            columns=("operation", "µs", "x msgspec's encode"),
            rows=[
                (what, shown(spread(us)), "" if what == _MSGSPEC else shown(ratios(us, alone)))
                for what, us in figures.us.items()
            ],
            goals=[Goal.most(what, limit, spread(figures.us[what]), "µs") for what, limit in _LIMITS_US.items()],
            notes=[_NOTE],
        )


def _us(operation: _Operation, times: int) -> float:
    """Return microseconds per call."""
    call, items = operation.call, list(operation.items(times))
    for item in list(operation.items(USERS)):
        call(item)  # warm
    gc.collect()
    gc.disable()
    try:
        begun = time.thread_time()
        for _ in items:
            pass
        empty = time.thread_time()
        for item in items:
            call(item)
        done = time.thread_time()
    finally:
        gc.enable()
    return (done - empty - (empty - begun)) / times * 1e6
