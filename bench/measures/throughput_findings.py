"""What the turns of the throughput measurement come to: medians, ratios within one round, and goals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

from attrs import frozen

from bench.events import SIZE, USERS
from bench.findings import Findings, Goal, Plot
from bench.measure import NAMES
from bench.spreads import Spread, lost, ratios, spread
from bench.subjects.lineup import PUBLISHERS, SUBJECTS, Subject

__all__ = ["Figures", "Result", "findings"]


@frozen(kw_only=True)
class Result:
    """What came of one turn."""

    events: int
    seconds: float  # from the first publish to the last event's arrival
    sender_us: float  # processor time per event in the publishing process, own echo included
    receiver_us: float
    lost: int
    late: int = 0  # events that came to a socket after one that was published later
    copies: int = 0

    @property
    def rate(self) -> float:
        """Events per second."""
        return (self.events - self.lost) / self.seconds


Rounds: TypeAlias = Sequence[Mapping[str, Result]]
"""Each round's results by subject."""


@frozen(kw_only=True)
class Figures:
    """What is measured."""

    events: int  # per turn of a fast subject
    rounds: Mapping[str, Sequence[Mapping[str, Result]]]  # of each broker


_METHOD: Final = """\
One process publishes {events:,} events as fast as it can (a slow subject gets fewer); another holds the sockets of
{users:,} users, one each; they have a broker of their own. Each library is used as its documentation teaches.
For every event the publisher makes a new id, and from it the target, room, group, channel or subject; and it builds a
new dict with a dict and a list in it, {size} bytes of JSON. Users take turns. Time runs from the first publish to the
last arrival. All take their turns within one round, each in fresh processes and after a warm-up, so that a busy minute
hits all of them; rounds: {rounds}. Ratios are taken round by round; shown is their median. "Each waits" says whether a
publish returns once the broker has the event; where it does not, all are waited for at the end. Processor time is that
of the whole process, the sender's own echo included."""
_NOTES: Final = [
    """What the publishers do: Backplane `await backplane.publish(Target.user(user), {…})`; python-socketio `await
manager.emit("event", {…}, room=f"user_{user}")`; channels_redis `await layer.group_send(f"user_{user}", {"type": …,
"event": {…}})`; litestar `channels.publish({…}, channels=[f"user_{user}"])`, or `wait_published`; broadcaster, redis-py
and nats-py carry text or bytes, so `json.dumps({…})` comes before their `publish`.""",
    """What the receivers do, up to the point where an event would be sent to a socket: Backplane reads `async for event
in connection`, a task per socket, as in its quickstart; with *sinks* it calls the raw sink of `attach` instead.
broadcaster (`async for event in subscriber`), litestar (`iter_events()`) and channels_redis (`layer.receive(channel)`,
then `json.dumps`, as in the tutorial's consumer, but without a consumer around it) have a task per socket too.
python-socketio calls the socket's `send` with the encoded packet. redis-py has one task that reads `pubsub.listen()`
and looks up the socket by the channel. nats-py has a callback: of a subscription per user, or of one subscription for
the subjects of all users; we compare with the faster. Clients connect one after the other, before the clock starts.""",
    """With `interest`, and with all libraries but python-socketio, the receiver is subscribed to a channel of each user
whose socket it holds. With `broadcast` and python-socketio all events come by one channel, and the receiver drops those
of users that it does not hold; here it holds all.""",
    """*One cached target, a flat event*: the publisher makes its target once and publishes two keys to it, and the
receiver holds one sink. It shows what a library itself costs at least; no app publishes so.""",
    """The bare coalescing loop is what one connection can carry: bytes made by hand, 64 events per write, nothing
checked, counted or recovered.""",
    """"x bare" compares with the bare client that publishes the same way: one by one, or 64 at once (redis-py: each has
a connection of its pool).""",
    """Public API: the adapter uses nothing of its client but the public API, as it would with a version that is laid
out otherwise.""",
    """RESP2: a connection for each direction, as a link has it where a server or proxy knows no RESP3.""",
    """Several publishers with a connection each may overtake each other: "late" counts events that came to a socket
after one that was published later.""",
]
_COLUMNS: Final = (
    "",
    "publishers",
    "each waits",
    "events/s",
    "min-max",
    "x bare",
    "sender µs",
    "receiver µs",
    "lost",
    "late",
)
_FLAT: Final = "one cached target, a flat event: "
_CPU_LIMIT_US: Final[Mapping[str, float]] = {"redis": 4.0, "nats": 10.0}
_BOTH: Final = ("broadcast", "interest")


