"""README's table "How fast", made of the goals' figures, so that it says what the page says."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Final

from bench.findings import Goal
from bench.page.markdown import figure

__all__ = ["how_fast"]

_BEGIN: Final = "<!-- Written by bench/run.py from docs/benchmarks/figures.json. -->\n"
_END: Final = "<!-- End of what bench/run.py writes. -->\n"

# What stands in braces stands for the least and the most of some goals' figures; it is how these goals begin, with
# `*` for anything.
_ROWS: Final = (
    (
        "`await publish(Target.user(id), {…})` one after the other, Redis",
        "{Redis, one by one, *: the best other library} times the fastest other Python library",
        "{Redis, *event, sender} µs of processor time at the sender, {Redis, *event, receiver} µs at the receiver",
    ),
    (
        "the same, NATS, `interest`; `broadcast`",
        "{NATS, one by one, interest*: bare}; {NATS, one by one, broadcast*: bare} times bare nats-py",
        "{NATS, *event, sender} µs; {NATS, *event, receiver} µs",
    ),
    (
        "latency at 500 events a second, p50; p99",
        "{*, p50 against}; {*, p99 against} times the bare client's",
        "from the publish call to the socket",
    ),
    (
        "64 publishers at once, Redis",
        "{Redis, 64 publishers*: the best other library} times the fastest other library with 64 connections",
        "over one connection",
    ),
    (
        "one event to 50,000 sockets of a pod",
        "{one publish to 50,000 raw sinks, processor time per sink} µs per socket",
        "the event loop is blocked for {one publish to 50,000 * sinks*, the loop held for} ms at most",
    ),
    (
        "one event for one user of 32 pods, `interest`, in bursts",
        "costs {bursts: interest routing, processor time per event at 32} times as much as with one pod",
        "{bursts: 32 pods, python-socketio's} times less than with python-socketio",
    ),
    (
        "the same, where each event comes alone",
        "costs {steady: interest routing, processor time per event at 32} times as much as with one pod",
        "{steady: 32 pods, python-socketio's} times less than with python-socketio",
    ),
    (
        "100,000 targets resubscribed after a cut",
        "{Redis: 100,000 targets} s on Redis, {NATS: 100,000 targets} s on NATS",
        "the event loop is blocked for {*: longest stall of the loop} ms at most",
    ),
    (
        "an idle connection with three targets",
        "{idle connection by attach()} KiB by `attach`, {idle connection by connection()} KiB by `connection()`",
        "and {one subscription} KiB per channel with `interest`",
    ),
)


def how_fast(readme: str, goals: Sequence[Goal]) -> str:
    """Return README with the table of these goals; rows without figures are left out."""
    head, begin, rest = readme.partition(_BEGIN)
    _, end, tail = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"README has no place for the table: {_BEGIN!r} and {_END!r} are missing")
    rows = [[_filled(cell, goals) for cell in row] for row in _ROWS]
    lines = [f"| {' | '.join(map(str, row))} |\n" for row in rows if None not in row]
    return f"{head}{begin}\n| what | figure | remark |\n|---|---|---|\n{''.join(lines)}\n{end}{tail}"


def _filled(cell: str, goals: Sequence[Goal]) -> str | None:
    """Return a cell with figures in place of braces; None where one is missing."""
    for place in re.findall(r"\{(.*?)\}", cell.replace("{…}", "")):
        found = [goal.found for goal in goals if fnmatchcase(goal.what, f"{place}*")]
        if not found:
            return None
        least, most = figure(min(found)), figure(max(found))
        cell = cell.replace(f"{{{place}}}", least if least == most else f"{least} to {most}")
    return cell
