"""From turns to a table: medians, spreads, and the ratios within one round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, Final

from attrs import frozen

from bench.contest import Result
from bench.contestants import Contestant

__all__ = ["Row", "as_json", "rows", "table"]

_HEADERS: Final = ("events/s", "min-max", "sender µs", "receiver µs", "x bare", "x ceiling", "lost")


@frozen(kw_only=True)
class Row:
    """What one contestant did over all rounds.

    Args:
        title: For people.
        rate: Events per second: median, least and most.
        sender_us: Processor time per event of the publishing process in microseconds, median.
        receiver_us: The same of the receiving one.
        to_bare: How many times the bare client's rate of the same round: median, least and most.
        to_ceiling: The same against the coalescing loop.
        lost: Events that did not arrive, over all rounds.
        odd: Events that arrived twice or out of order.
        events: Events per round.
    """

    title: str
    rate: tuple[float, float, float]
    sender_us: float
    receiver_us: float
    to_bare: tuple[float, float, float]
    to_ceiling: tuple[float, float, float]
    lost: int
    odd: int
    events: int


def rows(contestants: Mapping[str, Contestant], rounds: Sequence[Mapping[str, Result]]) -> dict[str, Row]:
    """Return one row per contestant. Ratios are taken round by round: a busy minute slows both sides of one."""
    keys = {contestant.part: key for key, contestant in contestants.items()}

    def row(key: str, contestant: Contestant) -> Row:
        results = [results[key] for results in rounds]

        def ratio(part: str) -> tuple[float, float, float]:
            return _spread([results[key].rate / results[keys[part]].rate for results in rounds])

        return Row(
            title=contestant.title,
            rate=_spread([result.rate for result in results]),
            sender_us=median([result.sender_us for result in results]),
            receiver_us=median([result.receiver_us for result in results]),
            to_bare=ratio("bare"),
            to_ceiling=ratio("ceiling"),
            lost=sum([result.lost for result in results]),
            odd=sum([result.odd for result in results]),
            events=results[0].events,
        )

    return {key: row(key, contestant) for key, contestant in contestants.items()}


def table(rows: Mapping[str, Row]) -> str:
    """Return the rows as text, columns aligned."""
    cells = [("", *_HEADERS), *[_cells(row) for row in rows.values()]]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]

    def line(row: Sequence[str]) -> str:
        first, *rest = (
            cell.ljust(width) if not i else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        return "  ".join([first, *rest]).rstrip()

    return "\n".join([line(cells[0]), "-" * (sum(widths) + 2 * len(_HEADERS)), *map(line, cells[1:])])


def as_json(row: Row) -> dict[str, Any]:
    """Return a row for a file."""
    return {
        "title": row.title,
        "events_per_round": row.events,
        "events_per_s": _named(row.rate),
        "sender_us": row.sender_us,
        "receiver_us": row.receiver_us,
        "to_bare": _named(row.to_bare),
        "to_ceiling": _named(row.to_ceiling),
        "lost": row.lost,
        "odd": row.odd,
    }


def _named(spread: tuple[float, float, float]) -> dict[str, float]:
    return dict(zip(("median", "min", "max"), spread, strict=True))


def _cells(row: Row) -> tuple[str, ...]:
    middle, least, most = row.rate
    wrong = [f"{row.lost:,} LOST" if row.lost else "0", f"{row.odd:,} ODD" if row.odd else ""]
    return (
        row.title,
        f"{middle:,.0f}",
        f"{least:,.0f}-{most:,.0f}",
        f"{row.sender_us:.1f}",
        f"{row.receiver_us:.1f}",
        _ratio(row.to_bare),
        _ratio(row.to_ceiling),
        " ".join(filter(None, wrong)),
    )


def _ratio(spread: tuple[float, float, float]) -> str:
    middle, least, most = (f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.2f}" for ratio in spread)  # noqa: PLR2004 -- three digits are all that a ratio is good for
    return middle if least == most else f"{middle} ({least}-{most})"


def _spread(values: Sequence[float]) -> tuple[float, float, float]:
    return median(values), min(values), max(values)
