"""From turns to figures: medians, spreads, and ratios within one round; and a table as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, Final, TypeAlias

from attrs import asdict, frozen

from bench.contest import Result
from bench.contestants import Contestant, Part

__all__ = ["Rounds", "Row", "as_json", "best", "ratio", "rows", "spread", "table"]

Spread: TypeAlias = tuple[float, float, float]
"""Median, least and most."""
Rounds: TypeAlias = Sequence[Mapping[str, Result]]
"""Each round's results by contestant."""

_NAMES: Final = ("median", "min", "max")


@frozen(kw_only=True)
class Row:
    """What one contestant did over all rounds.

    Args:
        title: For people.
        part: As the contestant's.
        publishers: Likewise.
        waits: Likewise.
        events: Per round.
        rate: Events per second.
        sender_us: Processor time per event of the publishing process in microseconds.
        receiver_us: The same of the receiving one.
        lost: Events that did not arrive, over all rounds.
        late: Events that arrived after one that was published later.
        copies: Events that arrived again.
    """

    title: str
    part: Part
    publishers: int
    waits: bool
    events: int
    rate: Spread
    sender_us: Spread
    receiver_us: Spread
    lost: int
    late: int
    copies: int


def rows(contestants: Mapping[str, Contestant], rounds: Rounds) -> dict[str, Row]:
    """Return one row per contestant."""

    def row(key: str, contestant: Contestant) -> Row:
        results = [results[key] for results in rounds]
        return Row(
            title=contestant.title,
            part=contestant.part,
            publishers=contestant.publishers,
            waits=contestant.waits,
            events=results[0].events,
            rate=spread([result.rate for result in results]),
            sender_us=spread([result.sender_us for result in results]),
            receiver_us=spread([result.receiver_us for result in results]),
            lost=sum([result.lost for result in results]),
            late=sum([result.late for result in results]),
            copies=sum([result.copies for result in results]),
        )

    return {key: row(key, contestant) for key, contestant in contestants.items()}


def ratio(rounds: Rounds, key: str, to: str) -> Spread:
    """Return how many times as fast as another; taken round by round: a busy minute slows both sides of one."""
    return spread([results[key].rate / results[to].rate for results in rounds])


def best(rows: Mapping[str, Row], part: Part, publishers: int) -> str | None:
    """Return the fastest of these by its median; None where there is none."""
    keys = [key for key, row in rows.items() if row.part == part and row.publishers == publishers]
    return max(keys, key=lambda key: rows[key].rate[0], default=None)


def spread(values: Sequence[float]) -> Spread:
    """Return median, least and most."""
    return median(values), min(values), max(values)


def as_json(row: Row) -> dict[str, Any]:
    """Return a row for a file."""
    spreads = {"rate": row.rate, "sender_us": row.sender_us, "receiver_us": row.receiver_us}
    return {**asdict(row), **{name: dict(zip(_NAMES, value, strict=True)) for name, value in spreads.items()}}


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return it as text: the first column to the left, figures to the right."""
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]

    def line(row: Sequence[str]) -> str:
        first, *rest = (
            cell.rjust(width) if number else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        return "  ".join([first, *rest]).rstrip()

    return "\n".join([line(columns), "-" * (sum(widths) + 2 * (len(widths) - 1)), *map(line, rows)])
