"""What the rounds of a contest come to: `findings`, with the goals that were set for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from attrs import frozen
from backplane_testservers import Kind

from bench.contestants import CONTESTANTS
from bench.findings import Findings, Goal, Plot
from bench.publishing import PUBLISHERS
from bench.report import Rounds, Row, as_json, best, ratio, rows

__all__ = ["findings"]

_METHOD: Final = """\
One process publishes events of {size} bytes of JSON to one user, as fast as it can; another holds that user's one
connection; a broker of their own runs beside them. Time runs from the first publish to the last arrival. All take their
turns within one round, each in fresh processes and after a warm-up, so that a busy minute hits all of them; rounds:
{rounds}. Ratios are taken round by round; shown is their median. Each other library is used by the fastest way that its
documentation shows, up to the point where it hands the event to a socket. "Each waits" tells whether a publish returns
once the broker has the event; where it does not, all are waited for at the end. Processor time is that of the whole
process, the sender's own echo included."""
_NOTES: Final = [
    """The bare coalescing loop is what the same connection can carry: bytes made by hand, 64 events per write,
nothing checked, counted or recovered.""",
    """"x bare" compares with the bare client that publishes likewise: one by one, or 64 at once (redis-py: each with a
connection of its pool).""",
    """Public API: the adapter may use nothing of its client but the public API, as it would with a version that is laid
out otherwise.""",
    """Who publishes over several connections at once may be overtaken by itself: "late" counts events that arrived
after one that was published later.""",
    """What keeps us from the bare loop: [where the time goes](#where-the-time-goes). It carries an event's JSON in no
envelope, to nobody, without numbers, bounds or a look at what it sends; of our 3 µs of a sender half is
`publish` and its checks in Python, a sixth the JSON encoder. With broadcast the broker sends a pod its own
events back, which is 1 µs more of the sender: Redis has no switch for that. What would help is C: the frame of
one event, and the parsing of a batch.""",
    """64 publishers: a library with a connection per publisher has the broker work on 64 sockets at once, so it is two
or three times as fast as one by one. We were as fast before: what 64 tasks add for us is a switch between tasks for
every second event, since each waits for one turn of the loop where 64 events were taken. To let each take several at a
time costs a fifth less, and a neighbour that publishes once waits ten times as long: not worth it.""",
    """Publish and flush by 64: each event takes a switch to its task, a coroutine and an answer for its flush, which is
as much again as the publish itself; and all 64 wait for one batch, so sender and broker take turns instead of
working at once.""",
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
_TITLES: Final[Mapping[Kind, str]] = {"redis": "Redis", "nats": "NATS"}
_CPU_LIMIT_US: Final[Mapping[Kind, float]] = {"redis": 8.0, "nats": 10.0}


@frozen
class _Aim:
    """A rate against another one of the same round.

    Args:
        what: In words.
        key: Whose rate.
        to: Against whose; a number: the best other library with so many publishers.
        wanted: At least so many times.
    """

    what: str
    key: str
    to: str | int
    wanted: float


_AIMS: Final[Mapping[Kind, Sequence[_Aim]]] = {
    "redis": (
        _Aim("Redis, one by one, broadcast: the best other library", "redis-broadcast", 1, 25),
        _Aim("Redis, one by one, interest: the best other library", "redis-interest", 1, 25),
        _Aim("Redis, one by one, broadcast: the bare coalescing loop", "redis-broadcast", "redis-ceiling", 0.4),
        _Aim("Redis, one by one, interest: the bare coalescing loop", "redis-interest", "redis-ceiling", 0.4),
        _Aim("Redis, the same, stretched: broadcast", "redis-broadcast", "redis-ceiling", 0.6),
        _Aim("Redis, the same, stretched: interest", "redis-interest", "redis-ceiling", 0.6),
        _Aim("Redis, 64 publishers: the best other library with 64", "redis-concurrent", PUBLISHERS, 12),
        _Aim("Redis, publish + flush each, 64 publishers: bare redis-py", "redis-flush-64", "redis-bare-64", 5),
        _Aim("Redis, publish + flush each, one by one: bare redis-py", "redis-flush", "redis-bare", 0.95),
    ),
    "nats": (
        _Aim("NATS, one by one, interest: bare nats-py", "nats-interest", "nats-bare", 1.2),
        _Aim("NATS, one by one, broadcast: bare nats-py", "nats-broadcast", "nats-bare", 1.0),
        _Aim("NATS, by public API alone: bare nats-py", "nats-public", "nats-bare", 0.7),
    ),
}


def findings(played: Mapping[Kind, Rounds], *, settings: Mapping[str, Any]) -> Findings:
    """Return table, goals and plots; without what needs a contestant that took no part.

    Args:
        played: The rounds by broker.
        settings: Of the rounds: `size`, `rounds` and what else is worth keeping.
    """
    found: dict[Kind, dict[str, Row]] = {
        bus: rows({key: CONTESTANTS[key] for key in rounds[0]}, rounds) for bus, rounds in played.items()
    }
    return Findings(
        key="throughput",
        title="Throughput",
        method=_METHOD.format(**settings),
        columns=_COLUMNS,
        rows=[
            _cells(bus, row, _to_bare(bus, key, row, played[bus]))
            for bus, by_key in found.items()
            for key, row in by_key.items()
        ],
        goals=[goal for bus, by_key in found.items() for goal in _goals(bus, by_key, played[bus])],
        plots=[plot for bus, by_key in found.items() for plot in _plots(bus, by_key)],
        notes=_NOTES,
        raw={
            "settings": dict(settings),
            **{bus: {key: as_json(row) for key, row in by_key.items()} for bus, by_key in found.items()},
            "rates": {
                bus: [{key: result.rate for key, result in results.items()} for results in rounds]
                for bus, rounds in played.items()
            },
        },
    )


def _goals(bus: Kind, found: Mapping[str, Row], rounds: Rounds) -> list[Goal]:
    goals: list[Goal] = []
    for aim in _AIMS[bus]:
        to = best(found, "peer", aim.to) if isinstance(aim.to, int) else aim.to
        if to is None or not {aim.key, to} <= found.keys():
            continue
        middle, *edges = ratio(rounds, aim.key, to)
        what = aim.what if to == aim.to else f"{aim.what} ({found[to].title})"
        goals.append(Goal(what=what, wanted=aim.wanted, found=middle, spread=(edges[0], edges[1])))
    for routing in ("broadcast", "interest"):
        row = found.get(f"{bus}-{routing}")
        if row is None:
            continue
        for side, (middle, least, most) in (("sender", row.sender_us), ("receiver", row.receiver_us)):
            goals.append(
                Goal(
                    what=f"{_TITLES[bus]}, one by one, {routing}: processor time per event, {side}",
                    wanted=_CPU_LIMIT_US[bus],
                    found=middle,
                    spread=(least, most),
                    at_least=False,
                    unit="µs",
                )
            )
    return goals


def _to_bare(bus: Kind, key: str, row: Row, rounds: Rounds) -> str:
    with_many = f"{bus}-bare-{PUBLISHERS}"
    to = with_many if row.publishers == PUBLISHERS and with_many in rounds[0] else f"{bus}-bare"
    if to not in rounds[0]:
        return "-"
    value = ratio(rounds, key, to)[0]
    return f"{value:.0f}" if value >= 10 else f"{value:.2f}"  # noqa: PLR2004 -- three digits are all that a ratio is good for


def _cells(bus: Kind, row: Row, to_bare: str) -> tuple[str, ...]:
    middle, least, most = row.rate
    return (
        f"{_TITLES[bus]}: {row.title}",
        str(row.publishers),
        "yes" if row.waits else "no",
        f"{middle:,.0f}",
        f"{least:,.0f}-{most:,.0f}",
        to_bare,
        f"{row.sender_us[0]:.1f}",
        f"{row.receiver_us[0]:.1f}",
        f"{row.lost:,} lost" if row.lost else "0",
        f"{row.late:,}" if not row.copies else f"{row.late:,}, {row.copies:,} twice",
    )


def _plots(bus: Kind, found: Mapping[str, Row]) -> list[Plot]:
    def plot(key: str, title: str, publishers: int) -> Plot:
        chosen = sorted([row for row in found.values() if row.publishers == publishers], key=lambda row: -row.rate[0])
        return Plot(
            key=f"throughput-{key}",
            kind="bars",
            title=title,
            x="events per second",
            y="",
            series={row.title: [(row.title, row.rate[0])] for row in chosen},
        )

    plots = [plot(bus, f"{_TITLES[bus]}, one publisher", 1)]
    if bus == "redis":
        plots.append(plot(f"{bus}-{PUBLISHERS}", f"{_TITLES[bus]}, {PUBLISHERS} publishers at once", PUBLISHERS))
    return plots