@frozen
class _Aim:
    """A rate, at least so many times as high as the best of some others in the same round."""

    what: str
    key: str
    to: Sequence[str]
    wanted: float


def _peers(publishers: int) -> list[str]:
    return [key for key, one in SUBJECTS.items() if one.part == "peer" and one.publishers == publishers]


def _each(bus: str, what: str, to: Sequence[str], wanted: Mapping[str, float]) -> list[_Aim]:
    """Return an aim for each routing, read by tasks and by sinks."""
    return [
        _Aim(f"{NAMES[bus]}, one by one, {routing}{way.replace('-', ', ')}: {what}", f"{bus}-{routing}{way}", to, aim)
        for routing, aim in wanted.items()
        for way in ("", "-sinks")
    ]


_AIMS: Final[Mapping[str, Sequence[_Aim]]] = {
    "redis": (
        *_each("redis", "the best other library", _peers(1), {"broadcast": 25, "interest": 25}),
        _Aim("Redis, 64 publishers: the best other library with 64", "redis-64", _peers(PUBLISHERS), 12),
        _Aim("Redis, 64 publishers, sinks: the best other library with 64", "redis-64-sinks", _peers(PUBLISHERS), 12),
        _Aim("Redis, publish + flush each, 64 publishers: bare redis-py", "redis-flush-64", ["redis-bare-64"], 5),
        _Aim("Redis, publish + flush each, one by one: bare redis-py", "redis-flush", ["redis-bare"], 0.95),
        *[
            _Aim(
                f"Redis, {_FLAT}{routing}: the bare coalescing loop{stretched}",
                f"redis-{routing}-flat",
                ["redis-loop-flat"],
                wanted,
            )
            for stretched, wanted in (("", 0.4), (", stretched", 0.6))
            for routing in _BOTH
        ],
    ),
    "nats": (
        *_each("nats", "bare nats-py", ["nats-bare", "nats-bare-wildcard"], {"broadcast": 1.0, "interest": 1.2}),
        _Aim("NATS, by public API alone: bare nats-py", "nats-public", ["nats-bare", "nats-bare-wildcard"], 0.7),
    ),
}


@frozen(kw_only=True)
class _Row:
    """What one subject did over all rounds."""

    subject: Subject
    rate: Spread
    sender_us: Spread
    receiver_us: Spread
    lost: int
    late: int
    copies: int


def findings(figures: Figures) -> Findings:
    """Return table, goals and plots; without goals for subjects that took no part."""
    found = {bus: {key: _row(key, rounds) for key in rounds[0]} for bus, rounds in figures.rounds.items()}
    count = len(next(iter(figures.rounds.values())))
    return Findings(
        method=_METHOD.format(events=figures.events, users=USERS, size=SIZE, rounds=count),
        columns=_COLUMNS,
        rows=[
            _cells(row, _to_bare(bus, key, rows, figures.rounds[bus]))
            for bus, rows in found.items()
            for flat in (False, True)
            for key, row in rows.items()
            if row.subject.flat == flat
        ],
        goals=[goal for bus, rows in found.items() for goal in _goals(bus, rows, figures.rounds[bus])],
        plots=[plot for bus, rows in found.items() for plot in _plots(bus, rows)],
        notes=_NOTES,
    )


