"""What commands print: answers of pods, and which of them did not answer."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence

import typer
from backplane_core import MissingPod

__all__ = ["missing_as_json", "plural", "show_json", "show_missing", "show_table", "since"]


def show_json(value: object) -> None:
    """Print a value as one line of JSON."""
    typer.echo(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def missing_as_json(missing: Iterable[MissingPod]) -> list[dict[str, str]]:
    """Return the pods that have not answered, for `--json`."""
    return [{"pod": it.pod, "reason": it.reason} for it in missing]


def show_missing(missing: Iterable[MissingPod]) -> None:
    """Name the pods that have not answered, on the error stream: what is printed otherwise may be piped on."""
    for it in missing:
        typer.echo(f"warning: {it.pod} has not answered: {it.reason}", err=True)


def show_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        typer.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def since(moment: float) -> str:
    """Return a moment for people: the local time, with the date."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))


def plural(count: int, what: str) -> str:
    """Return a count with its noun."""
    return f"{count} {what}{'' if count == 1 else 's'}"
