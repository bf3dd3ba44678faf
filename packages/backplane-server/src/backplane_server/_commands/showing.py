"""How commands print answers of pods, and the pods that did not answer."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence

import typer
from backplane_core import Answers, MissingPod

__all__ = ["missing_as_json", "plural", "show_counts", "show_json", "show_missing", "show_table", "since"]


def show_json(value: object) -> None:
    """Print a value as one line of JSON."""
    typer.echo(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def missing_as_json(missing: Iterable[MissingPod]) -> list[dict[str, str]]:
    """Return the pods that have not answered, for `--json`."""
    return [{"pod": it.pod, "reason": it.reason} for it in missing]


def show_missing(missing: Iterable[MissingPod]) -> None:
    """Name the pods that have not answered on standard error, since standard output may be piped on."""
    for it in missing:
        typer.echo(f"warning: {it.pod} has not answered: {it.reason}", err=True)


def show_counts(answers: Answers[int], key: str, done: str, *, as_json: bool) -> None:
    """Print how many connections something was done to, and which pods have not answered.

    Args:
        answers: How many there were on each pod.
        key: What the total is called in JSON, such as `closed`.
        done: What was done, for people, such as `closed` or `delivered to`.
        as_json: Whether to print JSON.
    """
    by_pod = {pod: count for pod, count in answers.by_pod.items() if count}
    if as_json:
        missing = missing_as_json(answers.missing)
        show_json({key: answers.total, "by_pod": by_pod, "missing": missing, "complete": answers.complete})
    else:
        where = f" on {plural(len(by_pod), 'pod')}" if by_pod else ""
        typer.echo(f"{done} {plural(answers.total, 'connection')}{where}")
    show_missing(answers.missing)


def show_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        typer.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def since(moment: float) -> str:
    """Return a time as text: the local date and time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))


def plural(count: int, what: str) -> str:
    """Return a count with its noun."""
    return f"{count} {what}{'' if count == 1 else 's'}"
