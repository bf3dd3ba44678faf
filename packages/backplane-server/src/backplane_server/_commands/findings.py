"""What `backplane doctor` found, and how it is shown: `Finding`, `show_findings`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

import typer
from attrs import frozen

__all__ = ["Finding", "Level", "show_findings"]

Level: TypeAlias = Literal["ok", "advice", "problem"]
"""`problem`: something does not work. `advice`: it works, but a promise is weaker than it could be."""

COLOURS: Final[dict[str, str]] = {"ok": "green", "advice": "yellow", "problem": "red"}


@frozen(kw_only=True)
class Finding:
    """One result of the examination.

    Args:
        level: How bad it is.
        step: What was looked at.
        text: What was found and what to do about it, without secrets.
    """

    level: Level
    step: str
    text: str


def show_findings(findings: Sequence[Finding]) -> None:
    """Print each finding on a line, and a summary; in colours on a terminal."""
    in_colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    for finding in findings:
        level = f"{finding.level:8}"
        shown = typer.style(level, fg=COLOURS[finding.level]) if in_colours else level
        typer.echo(f"{shown}{finding.step:12}{finding.text}")
    problems, advice = (sum(it.level == level for it in findings) for level in ("problem", "advice"))
    if problems:
        typer.echo(f"{problems} to fix" + (f", {advice} to consider" if advice else ""))
    else:
        typer.echo(f"everything works; {advice} to consider" if advice else "everything works")