def _row(key: str, rounds: Rounds) -> _Row:
    results = [results[key] for results in rounds]
    return _Row(
        subject=SUBJECTS[key],
        rate=spread([result.rate for result in results]),
        sender_us=spread([result.sender_us for result in results]),
        receiver_us=spread([result.receiver_us for result in results]),
        lost=sum([result.lost for result in results]),
        late=sum([result.late for result in results]),
        copies=sum([result.copies for result in results]),
    )


def _ratio(rounds: Rounds, key: str, to: str) -> Spread:
    return ratios([results[key].rate for results in rounds], [results[to].rate for results in rounds])


def _fastest(rows: Mapping[str, _Row], keys: Sequence[str]) -> str | None:
    return max([key for key in keys if key in rows], key=lambda key: rows[key].rate[0], default=None)


def _goals(bus: str, rows: Mapping[str, _Row], rounds: Rounds) -> list[Goal]:
    goals: list[Goal] = []
    for aim in _AIMS[bus]:
        to = _fastest(rows, aim.to)
        if to is not None and aim.key in rows:
            what = aim.what if len(aim.to) == 1 else f"{aim.what} ({rows[to].subject.title})"
            goals.append(Goal.least(what, aim.wanted, _ratio(rounds, aim.key, to)))
    for routing in _BOTH:
        what, limit = f"{NAMES[bus]}, one by one, {routing}", _CPU_LIMIT_US[bus]
        if (row := rows.get(f"{bus}-{routing}")) is not None:
            goals.append(Goal.most(f"{what}: processor time per event, sender", limit, row.sender_us, "µs"))
            goals.append(Goal.most(f"{what}: processor time per event, receiver", limit, row.receiver_us, "µs"))
        if (row := rows.get(f"{bus}-{routing}-sinks")) is not None:
            goals.append(Goal.most(f"{what}, sinks: processor time per event, receiver", limit, row.receiver_us, "µs"))
    return goals


def _to_bare(bus: str, key: str, rows: Mapping[str, _Row], rounds: Rounds) -> str:
    subject = rows[key].subject
    if subject.flat:
        bare = [f"{bus}-bare-flat"]
    elif f"{bus}-bare-{subject.publishers}" in rows:
        bare = [f"{bus}-bare-{subject.publishers}"]
    else:
        bare = [f"{bus}-bare", f"{bus}-bare-wildcard"]
    to = _fastest(rows, bare)
    if to is None:
        return "-"
    value = _ratio(rounds, key, to)[0]
    # Three digits are all that a ratio is good for.
    return f"{value:.0f}" if value >= 10 else f"{value:.2f}"  # noqa: PLR2004


def _cells(row: _Row, to_bare: str) -> tuple[str, ...]:
    subject = row.subject
    middle, least, most = row.rate
    return (
        f"{NAMES[subject.bus]}: {_FLAT if subject.flat else ''}{subject.title}",
        str(subject.publishers),
        "yes" if subject.waits else "no",
        f"{middle:,.0f}",
        f"{least:,.0f}-{most:,.0f}",
        to_bare,
        f"{row.sender_us[0]:.1f}",
        f"{row.receiver_us[0]:.1f}",
        lost(row.lost),
        f"{row.late:,}" if not row.copies else f"{row.late:,}, {row.copies:,} twice",
    )


def _plots(bus: str, rows: Mapping[str, _Row]) -> list[Plot]:
    plots: list[Plot] = []
    for publishers, key, what in ((1, bus, "one publisher"), (PUBLISHERS, f"{bus}-64", "64 publishers at once")):
        chosen = [row for row in rows.values() if row.subject.publishers == publishers and not row.subject.flat]
        if len(chosen) > 1:
            bars = {row.subject.title: row.rate[0] for row in sorted(chosen, key=lambda row: -row.rate[0])}
            plots.append(Plot.bars(f"throughput-{key}", f"{NAMES[bus]}, {what}", "events per second", bars))
    return plots
